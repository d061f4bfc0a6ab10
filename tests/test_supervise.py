"""Parts that end in every way there is: the others go on, and so do they."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

import pytest

from webhook.errors import ClusterUnreachable
from webhook.runtime.supervise import PARTS, REPEATED, STEADY, Run, Supervisor

pytestmark = pytest.mark.anyio


class Kept:
    """A supervisor without pauses, and what it tells."""

    def __init__(self) -> None:
        self.now = 0.0
        self.restarts: Counter[str] = Counter()
        self.hopeless: list[str] = []
        self.supervisor = Supervisor(
            lambda part: self.restarts.update([part]),
            self.hopeless.append,
            now=lambda: self.now,
            pauses=(0.0, 0.0),
        )

    async def during(self, do: Callable[[], object], *parts: tuple[str, Run]) -> None:
        """Keep `parts` until `do` is true."""
        task = asyncio.create_task(self.supervisor.keep_all(parts))
        async with asyncio.timeout(30):
            while not do():  # noqa: ASYNC110  it is no event of ours
                await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


class Part:
    """Ends in each of these ways in turn, and then works."""

    def __init__(self, *ends: BaseException | None) -> None:
        self._ends = list(ends)
        self.works = asyncio.Event()

    async def run(self) -> None:
        if self._ends:
            end = self._ends.pop(0)
            if end is not None:
                raise end
            return
        self.works.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    "end",
    [
        None,
        ValueError("garbled"),
        ClusterUnreachable("away"),
        ExceptionGroup("several", [ValueError("x"), ClusterUnreachable("y")]),
        asyncio.CancelledError(),  # of something that it waited for
        TimeoutError(),
        RecursionError(),
    ],
    ids=lambda end: type(end).__name__,
)
async def test_whatever_ends_a_part_it_begins_anew_and_is_counted(
    end: BaseException | None,
) -> None:
    kept, part, other = Kept(), Part(end, end), Part()
    await kept.during(part.works.is_set, ("settings", part.run), ("cache", other.run))
    assert kept.restarts == {"settings": 2}
    assert other.works.is_set()
    assert not kept.hopeless


async def test_a_fault_without_a_name_has_its_traceback_in_the_log_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    part = Part(
        *(ValueError(f"secret {number}") for number in range(3)), ClusterUnreachable("away")
    )
    kept = Kept()
    await kept.during(part.works.is_set, ("cluster", part.run))
    first, second = caplog.records
    assert first.getMessage() == "the part cluster has ended and begins anew: ValueError"
    assert first.exc_info is not None
    assert second.getMessage() == "the part cluster has ended and begins anew: away"
    assert second.exc_info is None
    assert {first.levelno, second.levelno} == {logging.ERROR}


async def test_what_fails_again_and_again_is_failing_until_it_has_run_for_a_while() -> None:
    kept, seen = Kept(), list[tuple[str, ...]]()

    async def ends() -> None:
        seen.append(kept.supervisor.failing())
        if len(seen) <= REPEATED:
            raise ValueError
        await asyncio.Event().wait()

    def check() -> bool:
        if len(seen) <= REPEATED:
            return False
        assert kept.supervisor.failing() == ("cluster",), "it has only just begun"
        kept.now += STEADY
        assert kept.supervisor.failing() == ()
        return True

    await kept.during(check, ("cluster", ends))
    assert seen == [()] * REPEATED + [("cluster",)]


async def test_ends_far_apart_are_no_failing() -> None:
    kept, ends = Kept(), 0

    async def run() -> None:
        nonlocal ends
        ends += 1
        kept.now += STEADY
        if ends > 3 * REPEATED:
            await asyncio.Event().wait()

    await kept.during(lambda: ends > 3 * REPEATED, ("cluster", run))
    assert kept.restarts["cluster"] == 3 * REPEATED
    assert kept.supervisor.failing() == ()


@pytest.mark.parametrize("part", sorted(PARTS))
async def test_only_what_verdicts_rest_on_is_told_of(part: str) -> None:
    kept, failing = Kept(), Part(*[ValueError()] * REPEATED)
    seen: list[tuple[str, ...]] = []

    def check() -> bool:
        if failing.works.is_set():
            seen.append(kept.supervisor.failing())
        return bool(seen)

    await kept.during(check, (part, failing.run))
    assert seen == [(part,) if PARTS[part] else ()]
    assert kept.supervisor.failing() == (), "what has been ended is not failing"


async def test_what_can_not_begin_anew_ends_the_process_and_says_why() -> None:
    kept, part = Kept(), Part(ModuleNotFoundError("No module named 'kubernetes'"))
    await kept.during(lambda: kept.hopeless, ("cluster", part.run))
    assert kept.hopeless == ["the part cluster can't run: No module named 'kubernetes'"]
    assert not kept.restarts


async def test_the_parts_are_ended_in_their_order_and_waited_for() -> None:
    ended: list[str] = []

    def part(name: str) -> Run:
        async def run() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(name)
                await asyncio.sleep(0)
                ended.append(f"{name} whole")

        return run

    started = Part()
    await Kept().during(
        started.works.is_set, ("cache", part("a")), ("cluster", part("b")), ("events", started.run)
    )
    assert ended == ["a", "b", "a whole", "b whole"]
