"""What every request passes: its id, its caller, its share of the rate; and the one catch-all."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from webhook.api.board import PAGES
from webhook.api.callers import Callers
from webhook.api.problems import MEDIA_TYPE, Problem
from webhook.api.routes import REST
from webhook.api.service import Service
from webhook.engine.sources import Sources
from webhook.inventory.cluster import TokenReader
from webhook.logs import log_line
from webhook.metrics import Metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}", re.ASCII)
_log = logging.getLogger("webhook.api")


def app(
    current: Callable[[], Sources],
    reader: TokenReader,
    metrics: Metrics,
    *,
    audience: str,
    rate_per_user: float,
    ending: Callable[[], bool] = lambda: False,
) -> App:
    """The whole API; `current` gives what a request is answered from, with a cluster in it.

    A caller is who `reader` says that the token is of, for `audience`; `rate_per_user` is requests
    a second. Answers that last end once the server is `ending`. Nobody else gets any answer but
    401, and the board's files, which hold nothing.
    """
    callers = Callers(reader, audience, rate_per_user)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _ID.fullmatch(given) else secrets.token_hex(8)
        code = 0

        async def known() -> Service:
            address = (scope.get("client") or ("",))[0]
            caller = await callers.of(headers.get(b"authorization", b""), address)
            return Service(current(), caller, callers, request_id, known, ending)

        async def sending(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                extra = [
                    (b"x-request-id", request_id.encode()),
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        user = ""
        try:
            page = PAGES.get(scope["path"])
            if page is not None and scope["method"] in ("GET", "HEAD"):
                await _send(sending, 200, page.headers, page.body)
                return
            service = await known()
            user = service.user.username
            callers.admit(service.user)
            scope["service"] = service
            await REST(scope, receive, sending)
        except Problem as problem:
            await _refuse(sending, problem, request_id)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001  the one catch-all
            # A fault of ours is never a traceback, nor what something inside has cancelled.
            _log.exception("request %s failed", request_id)
            if not code:
                fault = Problem(500, "conversion-guard failed: search its log for the request id")
                await _refuse(sending, fault, request_id)
        route = getattr(scope.get("route"), "path", "")
        metrics.called(route, code)
        log_line(
            _log,
            "api",
            id=request_id,
            user=user,
            call=f"{scope['method'][:16]} {scope['path']}",
            code=code,
            ms=round((time.perf_counter() - started) * 1000, 1),
        )

    return serve


async def _refuse(send: Send, problem: Problem, request_id: str) -> None:
    body = problem.body(request_id)
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    await _send(send, problem.status, headers, body)


async def _send(
    send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
