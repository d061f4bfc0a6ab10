"""One connection, with patience for its client, and how many there may be. Imports uvicorn.

uvicorn bounds neither headers nor bodies in time. It is mended by overriding HttpToolsProtocol's
callbacks: its version is pinned, and tests/test_serving.py tries each.
"""

import asyncio
import contextlib
import resource
from collections.abc import Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from webhook.server import bodies

KEEP_ALIVE = 120
"""Seconds. The API server keeps idle connections for 90: whoever closes earlier fails its calls.
So long may a new connection be silent, too: a client may open one more than it needs."""
HEADERS_SECONDS = 5.0
"""From a request's first byte to the end of its headers."""
HEADERS_BYTES = 32 * 2**10
BODY_SECONDS = bodies.SECONDS
"""From there to the end of its body."""
MOST_CONNECTIONS = 2000
"""Of all doors together, a few hundred kilobytes each at the worst. One more takes the place of the
one that has been waiting longest for its client."""
_FILES = 128  # of the process, beside its connections


class State(ServerState):
    """What the connections of all doors share."""

    connections: set[Any]

    def __init__(self) -> None:
        super().__init__()
        self.draining = False
        self.silent: dict[Connection, None] = {}
        """Those that have never sent a whole request, the oldest first."""
        self.idle: dict[Connection, None] = {}
        """Those that have, and wait for the next one."""
        self._most = min(MOST_CONNECTIONS, _open_files() - _FILES)

    def make_room(self, newcomer: "Connection") -> None:
        """Strangers go before those that are known, and these before one that is answered now."""
        if len(self.connections) > self._most:
            longest = next(iter(self.silent or self.idle), newcomer)
            longest.forget()
            longest.transport.abort()


class Connection(HttpToolsProtocol):
    """One timer, for headers and then for the body.

    A request that comes whole, as the API server's do, never starts it.
    """

    server_state: State

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: State,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._patience: asyncio.TimerHandle | None = None
        self._in_body = False
        self._whole = False
        """Whether the last bytes ended a request."""
        self._seen = 0
        """Bytes since the end of the last request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        if secured := transport.get_extra_info("ssl_object"):
            # What one read brings is buffered in any case; 256 KiB more would be the default.
            transport.set_read_buffer_limits(bodies.SMALL)  # type: ignore[attr-defined]
            if name := _client(transport.get_extra_info("peercert"), secured.session_reused):
                self.app_state = {"client": name}
        self.server_state.make_room(self)
        self.server_state.silent[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.forget()
        self._be_patient()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def forget(self) -> None:
        """It waits for its client no more: something runs for it, or it has ended."""
        self.server_state.silent.pop(self, None)
        self.server_state.idle.pop(self, None)

    def data_received(self, data: bytes) -> None:
        self._whole = False
        self._seen += len(data)
        super().data_received(data)
        if self._whole or self.transport.is_closing():
            return
        if not self._in_body and self._seen > HEADERS_BYTES:
            self.send_400_response(f"the headers are larger than {HEADERS_BYTES} bytes")
        elif self._patience is None:
            seconds = BODY_SECONDS if self._in_body else HEADERS_SECONDS
            self._patience = self.loop.call_later(seconds, self.transport.close)
            if self._in_body:
                self.flow.pause_reading()  # until the app asks for it: see webhook.server.bodies

    def on_headers_complete(self) -> None:
        if self._seen > HEADERS_BYTES and _size(self.url, self.headers) > HEADERS_BYTES:
            raise ValueError("the headers are too large")  # httptools' answer to it is 400
        self._be_patient()
        self._in_body = True
        super().on_headers_complete()
        if self.server_state.draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._be_patient()
        self._in_body, self._whole, self._seen = False, True, 0
        if not self.cycle.response_complete:
            self.forget()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline:
            self.server_state.idle[self] = None

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


def _size(url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) for name, value in headers)


def _client(certificate: dict[str, Any] | None, reused: bool | None) -> str:
    """The one common name of a certificate in Python's own form; empty where there isn't one.

    A session that is taken up again shows what was accepted then: its CA may have gone since.
    """
    subject = (certificate or {}).get("subject", ())
    names = [value for part in subject for key, value in part if key == "commonName"]
    return names[0] if len(names) == 1 and not reused else ""


def _open_files() -> int:
    """As many as the process may have, from now on: a soft limit of 1,024 is soon used up."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        soft = most
    return MOST_CONNECTIONS + _FILES if soft == resource.RLIM_INFINITY else soft
