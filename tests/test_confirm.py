"""Fresh reads: shared while they run, valid for a moment, limited by the second and the user."""

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from webhook.confirm import RATE, USER_SHARE, VALID, Confirmations
from webhook.errors import VsphereUnreachable
from webhook.inventory import ProviderInventory
from webhook.model import Provider, VirtualMachine

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
        self.confirmations = Confirmations(self.inventory, self.vsphere, lambda: self.time)

    async def read(self, moref: str = "vm-1", user: str = "") -> Any:
        return await self.confirmations.read(morefs=[moref], uuids=[], names=[], user=user)


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


async def _reads_until_refused(bench: Bench, user: str, start: int) -> int:
    for count in range(1000):
        try:
            await bench.read(f"vm-{start + count}", user)
        except VsphereUnreachable as error:
            assert "too many" in str(error)
            return count
    raise AssertionError("never refused")


async def test_one_user_gets_a_share_and_all_together_the_rate() -> None:
    bench = Bench()
    share = int(RATE * USER_SHARE)
    counts = [await _reads_until_refused(bench, f"user-{n}", n * 1000) for n in range(6)]
    assert counts == [share] * 4 + [0, 0]
    bench.time += 1
    assert await _reads_until_refused(bench, "user-0", 10_000) == share


async def test_a_refused_read_costs_no_memory() -> None:
    bench = Bench()
    for number in range(3000):
        bench.time += 1
        await bench.read(f"vm-{number}", f"user-{number}")
    assert len(bench.confirmations._users) <= 1024
