"""Room for the bodies that are in flight, over all listeners: so many bytes, and no more.

A body that fits in what a connection buffers anyway needs no room. A larger one gets room for its
whole length before it is read; until then its connection isn't read from, which slows its client
and costs nothing. The smallest goes first, so that no review waits for a larger one. Room is held
until the answer has been given, for what is parsed of the body lives as long.

Who holds room without using it would stop the others: while somebody waits, a body must keep coming
at a rate that no network of a cluster falls below, or it is refused.
"""

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from webhook.errors import BodyRefused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ROOM = 48 * 2**20
"""Bytes, of all bodies together. With what is parsed of them a pod of 512 MiB is safe."""
LARGEST = 7 * 2**20
"""Bytes, of one. The API server takes 3 MiB from its clients; a review carries the object twice,
and some wrapping."""
SMALL = 64 * 2**10
"""Bytes that need no room: a connection buffers as many in any case."""
SECONDS = 10.0
"""For a body to come where nobody waits for room; and to wait for it."""
VALUES = 250_000
"""In one body, by its commas: they take 35 ms to parse, in which nobody else is answered. Of what
the API server takes each has some 17 bytes, so it never has as many."""
GRACE = 2.0
"""Seconds without a byte after which a body is refused where others wait."""
_RATE = 2**20  # bytes a second, that one must come at then


class _Held:
    """The room of one body."""

    def __init__(self, size: int, now: float) -> None:
        self.size, self.begun, self.heard = size, now, now
        self.received = self.commas = 0
        self.receiving: asyncio.Timeout | None = None


class Bodies:
    """Grants the room, to each app that it has wrapped."""

    def __init__(self, room: int = ROOM, *, seconds: float = SECONDS, grace: float = GRACE) -> None:
        self._free, self._seconds, self._grace = room, seconds, grace
        self._coming: set[_Held] = set()
        """With room, and not whole yet."""
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        """A heap: by size, then by turn. Who has given up stays in it, with its future done."""
        self._turns = itertools.count()

    def limited(self, app: App, largest: int = LARGEST) -> App:
        """`app` with a `receive` that waits for room, and raises BodyRefused: 408, 413 or 503.

        No body is longer than `largest` bytes.
        """

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            length = _length(scope)
            if length is not None and length <= SMALL:
                await app(scope, receive, send)
                return
            size = largest if length is None else length
            held: _Held | None = None

            async def receiving() -> Message:
                nonlocal held
                if held is None:
                    if size > largest:
                        raise _too_large(largest)
                    held = await self._take(size)
                message = await self._next(held, receive)
                if held.received > largest:
                    raise _too_large(largest)
                return message

            try:
                await app(scope, receiving, send)
            finally:
                if held is not None:
                    self._coming.discard(held)
                    self._give_back(held.size)

        return serve

    async def _take(self, size: int) -> _Held:
        """Room for a body of `size` bytes. Raises BodyRefused."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        heapq.heappush(self._waiting, (size, next(self._turns), turn))
        self._grant()
        if not turn.done():
            for other in self._coming:
                self._hurry(other)
        try:
            async with asyncio.timeout(self._seconds):
                await turn
        except BaseException as error:
            if not turn.cancelled():  # it came in the moment of giving up
                self._give_back(size)
            if isinstance(error, TimeoutError):
                message = "other requests' bodies have taken all the room there is: try again"
                raise BodyRefused(503, message) from None
            raise
        held = _Held(size, loop.time())
        self._coming.add(held)
        return held

    def _give_back(self, size: int) -> None:
        self._free += size
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            size, _, turn = self._waiting[0]
            if not turn.done():
                if size > self._free:
                    return
                self._free -= size
                turn.set_result(None)
            heapq.heappop(self._waiting)

    async def _next(self, held: _Held, receive: Receive) -> Message:
        """The next piece. Raises BodyRefused where it takes too long, or has too much in it."""
        message: Message | None = None
        while message is None:
            try:
                async with asyncio.timeout_at(self._due(held)) as held.receiving:
                    message = await receive()
            except TimeoutError:
                if asyncio.get_running_loop().time() >= self._due(held):
                    raise BodyRefused(408, "the body came too slowly: send it again") from None
            finally:
                held.receiving = None
        held.heard = asyncio.get_running_loop().time()
        piece = message.get("body", b"")
        held.received += len(piece)
        held.commas += piece.count(b",")
        if held.commas > VALUES:
            raise BodyRefused(413, f"the body has more than {VALUES} values")
        if not message.get("more_body", False):
            self._coming.discard(held)
        return message

    def _due(self, held: _Held) -> float:
        """When its next piece must have come, by the loop's clock."""
        if any(not turn.done() for _, _, turn in self._waiting):
            return self._grace + min(held.heard, held.begun + held.received / _RATE)
        return held.begun + self._seconds

    def _hurry(self, held: _Held) -> None:
        if held.receiving is not None and not held.receiving.expired():
            held.receiving.reschedule(self._due(held))


def _length(scope: Scope) -> int | None:
    """In bytes, as its header says; None where only its end will tell."""
    for name, value in scope.get("headers", ()):
        if name == b"content-length":
            return int(value)  # httptools has refused what is no number
        if name == b"transfer-encoding":
            return None
    return 0


def _too_large(largest: int) -> BodyRefused:
    return BodyRefused(413, f"the body is larger than {largest} bytes")
