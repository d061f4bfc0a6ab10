"""One answer for all who ask the same meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

K = TypeVar("K")
T = TypeVar("T")


def shared(answer: Awaitable[T]) -> asyncio.Future[T]:
    """Ask at once; every one who waits does so by `waited`. However it ends, that is looked at,
    though everybody may have gone: asyncio would log a traceback."""
    future = asyncio.ensure_future(answer)
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


async def waited(future: asyncio.Future[T]) -> T:
    """Its answer. Who gives up takes it from nobody else."""
    return await asyncio.shield(future)


async def once(
    asked: MutableMapping[K, asyncio.Future[Any]], what: K, ask: Callable[[], Awaitable[T]]
) -> T:
    """The answer to `what`, for as long as `asked` keeps it."""
    answer = asked.get(what)
    if answer is None:
        answer = asked[what] = shared(ask())
    found: T = await waited(answer)
    return found
