"""One connection, with patience for its client, and how many there may be. Imports uvicorn.

uvicorn bounds neither headers nor bodies in time. It is mended by overriding HttpToolsProtocol's
callbacks: its version is pinned, and tests/test_serving.py tries each.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from webhook.server import bodies
from webhook.server.answers import CLOSE, Answer, Prompt
from webhook.server.state import State

KEEP_ALIVE = 120
"""Seconds. The API server keeps idle connections for 90: whoever closes earlier fails its calls.
So long may a new connection be silent, too: a client may open one more than it needs."""
HEADERS_SECONDS = 5.0
"""From a request's first byte to the end of its headers."""
HEADERS_BYTES = 32 * 2**10
BODY_SECONDS = bodies.SECONDS
"""From there to the end of its body."""
_HEAD = b"%bcontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n"


class _Exchange:
    """A whole request and its answer: as much of uvicorn's RequestResponseCycle as a protocol looks
    at."""

    disconnected = response_complete = False
    message_event = asyncio.Event()  # nobody waits for it

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive


class Connection(HttpToolsProtocol):
    """One timer, for headers and then for the body; and another, for silence.

    A request that comes whole, as the API server's do, starts neither; `prompt` answers it.
    """

    server_state: State

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: State,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        prompt: Prompt | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._patience: asyncio.TimerHandle | None = None
        self._in_body = False
        self._whole = False
        """Whether the last bytes ended a request, and began no other."""
        self._between = True
        """Whether no request has begun that isn't whole yet."""
        self._seen = 0
        """Bytes since the end of the last request."""
        self._prompt = prompt
        self._call: Any = None
        """Of what is coming, where it may be answered promptly; its body so far is held back."""
        self._body = b""
        self._data = b""
        """What is being parsed, where it began a request."""
        self._last: Any = None
        """The last call."""
        self._owed = False
        """Whether it has no answer yet."""
        self._silent_since: float | None = None
        """By the loop's clock; None while something runs for it, or comes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._silent_since = self.loop.time()
        self.timeout_keep_alive_handler()
        if secured := transport.get_extra_info("ssl_object"):
            # What one read brings is buffered in any case; 256 KiB more would be the default.
            transport.set_read_buffer_limits(bodies.SMALL)  # type: ignore[attr-defined]
            if name := _client(transport.get_extra_info("peercert"), secured.session_reused):
                self.app_state = {"client": name}
        self.server_state.make_room(self)
        self.server_state.silent[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.forget()
        if self._owed and self._prompt is not None and self._last is not None:
            self._prompt.lost(self._last)
        self._be_patient()
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()

    def forget(self) -> None:
        """It waits for its client no more: something runs for it, or it has ended."""
        self.server_state.silent.pop(self, None)
        self.server_state.idle.pop(self, None)

    def data_received(self, data: bytes) -> None:
        if self._between and self._prompt is not None and self._free():
            known = self.server_state.heads.find(data)
            if known is not None:
                self._at_once(*known)
                return
        self._data = data if self._between else b""
        self._whole = False
        self._seen += len(data)
        super().data_received(data)
        self._data = b""  # thousands of connections may be idle
        if self._call is not None and not self.transport.is_closing():
            self._begin()  # more of it is to come
        if self._whole or self.transport.is_closing():
            return
        if not self._in_body and self._seen > HEADERS_BYTES:
            self.send_400_response(f"the headers are larger than {HEADERS_BYTES} bytes")
        elif self._patience is None:
            if self._answered():
                self._limit()
            if self._in_body:
                self.flow.pause_reading()  # until the app asks for it: see webhook.server.bodies

    def _limit(self) -> None:
        """Wait so long for the rest of what has begun: not before the last request's answer, for
        nothing more may be read until then."""
        seconds = BODY_SECONDS if self._in_body else HEADERS_SECONDS
        self._patience = self.loop.call_later(seconds, self.transport.close)

    def _at_once(self, call: Any, body: bytes) -> None:
        """A request that comes as one has come before: the parser need not see it."""
        self._be_patient()  # a blank line may have come before
        self._seen, self._silent_since = 0, None
        self._last, self._owed = call, True
        self._be_prompt(call, body, keep_alive=not self.server_state.draining)

    def on_message_begin(self) -> None:
        self._whole = self._between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._seen > HEADERS_BYTES and _size(self.url, self.headers) > HEADERS_BYTES:
            raise ValueError("the headers are too large")  # httptools' answer to it is 400
        self._be_patient()
        self._in_body = True
        if self._prompt is not None:
            path, _, query = self.url.partition(b"?")
            self._call = self._prompt.call(path, query, self.headers)
        self._last, self._owed = self._call, True
        if self._call is None or not self._plain():
            self._begin()

    def _plain(self) -> bool:
        """Whether it is a request as any."""
        return (
            self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and not self.parser.should_upgrade()
            and not self.expect_100_continue
            and self._free()
        )

    def _free(self) -> bool:
        """Whether another one may be answered at once."""
        paused = self.flow.write_paused or self.transport.is_closing()
        return self._answered() and not paused

    def _answered(self) -> bool:
        """Whether the last request's answer is on its way."""
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]

    def _begin(self) -> None:
        """Leave it to the app, with what has come of its body."""
        self._call, body, self._body = None, self._body, b""
        super().on_headers_complete()
        if self.server_state.draining:
            self.cycle.keep_alive = False
        if body:
            super().on_body(body)

    def on_body(self, body: bytes) -> None:
        if self._call is not None and len(self._body) + len(body) <= bodies.SMALL:
            self._body += body
            return
        if self._call is not None:
            self._begin()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._be_patient()
        self._in_body, self._whole, self._between, self._seen = False, True, True, 0
        if (call := self._call) is not None:
            keep_alive = self.parser.should_keep_alive()
            self._call, body, self._body = None, self._body, b""
            if keep_alive:
                self.server_state.heads.keep(self._data, call, self.headers, body)
            keep_alive = keep_alive and not self.server_state.draining
            self._be_prompt(call, body, keep_alive=keep_alive)
            return
        if not self.cycle.response_complete:
            self.forget()
        super().on_message_complete()

    def _be_prompt(self, call: Any, body: bytes, *, keep_alive: bool) -> None:
        assert self._prompt is not None  # noqa: S101  it has made the call
        self.cycle = exchange = _Exchange(keep_alive=keep_alive)  # type: ignore[assignment]
        self.forget()
        answer = self._prompt.prompt(call, self.app_state, body)
        if isinstance(answer, Answer):
            self._send(exchange, answer)
        else:
            task = self.loop.create_task(self._send_later(exchange, answer))
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)

    async def _send_later(self, exchange: _Exchange, answer: Coroutine[Any, Any, Answer]) -> None:
        sent = await answer
        if self.flow.write_paused:
            await self.flow.drain()
        if not exchange.disconnected:
            self._send(exchange, sent)

    def _send(self, exchange: _Exchange, answer: Answer) -> None:
        """In one write: each is a TLS record, and a call of the system."""
        headers = answer.headers
        if not exchange.keep_alive and CLOSE not in headers:
            headers = (*headers, CLOSE)
        more = b"".join(b"%b: %b\r\n" % header for header in headers)
        length = len(answer.body)
        self.transport.write(_HEAD % (STATUS_LINE[answer.code], length, more) + answer.body)
        exchange.response_complete = True
        if CLOSE in headers:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        # As uvicorn's, but that it starts a timer each time.
        self._owed = False
        self.server_state.total_requests += 1
        closing = self.transport.is_closing()
        if not closing:
            self.flow.resume_reading()
            if not self._between and self._patience is None:
                self._limit()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
                return
        self.server_state.idle[self] = None
        self._silent_since = self.loop.time()

    def _unset_keepalive_if_required(self) -> None:
        self._silent_since = None

    def timeout_keep_alive_handler(self) -> None:
        """Close it if it has been silent for so long; else look again when that may be."""
        now = self.loop.time()
        since = now if self._silent_since is None else self._silent_since
        left = since + self.timeout_keep_alive - now
        if left <= 0:
            super().timeout_keep_alive_handler()
        elif not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                left, self.timeout_keep_alive_handler
            )

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
