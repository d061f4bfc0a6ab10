"""The ASGI app: admission on a bare path, with size cap and deadline; health by FastAPI."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from functools import lru_cache
from typing import Any, Literal, get_args

import msgspec
from fastapi import FastAPI, Response

from webhook.engine.decide import Sources, decide, repair
from webhook.errors import ReviewMalformed
from webhook.inventory.cluster import Announcer
from webhook.logs import told
from webhook.metrics import Metrics
from webhook.model.forklift import Migration
from webhook.model.keys import quoted
from webhook.model.review import (
    JUDGED,
    MIGRATION,
    Admitted,
    Denied,
    Doubt,
    Review,
    Skip,
    Undecided,
    Verdict,
    parse,
    render,
    render_malformed,
)
from webhook.rules import RULES

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Door = Literal["validate", "mutate"]

# The API server takes 3 MiB from its clients; a review carries the object twice, and some wrapping.
BODY_LIMIT = 7 * 2**20

# The API server says how long it waits; an answer must be on its way a little before.
_TIMEOUT = re.compile(rb"(?:^|&)timeout=(\d{1,4})s(?:&|$)")
_DEFAULT_TIMEOUT = 10.0
_READY_WITHIN = 60.0  # seconds
_MARGIN = 0.5

_JSON = (b"content-type", b"application/json")
_log = logging.getLogger("webhook")


def app(
    current: Callable[[], Sources],
    metrics: Metrics,
    *,
    draining: Callable[[], bool] = lambda: False,
    certificate_good: Callable[[], bool] = lambda: True,
    clients: Collection[str] = (),
    announcer: Announcer | None = None,
) -> App:
    """The whole web application; `current` gives what a review is judged by at its time.

    `draining`: whether the server is about to end, and so not ready. `certificate_good`: whether
    the certificate being served has not expired. Where `clients` are given, a review must come with
    a certificate of one of these common names. `announcer` tells of refused Migrations.
    The two hot paths never reach FastAPI's routing.
    """
    doors: dict[str, Door] = {"/validate": "validate", "/mutate": "mutate"}
    metrics.expect((kind.kind for kind in JUDGED), get_args(Doubt), get_args(Skip))
    rest = _health(current(), draining, certificate_good)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        door = doors.get(scope["path"]) if scope["type"] == "http" else None
        if door is None:
            await rest(scope, receive, send)
            return
        try:
            proven = _proven(scope, clients)
            body = await _body(scope, receive)
        except _Refused as refusal:
            metrics.refused(refusal.code)
            await _answer(send, refusal.code, refusal.body, refusal.headers)
            return
        except _Disconnected:
            return
        started = time.perf_counter()
        try:
            review = parse(body, proven=proven)
        except ReviewMalformed as error:
            metrics.reviewed(door, "", "", "malformed", 0.0)
            _log.warning("malformed review at /%s: %s", door, quoted(error, 300))
            if error.uid is None:
                await _answer(send, 400, _Refused(400, "BadRequest", str(error)).body)
            else:
                await _answer(send, 200, render_malformed(error, allowed=door == "mutate"))
            return
        verdict = await _judge(door, review, _deadline(scope), current())
        answer = render(review, verdict)
        _tell(door, review, verdict, time.perf_counter() - started, metrics)
        if announcer is not None and isinstance(verdict, Denied) and review.kind == MIGRATION:
            _announce(review, verdict, announcer)
        await _answer(send, 200, answer)

    return serve


async def _judge(door: Door, review: Review, deadline: float, sources: Sources) -> Verdict:
    try:
        if door == "mutate":
            return await repair(review, sources, deadline)
        return await decide(review, sources, deadline)
    except Exception:  # noqa: BLE001  the one catch-all: a fault of ours is never the user's traceback
        _log.exception("uid=%s: the engine failed", quoted(review.uid))
        if door == "mutate":
            return Admitted()
        return Undecided("conversion-guard failed to judge this request: see its log", "fault")


def _tell(door: Door, review: Review, verdict: Verdict, seconds: float, metrics: Metrics) -> None:
    kind = review.kind.kind if review.kind in JUDGED else "other"
    result = verdict.audit.get("verdict") or type(verdict).__name__.lower()
    metrics.reviewed(door, kind, review.operation, result, seconds)
    _count(verdict, metrics)
    if not isinstance(verdict, Admitted):
        _log_refusal(review, verdict, seconds)


def _announce(review: Review, verdict: Denied, announcer: Announcer) -> None:
    """Tell of a refused Migration on its Plan, by its rules' ids: hints are for its author."""
    rules = {cause.rule for cause in verdict.causes}
    if review.object is None or review.dry_run or not rules <= _RULE_IDS:
        return
    plan = Migration.of(review.object).plan
    announcer.refused(plan.namespace, plan.name, tuple(sorted(rules)))


_RULE_IDS = frozenset(rule.id for rule in RULES)


def _count(verdict: Verdict, metrics: Metrics) -> None:
    """What is rarer than an admission without a word."""
    if isinstance(verdict, Admitted) and verdict.skipped is not None:
        metrics.skipped(verdict.skipped)
    if not isinstance(verdict, Denied) and verdict.doubt is not None:
        metrics.undecided(verdict.doubt)
    if not isinstance(verdict, Undecided):
        for cause in verdict.findings:
            if cause.rule:
                metrics.found(cause.rule, cause.action)


def _log_refusal(review: Review, verdict: Denied | Undecided, seconds: float) -> None:
    told(
        _log,
        type(verdict).__name__.lower(),
        uid=review.uid,
        kind=str(review.kind),
        object=f"{review.namespace}/{review.name}",
        user=review.user.username,
        rules=verdict.audit.get("rules", ""),
        ms=round(seconds * 1000, 1),
    )


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
    there = f"is of {quoted(name)}" if name else "is missing"
    message = f"the client certificate {there}: only the API server may send reviews here"
    raise _Refused(403, "Forbidden", message, (b"connection", b"close"))


async def _body(scope: Scope, receive: Receive) -> bytearray:
    """The request's body, read no further than the limit."""
    if scope["method"] != "POST":
        message = f"{quoted(scope['method'], 16)} is not allowed: POST an AdmissionReview"
        raise _Refused(405, "MethodNotAllowed", message, (b"allow", b"POST"))
    length = 0
    content_type = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value.partition(b";")[0].strip().lower()
        elif name == b"content-length" and value.isdigit():
            length = int(value)
        elif name == b"content-encoding" and value != b"identity":
            raise _Refused(415, "UnsupportedMediaType", "send the review without compression")
    if content_type != b"application/json":
        message = f"content-type is {quoted(content_type.decode('latin-1'))}: send application/json"
        raise _Refused(415, "UnsupportedMediaType", message)
    body = bytearray()
    while length <= BODY_LIMIT and len(body) <= BODY_LIMIT:
        message_in = await receive()
        if message_in["type"] == "http.disconnect":
            raise _Disconnected
        body += message_in["body"]
        if not message_in.get("more_body", False):
            if not body:
                raise _Refused(400, "BadRequest", "the body is empty: POST an AdmissionReview")
            return body
    # The rest stays unread, so the connection is of no further use.
    raise _Refused(
        413,
        "RequestEntityTooLarge",
        f"the body is larger than {BODY_LIMIT} bytes",
        (b"connection", b"close"),
    )


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


def _health(
    sources: Sources, draining: Callable[[], bool], certificate_good: Callable[[], bool]
) -> FastAPI:
    rest = FastAPI(title="Conversion Guard", openapi_url=None)
    started = sources.now()

    @rest.get("/livez")
    async def live() -> Response:
        return Response("ok\n", media_type="text/plain")

    @rest.get("/healthz")
    async def healthy() -> Response:
        """No probe of life: a restart makes no better certificate, and people must see it."""
        if not certificate_good():
            return Response("the serving certificate has expired\n", 503, media_type="text/plain")
        return Response("ok\n", media_type="text/plain")

    @rest.get("/readyz")
    async def ready() -> Response:
        """Ready once every vSphere provider has been read or is known to be unreachable, and the
        cluster's PVCs, storage classes and namespaces have been listed.

        Or after a while: what is still not known then makes verdicts undecided, one by one. Never
        again once the end has been asked for.
        """
        if draining():
            return Response("ending\n", 503, media_type="text/plain")
        waiting = _waiting(sources)
        if waiting and sources.now() - started < _READY_WITHIN:
            # Names of providers are inventory, which health must not tell: only how many.
            return Response(f"{waiting} first reads not finished\n", 503, media_type="text/plain")
        return Response("ok\n", media_type="text/plain")

    return rest


def _waiting(sources: Sources) -> int:
    """How much is still to be read for the first time."""
    inventory, followed = sources.inventory, sources.followed
    providers = sum(not source.settled for source in inventory.vsphere())
    return len(inventory.unlisted) + providers + (followed.unlisted if followed else 0)
