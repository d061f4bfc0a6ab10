"""Room for bodies: who gets it, who waits, who is refused. Without a socket."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from webhook.errors import BodyRefused
from webhook.server.bodies import SMALL, VALUES, Bodies, Message, Receive, Scope, Send

BIG = 2 * SMALL
Sent = asyncio.Queue[Message]


def request(length: int | None) -> Scope:
    if length is None:
        return {"type": "http", "headers": [(b"transfer-encoding", b"chunked")]}
    return {"type": "http", "headers": [(b"content-length", b"%d" % length)]}


def piece(content: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": content, "more_body": more}


class Client:
    """One request. Its app reads the body, and answers when it is told to."""

    def __init__(self, bodies: Bodies, length: int | None, largest: int = 10 * BIG) -> None:
        self.sends, self.answer, self.asked = Sent(), asyncio.Event(), asyncio.Event()
        self.got = 0
        self.refused: int | None = None
        app = bodies.limited(self._app, largest)
        self.task = asyncio.ensure_future(app(request(length), self._receive, _unsent))

    async def _receive(self) -> Message:
        self.asked.set()
        return await self.sends.get()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            while True:
                message = await receive()
                self.got += len(message["body"])
                if not message["more_body"]:
                    break
        except BodyRefused as error:
            self.refused = error.code
            return
        await self.answer.wait()

    @property
    def waits(self) -> bool:
        return not self.asked.is_set() and not self.task.done()

    async def end(self) -> None:
        self.answer.set()
        await self.task


async def _unsent(message: Message) -> None:
    raise AssertionError(message)


async def settled() -> None:
    """Let all run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[Any]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(within())


def test_what_a_connection_buffers_anyway_needs_no_room() -> None:
    async def test() -> None:
        bodies = Bodies(room=0)
        for length in (0, 1, SMALL):
            client = Client(bodies, length)
            client.sends.put_nowait(piece(b"x" * length))
            await client.end()
            assert client.got == length

    run(test)


def test_room_is_held_until_the_answer_and_then_the_next_one_reads() -> None:
    async def test() -> None:
        bodies = Bodies(room=BIG)
        first, second = Client(bodies, BIG), Client(bodies, BIG)
        first.sends.put_nowait(piece(b"x" * BIG))
        second.sends.put_nowait(piece(b"x" * BIG))
        await settled()
        assert first.got == BIG
        assert second.waits
        await first.end()
        await second.end()
        assert second.got == BIG

    run(test)


def test_the_smallest_goes_first_and_then_who_came_first() -> None:
    async def test() -> None:
        bodies = Bodies(room=2 * BIG)
        first = Client(bodies, 2 * BIG)
        await settled()
        large, one, other = (Client(bodies, length) for length in (2 * BIG, BIG + 1, BIG + 1))
        await settled()
        assert large.waits
        assert one.waits
        first.sends.put_nowait(piece(b"x"))
        await first.end()
        await settled()
        assert not one.waits
        assert (large.waits, other.waits) == (True, True)
        for client in (one, other, large):
            client.sends.put_nowait(piece(b"x"))
            await client.end()
            await settled()

    run(test)


def test_who_gives_up_in_the_line_takes_no_room() -> None:
    async def test() -> None:
        bodies = Bodies(room=BIG)
        first = Client(bodies, BIG)
        await settled()
        gone, last = Client(bodies, BIG), Client(bodies, BIG)
        await settled()
        first.sends.put_nowait(piece(b"x"))
        first.answer.set()
        gone.task.cancel()
        await asyncio.wait([first.task, gone.task])
        last.sends.put_nowait(piece(b"x" * BIG))
        await last.end()
        assert last.got == BIG

    run(test)


def test_who_gives_up_in_the_moment_it_is_granted_gives_it_back() -> None:
    async def test() -> None:
        bodies = Bodies(room=BIG)
        first = Client(bodies, BIG)
        await settled()
        gone, last = Client(bodies, BIG), Client(bodies, BIG)
        await settled()
        first.sends.put_nowait(piece(b"x"))
        first.answer.set()
        await first.task  # which has granted it; the other has not run yet
        gone.task.cancel()
        last.sends.put_nowait(piece(b"x" * BIG))
        await last.end()
        assert last.got == BIG

    run(test)


def test_who_has_waited_too_long_is_refused() -> None:
    async def test() -> None:
        bodies = Bodies(room=BIG, seconds=0.01)
        first = Client(bodies, BIG)
        first.sends.put_nowait(piece(b"x"))  # whole, and under judgment
        await settled()
        second = Client(bodies, BIG)
        await second.task
        assert second.refused == 503
        await first.end()

    run(test)


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "dripping"])
def test_who_holds_room_without_using_it_is_refused_where_others_wait(drips: bool) -> None:
    async def test() -> None:
        bodies = Bodies(room=BIG, grace=0.01)
        slow = Client(bodies, BIG)
        slow.sends.put_nowait(piece(b"x", more=True))
        await settled()
        assert slow.got == 1
        waiting = Client(bodies, BIG)
        while not slow.task.done():
            if drips:
                slow.sends.put_nowait(piece(b"x", more=True))
            await asyncio.wait([slow.task], timeout=0.001)
        assert slow.refused == 408
        waiting.sends.put_nowait(piece(b"x"))
        await waiting.end()
        assert waiting.got == 1

    run(test)


def test_who_uses_its_room_may_take_its_time_where_nobody_waits() -> None:
    async def test() -> None:
        bodies = Bodies(room=BIG, grace=0.0)
        slow = Client(bodies, BIG)
        slow.sends.put_nowait(piece(b"x", more=True))
        await settled()
        slow.sends.put_nowait(piece(b"x"))
        await slow.end()
        assert (slow.got, slow.refused) == (2, None)

    run(test)


@pytest.mark.parametrize(
    ("length", "pieces"),
    [
        (10 * BIG + 1, []),
        (None, [piece(b"x" * BIG, more=True)] * 11),
        (10 * BIG, [piece(b"," * (VALUES // 4 + 1), more=True)] * 4),
    ],
    ids=["by-its-length", "endless", "too-many-values"],
)
def test_what_is_too_large_is_refused_and_gives_its_room_back(
    length: int | None, pieces: list[Message]
) -> None:
    async def test() -> None:
        bodies = Bodies(room=10 * BIG)
        for _ in range(2):
            client = Client(bodies, length)
            for one in pieces:
                client.sends.put_nowait(one)
            await client.task
            assert client.refused == 413

    run(test)
