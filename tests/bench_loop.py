"""The longest stretch of one request on the event loop: meanwhile nobody else is answered.

100,000 VMs, and requests that ask for much: Plans with 500 entries of which no name is right, one
that is right, a PVC whose vmUUID is unknown, a `check` of 1,000 objects. A ticker notes how long it
has to wait for its turn; the longest wait, less that of an idle loop, is the figure. Exit code 1 if
one is above 20 ms.
"""

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from tests.cases import BASE, NAMESPACE, VSPHERE, review_of
from webhook.cli.demo import merged
from webhook.engine.check import check
from webhook.engine.judge import decide
from webhook.engine.policy import Policy
from webhook.engine.results import Candidate
from webhook.engine.sources import Sources
from webhook.inventory.index import Index
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.inventory.snapshot import SnapshotReader
from webhook.model.objects import Provider
from webhook.model.vms import Disk, VirtualMachine
from webhook.server.codec import read_review

VMS, ENTRIES, OBJECTS, ROUNDS = 100_000, 500, 1_000, 3
LIMIT = 0.020


def main() -> int:
    sources = _sources()
    gc.collect()
    gc.freeze()
    figures = asyncio.run(_measure(sources))
    short = []
    for name, seconds in figures.items():
        print(f"{name:44} {seconds * 1000:7.1f} ms")
        if seconds > LIMIT:
            short.append(name)
    for name in short:
        print(f"bench-loop: above {LIMIT * 1000:.0f} ms: {name}", file=sys.stderr)
    return int(bool(short))


async def _measure(sources: Sources) -> dict[str, float]:
    plan, claim = BASE["Plan"], BASE["PersistentVolumeClaim"]
    lost = [{"name": f"vm-of-the-shop-{n:05}x"} for n in range(ENTRIES)]
    right = [{"id": f"vm-{n}"} for n in range(ENTRIES)]
    wrong = {
        "metadata": {"labels": {"vmID": "vm-7", "vmUUID": "4232eeee-0000-0000-0000-000000000009"}}
    }
    listed = [Candidate(merged(claim, {"metadata": {"name": f"d-{n}"}})) for n in range(OBJECTS)]
    what: dict[str, Callable[[], Awaitable[Any]]] = {
        f"a Plan of {ENTRIES} misspelt names": lambda: _judged(sources, plan, {"vms": lost}),
        f"a Plan of {ENTRIES} right ids": lambda: _judged(sources, plan, {"vms": right}),
        "a PVC of an unknown vmUUID": lambda: _reviewed(sources, merged(claim, wrong)),
        f"a check of {OBJECTS} PVCs": lambda: check(listed, sources),
    }
    idle = min([await _longest(lambda: asyncio.sleep(0.2)) for _ in range(ROUNDS)])
    return {
        name: max(0.0, min([await _longest(ask) for _ in range(ROUNDS)]) - idle)
        for name, ask in what.items()
    }


async def _longest(ask: Callable[[], Awaitable[Any]]) -> float:
    """The longest that the loop was not free while it answers, in seconds."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - before)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    try:
        await ask()
        await asyncio.sleep(0)  # what never waited was a stretch, too
    finally:
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking
    return longest


async def _judged(sources: Sources, plan: dict[str, Any], spec: dict[str, Any]) -> Any:
    return await _reviewed(sources, merged(plan, {"spec": spec}))


async def _reviewed(sources: Sources, obj: dict[str, Any]) -> Any:
    review = read_review(msgspec.json.encode(review_of(obj)))
    return await decide(review, sources, asyncio.get_running_loop().time() + 10)


def _sources() -> Sources:
    index = Index(
        VirtualMachine(
            f"vm-{n}",
            f"vm-of-the-shop-{n:05}",
            uuid=f"4232aaaa-0000-0000-0000-{n:012}",
            disks=(
                Disk(f"[ds] {n}/a.vmdk", 2**30, key=2000),
                Disk(f"[ds] {n}/b.vmdk", 2**30, key=1),
            ),
        )
        for n in range(VMS)
    )
    vsphere = ProviderInventory(Provider(NAMESPACE, VSPHERE), SnapshotReader(index))
    vsphere.vms = index
    vsphere.heard(None)
    return Sources(Inventory([vsphere]), Policy(trust_network=True), time.monotonic)


if __name__ == "__main__":
    sys.exit(main())
