"""What a review costs by how much there is: VMs, disks of a VM, vCenters, rules, entries of a Plan.

CPU time of the decision, from the review's bytes to the answer's, in one process. A PVC must cost
the same whatever there is; a Plan as many times more as it has entries. Rounds go round, and the
median of their ratios counts. Exit code 1 where one is above its limit. `make bench-size`.
"""

import asyncio
import gc
import statistics
import sys
import time
from typing import Any

import msgspec

from tests.bench_inventory import Figures
from tests.bench_server import PVC
from tests.cases import BASE, NAMESPACE, review_of
from webhook.cli.demo import merged
from webhook.engine.judge import begin
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.facts.facts import PvcFacts
from webhook.inventory.index import Index
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.inventory.snapshot import SnapshotReader
from webhook.model.objects import Provider
from webhook.model.review import VERDICTS, Admitted
from webhook.model.vms import Disk, VirtualMachine
from webhook.rules import RULES
from webhook.server.codec import read_review, render

ROUNDS, TIMES = 15, 300
FLAT = 1.5
"""Times. The decision is a third of a review, so this is 1.2 of what a review costs."""


def main() -> int:
    plain = _sources(100)
    half = {rule.id: "off" for rule in [one for one in RULES if one.facts is PvcFacts][::2]}
    claim = msgspec.json.encode(review_of(PVC))
    few, many = (_plan(entries) for entries in (50, 500))
    figures = Figures()
    for what, limit, small, large in (
        ("a PVC: 100,000 VMs for 100", FLAT, (plain, claim), (_sources(100_000), claim)),
        (
            "a PVC: a VM of 60 disks for one of 1",
            FLAT,
            (_sources(100, 1), claim),
            (_sources(100, 60), claim),
        ),
        ("a PVC: 20 vCenters for 1", FLAT, (plain, claim), (_sources(100, vcenters=20), claim)),
        (
            "a PVC: all rules for half of them",
            2.0,
            (_sources(100, off=half), claim),
            (plain, claim),
        ),
        ("a Plan: 500 entries for 50", 10 * FLAT, (_sources(5000), few), (_sources(5000), many)),
    ):
        gc.collect()
        gc.freeze()
        ratios = [_seconds(*large) / _seconds(*small) for _ in range(ROUNDS)]
        figures.add(what, statistics.median(ratios), limit, "times")
    figures.show()
    return 1 if figures.short else 0


def _seconds(sources: Sources, body: bytes) -> float:
    """CPU time of one review."""
    times = TIMES if len(body) < 10_000 else 3

    async def answer() -> None:
        for _ in range(times):
            review = read_review(body)
            begun = begin(review, sources, asyncio.get_running_loop().time() + 10)
            verdict = begun if isinstance(begun, VERDICTS) else await begun
            assert isinstance(verdict, Admitted), verdict
            render(review, verdict)

    before = time.process_time()
    asyncio.run(answer())
    return (time.process_time() - before) / times


def _plan(entries: int) -> bytes:
    vms = [{"id": f"vm-{number}"} for number in range(entries)]
    return msgspec.json.encode(review_of(merged(BASE["Plan"], {"spec": {"vms": vms}})))


def _sources(vms: int, disks: int = 2, vcenters: int = 1, off: Any = None) -> Sources:
    """vCenters of so many VMs each. All have the same morefs, and each uuids of its own; the last
    one has the VM that is named."""
    policy = Policy(trust_network=False, actions=off or {})
    known = [
        _vcenter(number, vms, disks, last=number == vcenters - 1) for number in range(vcenters)
    ]
    return Sources(Inventory(known), policy, time.monotonic)


def _vcenter(number: int, vms: int, disks: int, *, last: bool) -> ProviderInventory:
    first = 0x42324A11 if last else number
    index = Index(
        VirtualMachine(
            f"vm-{n}",
            f"vm-{n}",
            uuid=f"{first:08x}-5d13-4f9b-9b46-{n:012}",
            power_state="poweredOff",
            disks=tuple(
                Disk(f"[datastore1] vm-{n}/vm-{n}{f'_{key}' * bool(key)}.vmdk", 10 << 30, key=key)
                for key in range(disks)
            ),
        )
        for n in range(vms)
    )
    name = "vsphere-production" if last else f"vsphere-{number:02}"
    known = ProviderInventory(Provider(NAMESPACE, name), SnapshotReader(index))
    known.vms = index
    known.heard(None)
    return known


if __name__ == "__main__":
    sys.exit(main())
