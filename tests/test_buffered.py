"""A connection that has ended leaves nothing for the garbage collector."""

import asyncio
import gc
import socket
import ssl
import weakref
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from webhook import tls
from webhook.server.bodies import Receive, Scope, Send
from webhook.server.https import HttpsServer


async def _empty(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_a_connection_that_has_ended_is_freed_at_once(tmp_path: Path) -> None:
    """With its TLS: thousands of probes a day, each by a connection of its own."""
    tls.write(tls.issue(["localhost"], datetime.now(UTC)), tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    client = ssl.create_default_context(cafile=tmp_path / "ca.crt")

    async def main() -> None:
        server = HttpsServer(_empty, context)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            serving = asyncio.create_task(server.serve([listener]))
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client, server_hostname="localhost"
            )
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 204")
            (connection,) = map(weakref.ref, server.server_state.connections)
            gc.disable()
            try:
                writer.close()
                async with asyncio.timeout(30):
                    while connection() is not None:  # noqa: ASYNC110  it is no event of ours
                        await asyncio.sleep(0.01)
            finally:
                gc.enable()
                server.should_exit = True
                await serving

    uvloop.run(main())
