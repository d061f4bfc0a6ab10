"""The web application: admission on a bare path, with a deadline; every other path is health's."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, NamedTuple, get_args

from webhook.engine import judge, repair
from webhook.engine.sources import Sources
from webhook.errors import BodyRefused, ReviewMalformed
from webhook.inventory.cluster import Announcer
from webhook.metrics import Metrics
from webhook.model import calls
from webhook.model.calls import Webhook
from webhook.model.keys import echoed
from webhook.model.review import JUDGED, VERDICTS, Admitted, Doubt, Review, Skip, Undecided, Verdict
from webhook.rules import DEFAULTS
from webhook.server.answers import CLOSE, Answer, Headers, Refused
from webhook.server.bodies import Receive, Scope, Send
from webhook.server.codec import read_review, render, render_malformed
from webhook.server.health import health
from webhook.server.telling import Telling

# The API server says how long it waits; an answer must be on its way a little before.
_TIMEOUT = re.compile(rb"(?:^|&)timeout=(\d{1,4})s(?:&|$)")
_DEFAULT_TIMEOUT = 10.0
_MARGIN = 0.5

_JSON = (b"content-type", b"application/json")
_log = logging.getLogger("webhook")


class Call(NamedTuple):
    """What a head says, whenever it comes."""

    webhook: Webhook
    end: bytes
    """Of its path: it may be one that only the API server knows."""
    patience: float
    """Seconds in which the answer is due: what the API server waits, less a margin."""
    refusal: "Refused | None"
    """Why its body can hold no review."""


class Admission:
    """The whole web application, as ASGI; and the two hot paths without it (`prompt`).

    `current` gives what a review is judged by at its time. `draining`: whether the server is about
    to end, and so not ready. `certificate_good`: whether the certificate being served has not
    expired. `failing`: the parts of the guard that end again and again, by names that tell nothing
    of anybody's. Where `clients` are given, a review must come with a certificate of one of these
    common names. `announcer` tells of refused Migrations. The two hot paths never reach FastAPI's
    routing. `proves` tells whether a path with this end is one that only the API server knows, and
    `failed` hears of the ends of calls whose answers may not have come; None: of any.
    """

    def __init__(
        self,
        current: Callable[[], Sources],
        metrics: Metrics,
        *,
        draining: Callable[[], bool] = lambda: False,
        certificate_good: Callable[[], bool] = lambda: True,
        failing: Callable[[], Collection[str]] = tuple,
        clients: Collection[str] = (),
        announcer: Announcer | None = None,
        proves: Callable[[bytes], bool] = lambda end: False,
        failed: Callable[[bytes | None], None] = lambda end: None,
    ) -> None:
        self._current, self._metrics = current, metrics
        self._proves, self._failed = proves, failed
        self._clients, self._telling = clients, Telling(metrics, announcer)
        metrics.expect((kind.kind for kind in JUDGED), get_args(Doubt), get_args(Skip))
        metrics.expect_repairs(default.id for default in DEFAULTS)
        self._rest = health(current(), draining, certificate_good, failing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = None
        if scope["type"] == "http":
            query = scope.get("query_string", b"")
            call = self.call(scope["path"].encode(), query, scope["headers"])
        if call is None:
            await self._rest(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + call.patience
        try:
            proven = self._proven(call, scope.get("state", {}))
            if scope["method"] != "POST":
                message = f"{echoed(scope['method'], 16)} is not allowed: POST an AdmissionReview"
                raise Refused(405, "MethodNotAllowed", message, (b"allow", b"POST"))
            if call.refusal is not None:
                raise call.refusal
            body = await _body(receive, deadline)
        except Refused as refusal:
            answered = self._refused(call, refusal)
        except _Disconnected:
            return
        else:
            answer = self._answer(call.webhook, body, deadline, proven=proven)
            del body  # what follows may take seconds
            answered = answer if isinstance(answer, Answer) else await answer
        headers = [_JSON, (b"content-length", b"%d" % len(answered.body)), *answered.headers]
        start = {"type": "http.response.start", "status": answered.code, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": answered.body})

    def call(self, path: bytes, query: bytes, headers: Headers) -> Call | None:
        """What a head says; None where its path leads elsewhere."""
        found = calls.split(path.decode("latin-1"))
        if found is None:
            return None
        webhook, end = found
        return Call(webhook, end.encode("latin-1"), _patience(query), _unreadable(headers))

    def lost(self, call: Call) -> None:
        """An error of the API server's may show the path that this request came by."""
        if call.end:
            self._failed(call.end)

    def crowded(self) -> None:
        """Likewise, of whichever request."""
        self._failed(None)

    def prompt(
        self, call: Call, state: Mapping[str, Any], body: bytes
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """The answer to a whole POST, at once where nothing has to be waited for."""
        try:
            proven = self._proven(call, state)
        except Refused as refusal:
            return self._refused(call, refusal)
        if call.refusal is not None or not body:
            return self._refused(call, call.refusal or Refused(400, "BadRequest", _EMPTY))
        deadline = asyncio.get_running_loop().time() + call.patience
        return self._answer(call.webhook, body, deadline, proven=proven)

    def _by_path(self, call: Call) -> bool:
        """Whether it came by a path that only the API server knows. One whose end is unknown, or
        known no more, proves nothing."""
        return bool(call.end) and self._proves(call.end)

    def _proven(self, call: Call, state: Mapping[str, Any]) -> bool:
        """Whether the path or an accepted certificate says who sent it. Without `clients` nobody
        has to show one.

        Raises Refused. The body stays unread, so the connection is of no further use.
        """
        if not self._clients:
            return self._by_path(call)
        name = state.get("client")
        if name in self._clients:
            return True
        there = f"is of {echoed(name)}" if name else "is missing"
        message = f"the client certificate {there}: only the API server may send reviews here"
        raise Refused(403, "Forbidden", message, CLOSE)

    def _refused(self, call: Call, refusal: "Refused") -> Answer:
        self._metrics.refused(refusal.code)
        self.lost(call)  # who is still sending may never read it
        return Answer(refusal.code, refusal.body, refusal.headers)

    def _answer(
        self, webhook: Webhook, body: bytes | bytearray, deadline: float, *, proven: bool
    ) -> Answer | Coroutine[Any, Any, Answer]:
        since = time.perf_counter()
        try:
            review = read_review(body, proven=proven)
        except ReviewMalformed as error:
            self._metrics.reviewed(webhook, "", "", "malformed", 0.0)
            _log.warning("malformed review at /%s: %s", webhook, echoed(error, 300))
            if error.uid is None:
                return Answer(400, Refused(400, "BadRequest", str(error)).body)
            return Answer(200, render_malformed(error, allowed=webhook == "mutate"))
        try:
            begin = repair.begin if webhook == "mutate" else judge.begin
            begun = begin(review, self._current(), deadline)
            if isinstance(begun, VERDICTS):
                return self._told(webhook, review, begun, since)
        except Exception:  # noqa: BLE001  see _fault
            return self._fault(webhook, review, since)
        return self._later(webhook, review, begun, since)

    async def _later(
        self, webhook: Webhook, review: Review, begun: Coroutine[Any, Any, Verdict], since: float
    ) -> Answer:
        try:
            return self._told(webhook, review, await begun, since)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001  see _fault
            return self._fault(webhook, review, since)

    def _fault(self, webhook: Webhook, review: Review, since: float) -> Answer:
        """The one catch-all: a fault of ours is never the user's traceback, and no HTTP error,
        which would admit a Migration. Something inside that was cancelled is a fault, too; and
        where this request itself is, at the end of the process, its answer is on its way at once.
        """
        _log.exception("uid=%s: the engine failed", echoed(review.uid))
        why = f"conversion-guard failed to check this request: search its log for {review.uid}"
        verdict = Admitted() if webhook == "mutate" else Undecided(why, "fault")
        return self._told(webhook, review, verdict, since)

    def _told(self, webhook: Webhook, review: Review, verdict: Verdict, since: float) -> Answer:
        """The answer; and the verdict to all others who want to know of it."""
        answer = Answer(200, render(review, verdict))
        self._telling.tell(webhook, review, verdict, time.perf_counter() - since)
        return answer


class _Disconnected(Exception):
    """The client went away before its body was whole."""


def _unreadable(headers: Headers) -> Refused | None:
    """Why the body is anything but plain JSON."""
    content_type = b""
    for name, value in headers:
        if name == b"content-type":
            content_type = value.partition(b";")[0].strip().lower()
        elif name == b"content-encoding" and value != b"identity":
            return Refused(415, "UnsupportedMediaType", "send the review without compression")
    if content_type != b"application/json":
        message = f"content-type is {echoed(content_type.decode('latin-1'))}: send application/json"
        return Refused(415, "UnsupportedMediaType", message)
    return None


async def _body(receive: Receive, deadline: float) -> bytearray:
    """The request's body. Raises Refused, or _Disconnected."""
    try:
        async with asyncio.timeout_at(deadline):
            body = await _whole(receive)
    except BodyRefused as error:
        # The rest stays unread, so the connection is of no further use.
        raise Refused(error.code, _REASONS[error.code], str(error), CLOSE) from None
    except TimeoutError:
        message = "the body was not there within this request's time: send it again"
        raise Refused(503, _REASONS[503], message, CLOSE) from None
    if not body:
        raise Refused(400, "BadRequest", _EMPTY)
    return body


_EMPTY = "the body is empty: POST an AdmissionReview"
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


def _patience(query: bytes) -> float:
    match = _TIMEOUT.search(query)
    timeout = float(match[1]) if match else _DEFAULT_TIMEOUT
    return max(timeout - _MARGIN, timeout / 2)
