"""Answers that several wait for: who gives up takes none from the others; no end goes unseen."""

import asyncio
import gc
from typing import Any

import pytest

from webhook.shared import shared, waited

pytestmark = pytest.mark.anyio


async def test_an_answer_that_nobody_waits_for_any_more_may_fail() -> None:
    unseen: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unseen.append(context))
    begun = asyncio.Event()

    async def fails() -> None:
        await begun.wait()
        raise OSError

    answer = shared(fails())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await waited(answer)
    begun.set()
    await asyncio.wait([answer])
    del answer
    gc.collect()
    await asyncio.sleep(0)
    assert unseen == []


async def test_who_gives_up_takes_the_answer_from_nobody() -> None:
    begun = asyncio.Event()

    async def known() -> int:
        await begun.wait()
        return 1

    answer = shared(known())
    first, second = (asyncio.create_task(waited(answer)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    begun.set()
    assert await second == 1
    assert first.cancelled()
