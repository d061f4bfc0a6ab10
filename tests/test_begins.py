"""A Plan that has been started begins what an UPDATE adds: it is judged as a Migration would be."""

import asyncio
from typing import Any

import msgspec
import pytest

from tests.cases import BASE, PATIENCE, READY_PLAN, VSPHERE, Cluster, FixedCluster, review_of
from tests.test_audience import SECOND
from tests.test_decide import DATABASE, NOW, PVC, Vcenter
from webhook.cli.demo import merged
from webhook.engine.judge import decide
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.errors import VsphereUnreachable
from webhook.inventory.provider import Inventory
from webhook.model.review import Admitted, Denied, Undecided, Verdict
from webhook.model.vms import Disk, VirtualMachine
from webhook.server.codec import parse

MIGRATION = BASE["Migration"]
COLD = merged(READY_PLAN, {"spec": {"type": "cold"}})
EMPTY = merged(READY_PLAN, {"spec": {"vms": []}})
WHOLE = [
    merged(one, {"status": {"phase": "Bound", "capacity": {"storage": "20Gi"}}})
    for one in (PVC, SECOND)
]
_OWNER = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "x", "uid": "u"}
replace = msgspec.structs.replace


def first(**fields: Any) -> list[dict[str, Any]]:
    """The PVCs, the first one with these fields."""
    return [merged(WHOLE[0], fields), WHOLE[1]]


def judged(
    obj: dict[str, Any], vcenter: Vcenter, there: Cluster, old: dict[str, Any] | None = None
) -> Verdict:
    cluster = FixedCluster(there)
    known = Sources(
        Inventory([vcenter.inventory]), Policy(), lambda: NOW, cluster.followed(), cluster
    )

    async def judge() -> Verdict:
        review = parse(msgspec.json.encode(review_of(obj, old)))
        return await decide(review, known, asyncio.get_running_loop().time() + PATIENCE)

    return asyncio.run(judge())


USB = Disk("[LocalDS_0] database/disk-001.vmdk", 10 << 30, bus="usb")
CASES: dict[str, tuple[VirtualMachine, Cluster, str]] = {
    "usb": (replace(DATABASE, disks=(USB,)), Cluster(pvcs=WHOLE[:1]), "disks"),
    "no disk": (replace(DATABASE, disks=()), Cluster(), "disks"),
    "missing": (DATABASE, Cluster(pvcs=WHOLE[:1]), "disks"),
    "away": (replace(DATABASE, connection_state="disconnected"), Cluster(pvcs=WHOLE), "disks"),
    "dot": (DATABASE, Cluster(pvcs=first(metadata={"name": "disk.0"})), "pvc-name"),
    "owned": (
        DATABASE,
        Cluster(pvcs=first(metadata={"ownerReferences": [_OWNER]})),
        "pvc-owner",
    ),
    "read only": (
        DATABASE,
        Cluster(pvcs=first(spec={"accessModes": ["ReadOnlyMany"]})),
        "access-mode",
    ),
    "in use": (
        DATABASE,
        Cluster(pvcs=first(spec={"accessModes": ["ReadWriteOncePod"]}), pods={"disk-0": "pod"}),
        "pvc-in-use",
    ),
    "deletes": (DATABASE, Cluster(pvcs=WHOLE, forklift="2.12.0"), "keep-pvcs"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("old", [COLD, EMPTY, None], ids=["cold", "empty", "created"])
def test_what_it_adds_is_denied_as_its_migration_would_be(
    name: str, old: dict[str, Any] | None
) -> None:
    vm, there, rule = CASES[name]
    there = replace(there, plan=READY_PLAN)
    denied = judged(MIGRATION, Vcenter(VSPHERE, vm), there)
    assert isinstance(denied, Denied)
    begun = judged(READY_PLAN, Vcenter(VSPHERE, vm), replace(there, started=True), old)
    assert isinstance(begun, Denied)
    assert any(cause.rule.endswith(rule) for cause in begun.causes), begun.causes
    assert all(cause.field.startswith("spec.") for cause in begun.causes)


def test_what_it_adds_is_read_afresh() -> None:
    there = Cluster(pvcs=WHOLE, plan=READY_PLAN, started=True)
    vcenter = Vcenter(VSPHERE, DATABASE)
    assert isinstance(judged(READY_PLAN, vcenter, there, EMPTY), Admitted)
    assert vcenter.reads == 1
    vcenter.fails = VsphereUnreachable("it is away")
    assert isinstance(judged(READY_PLAN, vcenter, there, EMPTY), Undecided)
    assert isinstance(judged(READY_PLAN, vcenter, replace(there, started=False), EMPTY), Admitted)


def test_what_was_there_before_is_left_alone() -> None:
    there = Cluster(pvcs=WHOLE[:1], plan=READY_PLAN, started=True)
    described = merged(READY_PLAN, {"spec": {"description": "x"}})
    assert isinstance(judged(described, Vcenter(VSPHERE, DATABASE), there, READY_PLAN), Admitted)
