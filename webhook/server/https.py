"""The server: several listeners in one event loop, and an end that loses no call. Imports uvicorn.

uvicorn has one listener, and ends at once on SIGTERM. Both are mended by overriding what it calls
internally (startup, on_tick, handle_exit and capture_signals): its version is pinned, and
tests/test_serving.py tries each.

The life of a server. It listens when its sources have begun to read, and is ready once they know
(webhook.server.health). SIGTERM makes it not ready; for `shutdown_delay` it goes on serving, for
Service and API server take a while to notice, and closes each connection with the answer on it;
then it finishes what runs, its sources log out, and it exits with 0. Ctrl-C skips the delay, and a
second
signal of any kind cuts what still runs.
"""

import asyncio
import contextlib
import ctypes
import logging
import signal
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from types import FrameType
from typing import Any, NamedTuple

import uvicorn

from webhook.server.answers import Prompt
from webhook.server.bodies import LARGEST, App, Bodies
from webhook.server.buffered import Buffered
from webhook.server.connection import KEEP_ALIVE, Connection
from webhook.server.state import State

HANDSHAKE_SECONDS = 5.0
GOODBYE_SECONDS = 2.0
"""For a client to agree to the end of its TLS connection."""
_FINISH_SECONDS = 15
_BACKLOG = 2048
_CUT = "the handler is closed"  # uvloop's handles/handle.pyx, _ensure_alive
_UNREAD = 2**17  # bytes that the system keeps of each connection: by itself it takes megabytes

_M_MMAP_THRESHOLD = -3  # of malloc.h

_log = logging.getLogger("webhook")


class _Listener(NamedTuple):
    config: uvicorn.Config
    context: ssl.SSLContext | None
    socket: socket.socket
    prompt: Prompt | None = None


class HttpsServer(uvicorn.Server):
    """Serves `app` with `ssl` as its live context, and runs `beside` in the same loop. What comes
    whole is answered by `prompt`, where it has an answer for it.

    The common name of a client's certificate, if it showed one, is in scope["state"]["client"].
    """

    server_state: State

    def __init__(
        self,
        app: App,
        context: ssl.SSLContext,
        *,
        prompt: Prompt | None = None,
        beside: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
        shutdown_delay: float = 0.0,
    ) -> None:
        self._bodies = Bodies()
        super().__init__(_config(self._bodies.limited(app), KEEP_ALIVE))
        self._prompt = prompt
        self.ssl = context
        """New connections get what is loaded into it."""
        self._listeners: list[_Listener] = []
        self.server_state = State(prompt.crowded) if prompt else State()
        self._beside = beside
        self._delay = shutdown_delay
        self._ends_at: float | None = None

    @property
    def draining(self) -> bool:
        """Whether a signal has asked for the end."""
        return self.server_state.draining

    def open(
        self,
        app: App,
        listener: socket.socket,
        context: ssl.SSLContext | None = None,
        *,
        largest: int = LARGEST,
        keep_alive: int = KEEP_ALIVE,
    ) -> None:
        """One more listener: all share the room for bodies and connections, and end together.

        Without `context` it speaks plain HTTP. `largest`: bytes of a body. `keep_alive`: seconds
        that a connection may be idle.
        """
        config = _config(self._bodies.limited(app, largest), keep_alive)
        self._listeners.append(_Listener(config, context, listener))

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        _give_large_blocks_back()
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(unless_cut)
        tasks = [asyncio.create_task(run()) for run in self._beside]
        try:
            await super().serve(sockets)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        first = [_Listener(self.config, self.ssl, one, self._prompt) for one in sockets or ()]
        self.servers = [await self._listen(one) for one in (*first, *self._listeners)]
        self.started = True

    async def _listen(self, one: _Listener) -> asyncio.Server:
        if not one.config.loaded:
            one.config.load()
        one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _UNREAD)
        secured = one.context is not None
        return await self._loop.create_server(
            lambda: Buffered(Connection(one.config, self.server_state, {}, prompt=one.prompt)),
            sock=one.socket,
            ssl=one.context,
            backlog=_BACKLOG,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if secured else None,
            ssl_shutdown_timeout=GOODBYE_SECONDS if secured else None,
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


def unless_cut(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tell of what went wrong in the loop, as it would itself; but of a client that has cut its
    connection without a traceback: uvloop may read it once more, and wants to say goodbye."""
    error = context.get("exception")
    if isinstance(error, RuntimeError) and str(error).endswith(_CUT):
        _log.info("a client has cut its connection")
        return
    loop.default_exception_handler(context)


def _give_large_blocks_back() -> None:
    """To the system, as soon as they are free. glibc learns from each that is freed to keep larger
    ones for itself, until what 100 large bodies took once is kept for good."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**17)  # its own default, which stays now


def _config(app: App, keep_alive: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=Connection,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=_FINISH_SECONDS,
    )
