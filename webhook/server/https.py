"""Serving over TLS: limits against slow clients, and an end that loses no call. Imports uvicorn.

uvicorn bounds neither headers nor bodies in time, and ends at once on SIGTERM. Both are mended by
overriding what it calls internally (HttpToolsProtocol's callbacks; Server's startup, on_tick,
handle_exit and capture_signals): its version is pinned, and tests/test_serving.py tries each.

The life of a server. It listens when its sources have begun to read, and is ready once they know
(webhook.server). SIGTERM makes it not ready; for `shutdown_delay` it goes on serving, for Service
and API server take a while to notice, and closes each connection with the answer on it; then it
finishes what runs, its sources log out, and it exits with 0. Ctrl-C skips the delay, and a second
signal of any kind cuts what still runs.
"""

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from webhook.errors import CertificateInvalid

KEEP_ALIVE = 120
"""Seconds. The API server keeps idle connections for 90: whoever closes earlier fails its calls.
So long may a new connection be silent, too: a client may open one more than it needs."""
HEADERS_SECONDS = 5.0
"""From a request's first byte to the end of its headers."""
HEADERS_BYTES = 32 * 2**10
BODY_SECONDS = 10.0
"""From there to the end of its body."""
HANDSHAKE_SECONDS = 5.0
GOODBYE_SECONDS = 2.0
"""For a client to agree to the end of its TLS connection."""
_FINISH_SECONDS = 15
_BACKLOG = 2048

_log = logging.getLogger("webhook")


def ask_for_certificates(context: ssl.SSLContext, ca: Path) -> None:
    """Let clients of `context` show a certificate, which must then be of `ca`.

    None is demanded, for kubelet's probes have none. Raises CertificateInvalid.
    """
    context.verify_mode = ssl.CERT_OPTIONAL
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise CertificateInvalid(f"clientCAFile: {ca} holds no PEM certificate") from None
    except OSError as error:
        raise CertificateInvalid(f"clientCAFile: {ca}: {error.strerror}") from None


class Server(uvicorn.Server):
    """Serves `app` with `ssl` as its live context, and runs `beside` in the same loop.

    The common name of a client's certificate, if it showed one, is in scope["state"]["client"].
    """

    server_state: "_State"

    def __init__(
        self,
        app: Callable[..., Any],
        context: ssl.SSLContext,
        *,
        beside: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
        shutdown_delay: float = 0.0,
    ) -> None:
        super().__init__(_config(app))
        self.ssl = context
        """New connections get what is loaded into it."""
        self._doors: list[tuple[uvicorn.Config, ssl.SSLContext, socket.socket]] = []
        self.server_state = _State()
        self._beside = beside
        self._delay = shutdown_delay
        self._ends_at: float | None = None

    @property
    def draining(self) -> bool:
        """Whether a signal has asked for the end."""
        return self.server_state.draining

    def open(
        self, app: Callable[..., Any], context: ssl.SSLContext, listener: socket.socket
    ) -> None:
        """One more door, with an app and a context of its own; it ends as the first one does."""
        self._doors.append((_config(app), context, listener))

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        _allow_many_connections()
        self._loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(run()) for run in self._beside]
        try:
            await super().serve(sockets)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        first = [(self.config, self.ssl, listener) for listener in sockets or ()]
        self.servers = [await self._listen(*door) for door in (*first, *self._doors)]
        self.started = True

    async def _listen(
        self, config: uvicorn.Config, context: ssl.SSLContext, listener: socket.socket
    ) -> asyncio.Server:
        if not config.loaded:
            config.load()
        return await self._loop.create_server(
            lambda: _Protocol(config, self.server_state, {}),
            sock=listener,
            ssl=context,
            backlog=_BACKLOG,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=GOODBYE_SECONDS,
        )

    async def on_tick(self, counter: int) -> bool:
        if self.draining:
            now = time.monotonic()
            if self._ends_at is None:
                self._ends_at = now + self._delay
                _log.info("asked to end: not ready, and serving for %g s more", self._delay)
            self.should_exit = self.should_exit or now >= self._ends_at
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Between two steps of whatever runs: flags only, and nothing that takes a lock.
        if self.draining:
            self.should_exit = self.force_exit = True
            self._loop.call_soon_threadsafe(self._cut)
        self.server_state.draining = True
        if sig == signal.SIGINT:
            self._delay = 0.0

    def _cut(self) -> None:
        for connection in self.server_state.connections:
            connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal again at the end, which would end the process before the sources
        # have logged out of vSphere, and with 143 where Kubernetes expects 0.
        before = {
            signum: signal.signal(signum, self.handle_exit)
            for signum in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)


def _config(app: Callable[..., Any]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=_Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=_FINISH_SECONDS,
    )


class _State(ServerState):
    """What a server's connections share."""

    connections: set[Any]
    draining = False


class _Protocol(HttpToolsProtocol):
    """One connection, with patience for its client: one timer, for headers and then for the body.

    A request that comes whole, as the API server's do, never starts it.
    """

    server_state: _State

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: _State,
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
        if name := _common_name(transport.get_extra_info("peercert")):
            self.app_state = {"client": name}

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_patient()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

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
        super().on_message_complete()

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


def _size(url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) for name, value in headers)


def _common_name(certificate: dict[str, Any] | None) -> str:
    """The one common name of a certificate in Python's own form; empty where there isn't one."""
    subject = (certificate or {}).get("subject", ())
    names = [value for part in subject for key, value in part if key == "commonName"]
    return names[0] if len(names) == 1 else ""


def _allow_many_connections() -> None:
    """As many open files as the process may have: a soft limit of 1,024 is soon used up."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
