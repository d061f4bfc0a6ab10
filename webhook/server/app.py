"""The ASGI app: admission on a bare path, with a deadline; every other path is health's."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import get_args

import msgspec

from webhook.engine.judge import decide
from webhook.engine.repair import repair
from webhook.engine.sources import Sources
from webhook.errors import BodyRefused, ReviewMalformed
from webhook.inventory.cluster import Announcer
from webhook.metrics import Metrics
from webhook.model.keys import echoed
from webhook.model.review import (
    JUDGED,
    Admitted,
    Doubt,
    Review,
    Skip,
    Undecided,
    Verdict,
    parse,
    render,
    render_malformed,
)
from webhook.rules import DEFAULTS
from webhook.server.bodies import App, Receive, Scope, Send
from webhook.server.health import health
from webhook.server.telling import Door, Telling

# The API server says how long it waits; an answer must be on its way a little before.
_TIMEOUT = re.compile(rb"(?:^|&)timeout=(\d{1,4})s(?:&|$)")
_DEFAULT_TIMEOUT = 10.0
_MARGIN = 0.5

_JSON = (b"content-type", b"application/json")
_CLOSE = (b"connection", b"close")
_log = logging.getLogger("webhook")


def app(
    current: Callable[[], Sources],
    metrics: Metrics,
    *,
    draining: Callable[[], bool] = lambda: False,
    certificate_good: Callable[[], bool] = lambda: True,
    failing: Callable[[], Collection[str]] = tuple,
    clients: Collection[str] = (),
    announcer: Announcer | None = None,
) -> App:
    """The whole web application; `current` gives what a review is judged by at its time.

    `draining`: whether the server is about to end, and so not ready. `certificate_good`: whether
    the certificate being served has not expired. `failing`: the parts of the guard that end again
    and again, by names that tell nothing of anybody's. Where `clients` are given, a review must
    come with a certificate of one of these common names. `announcer` tells of refused Migrations.
    The two hot paths never reach FastAPI's routing.
    """
    doors: dict[str, Door] = {"/validate": "validate", "/mutate": "mutate"}
    metrics.expect((kind.kind for kind in JUDGED), get_args(Doubt), get_args(Skip))
    metrics.expect_repairs(default.id for default in DEFAULTS)
    telling = Telling(metrics, announcer)
    rest = health(current(), draining, certificate_good, failing)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        door = doors.get(scope["path"]) if scope["type"] == "http" else None
        if door is None:
            await rest(scope, receive, send)
            return
        deadline = _deadline(scope)
        try:
            proven = _proven(scope, clients)
            body = await _body(scope, receive, deadline)
        except _Refused as refusal:
            metrics.refused(refusal.code)
            await _answer(send, refusal.code, refusal.body, refusal.headers)
            return
        except _Disconnected:
            return
        since = time.perf_counter()
        try:
            review = parse(body, proven=proven)
        except ReviewMalformed as error:
            metrics.reviewed(door, "", "", "malformed", 0.0)
            _log.warning("malformed review at /%s: %s", door, echoed(error, 300))
            if error.uid is None:
                await _answer(send, 400, _Refused(400, "BadRequest", str(error)).body)
            else:
                await _answer(send, 200, render_malformed(error, allowed=door == "mutate"))
            return
        del body  # what follows may take seconds
        verdict, answer = await _judge(door, review, deadline, current)
        await _answer(send, 200, answer)
        telling.tell(door, review, verdict, time.perf_counter() - since)

    return serve


async def _judge(
    door: Door, review: Review, deadline: float, current: Callable[[], Sources]
) -> tuple[Verdict, bytes]:
    """The verdict, and the answer that tells it."""
    verdict: Verdict
    try:
        if door == "mutate":
            verdict = await repair(review, current(), deadline)
        else:
            verdict = await decide(review, current(), deadline)
        return verdict, render(review, verdict)
    except (Exception, asyncio.CancelledError):  # noqa: BLE001  see below
        # The one catch-all: a fault of ours is never the user's traceback, and no HTTP error, which
        # would admit a Migration. Something inside that was cancelled is a fault, too; and where
        # this request itself is, at the end of the process, its answer is on its way at once.
        _log.exception("uid=%s: the engine failed", echoed(review.uid))
        why = f"conversion-guard failed to check this request: search its log for {review.uid}"
        verdict = Admitted() if door == "mutate" else Undecided(why, "fault")
        return verdict, render(review, verdict)


class _Disconnected(Exception):
    """The client went away before its body was whole."""


class _Refused(Exception):
    """A request that holds no review: an HTTP error, with a Status as Kubernetes writes them."""

    def __init__(self, code: int, reason: str, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.code = code
        self.headers = headers
        status = {
            "apiVersion": "v1",
            "kind": "Status",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": f"conversion-guard: {message}",
        }
        self.body = msgspec.json.encode(status)


def _proven(scope: Scope, clients: Collection[str]) -> bool:
    """Whether an accepted certificate says who sent it. Without `clients` nobody has to show one.

    Raises _Refused. The body stays unread, so the connection is of no further use.
    """
    if not clients:
        return False
    name = scope["state"].get("client")
    if name in clients:
        return True
    there = f"is of {echoed(name)}" if name else "is missing"
    message = f"the client certificate {there}: only the API server may send reviews here"
    raise _Refused(403, "Forbidden", message, _CLOSE)


async def _body(scope: Scope, receive: Receive, deadline: float) -> bytearray:
    """The request's body. Raises _Refused, or _Disconnected."""
    if scope["method"] != "POST":
        message = f"{echoed(scope['method'], 16)} is not allowed: POST an AdmissionReview"
        raise _Refused(405, "MethodNotAllowed", message, (b"allow", b"POST"))
    content_type = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value.partition(b";")[0].strip().lower()
        elif name == b"content-encoding" and value != b"identity":
            raise _Refused(415, "UnsupportedMediaType", "send the review without compression")
    if content_type != b"application/json":
        message = f"content-type is {echoed(content_type.decode('latin-1'))}: send application/json"
        raise _Refused(415, "UnsupportedMediaType", message)
    try:
        async with asyncio.timeout_at(deadline):
            body = await _whole(receive)
    except BodyRefused as error:
        # The rest stays unread, so the connection is of no further use.
        raise _Refused(error.code, _REASONS[error.code], str(error), _CLOSE) from None
    except TimeoutError:
        message = "the body was not there within this request's time: send it again"
        raise _Refused(503, _REASONS[503], message, _CLOSE) from None
    if not body:
        raise _Refused(400, "BadRequest", "the body is empty: POST an AdmissionReview")
    return body


_REASONS = {408: "Timeout", 413: "RequestEntityTooLarge", 503: "ServiceUnavailable"}


async def _whole(receive: Receive) -> bytearray:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        body += message["body"]
        if not message.get("more_body", False):
            return body


async def _answer(
    send: Send, code: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    length = (b"content-length", str(len(body)).encode("ascii"))
    start = {"type": "http.response.start", "status": code, "headers": [_JSON, length, *headers]}
    await send(start)
    await send({"type": "http.response.body", "body": body})


def _deadline(scope: Scope) -> float:
    """When the answer is due, by the loop's clock: what the API server waits, less a margin."""
    return asyncio.get_running_loop().time() + _budget(scope.get("query_string", b""))


@lru_cache(maxsize=64)  # the API server's query never changes
def _budget(query: bytes) -> float:
    match = _TIMEOUT.search(query)
    timeout = float(match[1]) if match else _DEFAULT_TIMEOUT
    return max(timeout - _MARGIN, timeout / 2)
