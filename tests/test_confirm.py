"""Fresh reads: shared while they run, valid for a moment, limited by the second and the user."""

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from webhook.errors import VsphereUnreachable
from webhook.inventory.confirm import PATIENCE, RATE, USER_SHARE, VALID, Confirmations
from webhook.inventory.provider import ProviderInventory
from webhook.model.objects import Provider
from webhook.model.vms import VirtualMachine

pytestmark = pytest.mark.anyio

VM = VirtualMachine("vm-1", "web")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Vsphere:
    """Answers when it is let to, and counts."""

    def __init__(self) -> None:
        self.reads = 0
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    async def read(
        self,
        *,
        morefs: Collection[str],
        uuids: Collection[str],
        names: Collection[str],
        user: str = "",
        afresh: bool = False,
    ) -> tuple[VirtualMachine, ...]:
        self.reads += 1
        self.asked.set()
        await self.open.wait()
        if self.error:
            raise self.error
        return (VM,) if "vm-1" in morefs else ()


class Bench:
    """Confirmations with a clock of the test's own."""

    def __init__(self) -> None:
        self.time = 100.0
        self.vsphere = Vsphere()
        self.inventory = ProviderInventory(Provider("mtv", "prod"))
        self.confirmations = Confirmations(
            self.inventory, self.vsphere, lambda: self.time, self.sleep
        )

    async def sleep(self, seconds: float) -> None:
        self.time += seconds

    async def read(self, moref: str = "vm-1", user: str = "", *, afresh: bool = False) -> Any:
        return await self.confirmations.read(
            morefs=[moref], uuids=[], names=[], user=user, afresh=afresh
        )


async def test_requests_at_once_share_one_read_and_one_may_give_up() -> None:
    bench = Bench()
    bench.vsphere.open.clear()
    impatient, *patient = [asyncio.create_task(bench.read()) for _ in range(10)]
    await bench.vsphere.asked.wait()
    impatient.cancel()
    bench.vsphere.open.set()
    assert await asyncio.gather(*patient) == [(VM,)] * 9
    assert bench.vsphere.reads == 1


async def test_an_answer_serves_for_a_moment_not_there_included() -> None:
    bench = Bench()
    for moref in ("vm-1", "vm-9"):
        bench.vsphere.reads = 0
        first = await bench.read(moref)
        bench.time += VALID - 0.1
        assert await bench.read(moref) == first
        assert bench.vsphere.reads == 1
        bench.time += 0.2
        await bench.read(moref)
        assert bench.vsphere.reads == 2


async def test_a_gate_takes_no_answer_of_before() -> None:
    bench = Bench()
    for reads in (1, 2, 3):
        await bench.read(afresh=True)
        assert bench.vsphere.reads == reads
    await bench.read()
    assert bench.vsphere.reads == 3


async def test_an_update_of_the_vm_ends_it_before() -> None:
    bench = Bench()
    await bench.read()
    bench.inventory.vms.put(VirtualMachine("vm-2"))
    await bench.read()
    assert bench.vsphere.reads == 1
    bench.inventory.vms.put(VM)
    await bench.read()
    assert bench.vsphere.reads == 2


async def test_a_failure_is_not_kept() -> None:
    bench = Bench()
    bench.vsphere.error = VsphereUnreachable("gone")
    with pytest.raises(VsphereUnreachable, match="gone"):
        await bench.read()
    bench.vsphere.error = None
    assert await bench.read() == (VM,)


async def test_who_asks_one_after_the_other_is_slowed_and_never_refused() -> None:
    bench = Bench()
    start = bench.time
    for number in range(105):
        await bench.read(f"vm-{number}", "vendor")
    share = RATE * USER_SHARE
    assert bench.time - start == pytest.approx((105 - share) / share)


async def _served_at_once(bench: Bench, user: str, start: int) -> int:
    """How many of 100 reads, asked in one moment, are not refused."""
    bench.vsphere.open.clear()
    reads = [asyncio.create_task(bench.read(f"vm-{start + n}", user)) for n in range(100)]
    await asyncio.sleep(0)
    bench.vsphere.open.set()
    answers = await asyncio.gather(*reads, return_exceptions=True)
    refusals = [answer for answer in answers if isinstance(answer, VsphereUnreachable)]
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


async def test_a_refused_read_costs_no_memory() -> None:
    bench = Bench()
    for number in range(3000):
        bench.time += 1
        await bench.read(f"vm-{number}", f"user-{number}")
    assert len(bench.confirmations._users) <= 1024
