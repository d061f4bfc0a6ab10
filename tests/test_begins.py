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
from webhook.server.codec import read_review

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
    obj: dict[str, Any],
    vcenter: Vcenter,
    there: Cluster,
    old: dict[str, Any] | None = None,
    **policy: Any,
) -> Verdict:
    cluster = FixedCluster(there)
    known = Sources(
        Inventory([vcenter.inventory]), Policy(**policy), lambda: NOW, cluster.followed(), cluster
    )

    async def judge() -> Verdict:
        review = read_review(msgspec.json.encode(review_of(obj, old)))
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
    "another plan": (
        DATABASE,
        Cluster(pvcs=WHOLE, started_plans=[merged(READY_PLAN, {"metadata": {"name": "other"}})]),
        "another-plan",
    ),
    "deletes": (DATABASE, Cluster(pvcs=WHOLE, forklift="2.12.0"), "keep-pvcs"),
    "ending": (
        DATABASE,
        Cluster(pvcs=WHOLE, standing={"namespaces": {"migrated-workloads": "ending"}}),
        "target-namespace",
    ),
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


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ({"convertorLabels": {"a": "b c"}}, "plan-labels"),
        ({"vms": [{"id": "vm-178", "luks": {"name": "gone"}}]}, "plan-luks-secret"),
    ],
)
def test_what_is_wrong_with_the_plan_already_is_denied_to_what_it_adds(
    spec: dict[str, Any], rule: str
) -> None:
    plan = merged(READY_PLAN, {"spec": spec})
    without = merged(plan, {"spec": {"vms": []}})
    there = Cluster(pvcs=WHOLE, plan=without, started=True)
    vcenter = Vcenter(VSPHERE, DATABASE)
    begun = judged(plan, vcenter, there, without)
    assert isinstance(begun, Denied)
    assert [cause.rule for cause in begun.causes] == [rule]
    assert isinstance(judged(without, vcenter, there, plan), Admitted), "what it takes away is not"
    waits = judged(plan, vcenter, replace(there, started=False), without)
    assert isinstance(waits, Admitted)
    assert not any("label" in warning for warning in waits.warnings), "the request changes no label"


def test_it_warns_as_its_migration_does() -> None:
    vm = replace(DATABASE, encrypted=True)
    there = Cluster(pvcs=first(spec={"volumeMode": "Filesystem"}), plan=READY_PLAN)

    def warned(verdict: Verdict) -> set[str]:
        assert isinstance(verdict, Admitted)
        return {cause.rule for cause in verdict.findings}

    vcenter = Vcenter(VSPHERE, vm)
    at_the_start = warned(judged(MIGRATION, vcenter, there, trust_network=True))
    there = replace(there, started=True)
    at_once = warned(judged(READY_PLAN, vcenter, there, EMPTY, trust_network=True))
    assert {"migration-volume-mode", "migration-encrypted", "migration-running"} <= at_the_start
    assert at_the_start <= at_once


def _converting(**vm: Any) -> dict[str, Any]:
    progress = {"id": "vm-178", "name": "database", "phase": "ConvertGuest", **vm}
    executing = {"type": "Executing", "status": "True"}
    conditions = [*READY_PLAN["status"]["conditions"], executing]
    status = {"conditions": conditions, "migration": {"vms": [progress]}}
    return merged(READY_PLAN, {"status": status})


def test_a_conversion_that_runs_is_not_told_to_stop_its_own_pod() -> None:
    plan = _converting()
    pods = {"disk-0": "conversion-plan-vm-178-abc"}
    there = Cluster(pvcs=WHOLE, plan=plan, started=True, pods=pods)
    off = replace(DATABASE, power_state="poweredOff")
    renamed = merged(plan, {"spec": {"vms": [{"id": "vm-178", "targetName": "db"}]}})
    assert isinstance(judged(renamed, Vcenter(VSPHERE, off), there, plan), Admitted)
    running = merged(MIGRATION, {"status": {"started": "2026-11-29T00:00:00Z"}})
    assert isinstance(judged(running, Vcenter(VSPHERE, off), there), Admitted)
    another = judged(MIGRATION, Vcenter(VSPHERE, off), there)
    assert isinstance(another, Denied)
    assert "is being converted now: wait until it has ended" in another.causes[0].message
    assert "stop the pod" not in str(another.causes)
    over = _converting(phase="Completed", completed="2026-11-29T00:00:00Z")
    again = judged(MIGRATION, Vcenter(VSPHERE, off), replace(there, plan=over))
    assert isinstance(again, Denied)
    assert "stop the pod first" in str(again.causes), "what has ended mounts nothing by itself"


def test_nobody_is_told_to_stop_the_pod_of_another_plan() -> None:
    other = merged(_converting(), {"metadata": {"name": "other"}})
    pods = {"disk-0": "other-vm-178-abc"}
    there = Cluster(pvcs=WHOLE, plan=READY_PLAN, started_plans=[other], pods=pods)
    denied = judged(MIGRATION, Vcenter(VSPHERE, DATABASE), there)
    assert isinstance(denied, Denied)
    told = {cause.rule: cause.message for cause in denied.causes}
    assert told.keys() == {"migration-another-plan", "migration-pvc-in-use"}
    assert "stop the pod" not in str(told)
    over = merged(_converting(completed="2026-11-29T00:00:00Z"), {"metadata": {"name": "other"}})
    denied = judged(MIGRATION, Vcenter(VSPHERE, DATABASE), replace(there, started_plans=[over]))
    assert isinstance(denied, Denied)
    assert [cause.rule for cause in denied.causes] == ["migration-pvc-in-use"]
    assert "stop the pod first" in denied.causes[0].message


@pytest.mark.parametrize(
    ("there", "rule"),
    [
        (Cluster(pvcs=WHOLE, pods={"disk-0": "rescue"}), "migration-pvc-in-use"),
        (Cluster(pvcs=first(metadata={"ownerReferences": [_OWNER]})), "migration-pvc-owner"),
        (Cluster(pvcs=WHOLE), ""),
    ],
    ids=["in use", "owned", "right"],
)
@pytest.mark.parametrize("copied", [True, False])
def test_a_resumed_conversion_has_its_disks_to_itself(
    there: Cluster, rule: str, *, copied: bool
) -> None:
    failed = {"type": "Failed", "status": "True"}
    ended = {"id": "vm-178", "disksCopied": copied, "phase": "Completed", "conditions": [failed]}
    plan = merged(READY_PLAN, {"status": {"migration": {"vms": [ended]}}})
    resumes = merged(MIGRATION, {"spec": {"resumeConversion": True}})
    off = replace(DATABASE, power_state="poweredOff")
    verdict = judged(resumes, Vcenter(VSPHERE, off), replace(there, plan=plan))
    if rule and copied:  # else it is left out
        assert isinstance(verdict, Denied)
        assert [cause.rule for cause in verdict.causes] == [rule]
    else:
        assert isinstance(verdict, Admitted)


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
