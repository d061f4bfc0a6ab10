"""The ASGI app of `/metrics`."""

import asyncio
from collections.abc import Callable

from webhook.server.bodies import App, Receive, Scope, Send

KEEP_ALIVE = 10
"""Seconds that a connection may be idle. A scraper comes every 15 or more, and opens another."""


def app(text: Callable[[str], tuple[bytes, str]]) -> App:
    """`text` gives the metrics and their media type for an Accept header.

    It takes milliseconds, so it runs in a thread, beside the reviews: once at a time, however many
    ask.
    """
    turns = asyncio.Lock()

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        code, media_type = 200, "text/plain; charset=utf-8"
        if scope["path"] != "/metrics":
            code, body = 404, b"here is only /metrics\n"
        elif scope["method"] not in ("GET", "HEAD"):
            code, body = 405, b"GET /metrics\n"
        else:
            accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
            async with turns:
                body, media_type = await asyncio.to_thread(text, accept.decode("latin-1"))
        headers = [
            (b"content-type", media_type.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return serve
