"""Fresh reads: never older than their request, shared, limited by the second and the user."""

import asyncio
import gc
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest

from webhook.errors import TooManyReads, VsphereUnreachable
from webhook.inventory.confirm import PATIENCE, RATE, USER_SHARE, Confirmations
from webhook.inventory.provider import ProviderInventory
from webhook.model.objects import Provider
from webhook.model.vms import VirtualMachine

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def nothing_is_told_to_the_loop(anyio_backend: str) -> Iterator[list[dict[str, Any]]]:
    """`Task exception was never retrieved` and its like: whatever a test does, there is none."""
    told: list[dict[str, Any]] = []
    yield told
    gc.collect()
    assert not told


class Vsphere:
    """Its truth changes with each read; it answers when it is let to, and counts."""

    def __init__(self) -> None:
        self.reads = 0
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.begins = asyncio.Event()
        self.begins.set()
        self.error: Exception | None = None

    async def ask(
        self,
        morefs: Collection[str],
        uuids: Collection[str],
        names: Collection[str],
        begin: Callable[[], None],
    ) -> tuple[VirtualMachine, ...]:
        await self.begins.wait()
        begin()
        self.reads += 1
        now = VirtualMachine("vm-1", f"as of read {self.reads}")
        self.asked.set()
        await self.open.wait()
        if self.error:
            raise self.error
        return (now,) if "vm-1" in morefs else ()


class Bench:
    """Confirmations with a clock of the test's own."""

    def __init__(self) -> None:
        self.time = 100.0
        self.vsphere = Vsphere()
        self.inventory = ProviderInventory(Provider("mtv", "prod"))
        self.confirmations = Confirmations(
            self.inventory, self.vsphere.ask, lambda: self.time, self.sleep
        )

    async def sleep(self, seconds: float) -> None:
        self.time += seconds

    def asking(self, moref: str = "vm-1", user: str = "") -> "asyncio.Task[Any]":
        """A request that has come now; the clock goes on."""
        since = self.time
        self.time += 0.001
        return asyncio.create_task(
            self.confirmations.read(morefs=[moref], uuids=[], names=[], user=user, since=since)
        )

    async def read(self, moref: str = "vm-1", user: str = "") -> Any:
        return await self.asking(moref, user)


def _names(answers: Any) -> list[str]:
    return [vm.name for (vm,) in answers]


async def test_requests_at_once_share_one_read_and_one_may_give_up() -> None:
    bench = Bench()
    bench.vsphere.begins.clear()
    impatient, *patient = [bench.asking() for _ in range(10)]
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait([impatient])
    bench.vsphere.begins.set()
    assert _names(await asyncio.gather(*patient)) == ["as of read 1"] * 9


async def test_who_comes_while_a_read_runs_shares_the_next_one() -> None:
    bench = Bench()
    bench.vsphere.open.clear()
    first = bench.asking()
    await bench.vsphere.asked.wait()
    bench.vsphere.begins.clear()
    later = [bench.asking() for _ in range(9)]
    for _ in range(3):
        await asyncio.sleep(0)
    bench.vsphere.begins.set()
    bench.vsphere.open.set()
    assert _names([await first]) == ["as of read 1"]
    assert _names(await asyncio.gather(*later)) == ["as of read 2"] * 9


async def test_who_came_before_a_read_began_may_still_join_it() -> None:
    bench = Bench()
    bench.vsphere.open.clear()
    since = bench.time
    bench.time += 1
    first = bench.asking()
    await bench.vsphere.asked.wait()
    second = asyncio.create_task(
        bench.confirmations.read(morefs=["vm-1"], uuids=[], names=[], since=since)
    )
    await asyncio.sleep(0)
    bench.vsphere.open.set()
    assert _names(await asyncio.gather(first, second)) == ["as of read 1"] * 2


async def test_no_answer_serves_a_request_that_comes_after_it() -> None:
    bench = Bench()
    assert _names([await bench.read() for _ in range(3)]) == [f"as of read {n}" for n in (1, 2, 3)]
    assert not bench.confirmations._latest


async def test_a_failure_is_everybodys_who_waits_and_is_not_kept() -> None:
    bench = Bench()
    bench.vsphere.error = VsphereUnreachable("gone")
    answers = await asyncio.gather(*(bench.asking() for _ in range(3)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["gone"] * 3
    bench.vsphere.error = None
    assert _names([await bench.read()]) == ["as of read 2"]
    assert bench.inventory.reads["fresh", "failed"] == 1


async def test_a_read_that_fails_after_all_have_gone_is_no_ones_trouble(
    nothing_is_told_to_the_loop: list[dict[str, Any]],
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: nothing_is_told_to_the_loop.append(context))
    bench = Bench()
    bench.vsphere.open.clear()
    bench.vsphere.error = VsphereUnreachable("gone")
    asked = bench.asking()
    await bench.vsphere.asked.wait()
    running = [read.task for read in bench.confirmations._latest.values()]
    asked.cancel()
    await asyncio.wait([asked])
    bench.vsphere.open.set()
    await asyncio.wait(running)
    assert bench.inventory.reads["fresh", "failed"] == 1, "nobody stopped it"


async def test_who_asks_one_after_the_other_is_slowed_and_never_refused() -> None:
    bench = Bench()
    start = bench.time
    for number in range(105):
        await bench.read(f"vm-{number}", "vendor")
    share = RATE * USER_SHARE
    assert bench.time - start == pytest.approx((105 - share) / share, abs=0.2)


async def _served_at_once(bench: Bench, user: str, start: int) -> int:
    """How many of 100 reads, asked in one moment, are not refused."""
    moment = bench.time
    reads = []
    for number in range(100):
        reads.append(bench.asking(f"vm-{start + number}", user))
        bench.time = moment
    answers = await asyncio.gather(*reads, return_exceptions=True)
    refusals = [answer for answer in answers if isinstance(answer, TooManyReads)]
    assert all("too many" in str(refusal) for refusal in refusals)
    return 100 - len(refusals)


async def test_one_user_gets_a_share_and_all_together_the_rate() -> None:
    burst = RATE + RATE * PATIENCE
    one, *_ = users = [f"user-{n}" for n in range(6)]
    bench = Bench()
    bench.confirmations._sleep = _never
    assert await _served_at_once(bench, one, 0) == burst * USER_SHARE
    bench.time += 100
    counts = [await _served_at_once(bench, user, n * 1000) for n, user in enumerate(users, 1)]
    assert counts == [burst * USER_SHARE] * 4 + [0, 0]


async def _never(_: float) -> None:
    """The test's clock stands still."""


async def test_what_is_refused_costs_no_memory() -> None:
    bench = Bench()
    for number in range(3000):
        bench.time += 1
        await bench.read(f"vm-{number}", f"user-{number}")
    assert len(bench.confirmations._users._buckets) <= 1024
    assert not bench.confirmations._latest
