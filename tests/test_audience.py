"""What a caller may be told: answers to who may know nothing don't depend on what he may not know.

Each pair of worlds differs in one thing that the object does not prove. The same object must get
the same bytes in both: messages, warnings, audit annotations, the patch.
"""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from tests.cases import (
    BASE,
    NAMESPACE,
    PATIENCE,
    READY_PLAN,
    VSPHERE,
    Cluster,
    FixedCluster,
    review_of,
)
from tests.test_decide import DATABASE, PLAN, PVC, Vcenter, pvc
from webhook.cli.demo import merged
from webhook.engine.judge import decide
from webhook.engine.policy import Policy
from webhook.engine.readiness import readiness
from webhook.engine.repair import repair
from webhook.engine.sources import Sources
from webhook.inventory.provider import Inventory
from webhook.model.objects import User
from webhook.model.review import Denied
from webhook.model.vms import Disk, VirtualMachine
from webhook.server.codec import read_review, render

MIGRATION, CONVERSION = BASE["Migration"], BASE["Conversion"]
SECOND = merged(
    PVC,
    {
        "metadata": {
            "name": "disk-1",
            "annotations": {
                "forklift.konveyor.io/disk-source": "[LocalDS_0] database/disk-002.vmdk"
            },
        },
        "spec": {"resources": {"requests": {"storage": "20Gi"}}},
    },
)
BOUND = {"status": {"phase": "Bound", "capacity": {"storage": "20Gi"}}}


def answer(
    obj: dict[str, Any],
    *vms: VirtualMachine,
    others: Iterable[Vcenter] = (),
    there: Cluster | None = None,
    trust: bool = False,
) -> bytes:
    """Both answers, as bytes."""
    vcenter = Vcenter(VSPHERE, *vms)
    inventory = Inventory([vcenter.inventory, *(one.inventory for one in others)])
    policy = Policy(trust_network=trust)
    cluster = FixedCluster(there) if there else None
    followed = cluster.followed() if cluster else None
    sources = Sources(inventory, policy, lambda: 10_000.0, followed, cluster)

    async def both() -> bytes:
        review = read_review(msgspec.json.encode(review_of(obj)))
        deadline = asyncio.get_running_loop().time() + PATIENCE
        mutated = await repair(review, sources, deadline)
        validated = await decide(review, sources, deadline)
        return render(review, mutated) + render(review, validated)

    return asyncio.run(both())


def with_(**change: Any) -> VirtualMachine:
    return msgspec.structs.replace(DATABASE, **change)


ANOTHER = VirtualMachine("vm-900", "payroll", uuid="4232dddd-0000-0000-0000-000000000001")
HIDDEN = [
    {"power_state": "poweredOff"},
    {"power_state": "suspended"},
    {"tools": "guestToolsNotRunning"},
    {"name": "payroll"},
    {"disks": (*DATABASE.disks, Disk("[ds] x/usb.vmdk", 1, bus="usb", key=9))},
    {"disks": (*DATABASE.disks, Disk("[ds] x/sparse.vmdk", 1, backing="SeSparse", key=9))},
    {"disks": tuple(Disk(f"[ds] x/{n}.vmdk", 1, key=n) for n in range(12))},
]


@pytest.mark.parametrize("change", HIDDEN, ids=str)
def test_a_plan_tells_nothing_of_a_vm_that_it_names(change: dict[str, Any]) -> None:
    plan = merged(PLAN, {"spec": {"vms": [{"id": "vm-178"}]}})
    assert answer(plan, DATABASE) == answer(plan, with_(**change))
    if "name" not in change:
        assert answer(plan, DATABASE, trust=True) != answer(plan, with_(**change), trust=True)


@pytest.mark.parametrize("entry", [{"id": "vm-178"}, {"name": "database"}])
def test_a_refused_plan_doesnt_tell_what_is_there(entry: dict[str, str]) -> None:
    """Nothing, a template, or, of a name, two VMs: one answer."""
    plan = merged(PLAN, {"spec": {"vms": [entry]}})
    worlds = [[], [with_(template=True)]]
    if "name" in entry:
        worlds.append([DATABASE, with_(moref="vm-9", uuid=ANOTHER.uuid)])
    assert len({answer(plan, *vms) for vms in worlds}) == 1
    assert len({answer(plan, *vms, trust=True) for vms in worlds}) == len(worlds)


def test_a_pvc_doesnt_tell_whether_its_vmid_is_a_vm() -> None:
    wrong = pvc(uuid="4232eeee-0000-0000-0000-000000000009")
    worlds: list[list[VirtualMachine]] = [[], [DATABASE], [with_(template=True)], [with_(name="x")]]
    assert len({answer(wrong, *vms) for vms in worlds}) == 1


@pytest.mark.parametrize("twin", [{"moref": "vm-9", "name": "clone"}, None])
def test_a_proven_pvc_tells_nothing_of_other_vms(twin: dict[str, Any] | None) -> None:
    other = with_(**twin) if twin else ANOTHER
    for obj in (PVC, pvc(source="[x] y.vmdk"), pvc(uuid=DATABASE.instance_uuid)):
        assert answer(obj, DATABASE) == answer(obj, DATABASE, other)


def test_the_name_of_a_provider_is_told_to_who_may_know_it() -> None:
    for obj in (pvc(vm_id="vm-9"), pvc(uuid="4232eeee-0000-0000-0000-000000000009")):
        assert VSPHERE.encode() not in answer(obj, DATABASE)
    assert VSPHERE.encode() in answer(pvc(vm_id="vm-9"), DATABASE, trust=True)


def whole(*pvcs: dict[str, Any], **more: Any) -> Cluster:
    return Cluster(pvcs=[merged(one, BOUND) for one in pvcs], plan=PLAN, **more)


FOREIGN = merged(MIGRATION, {"metadata": {"namespace": "strangers"}})
WORLDS = [
    whole(),
    whole(PVC),
    whole(SECOND),
    whole(PVC, SECOND, merged(PVC, {"metadata": {"name": "again"}})),
    Cluster(plan=merged(PLAN, {"spec": {"vms": [{"id": "vm-7"}], "targetNamespace": "secret"}})),
    Cluster(plan=merged(PLAN, {"spec": {"vms": [{"id": "vm-7"}, {"name": "x"}, {"id": "vm-8"}]}})),
]


def test_a_foreign_plan_is_not_spoken_of() -> None:
    answers = {answer(FOREIGN, DATABASE, there=there) for there in WORLDS}
    assert len(answers) == 1
    said = answers.pop()
    for secret in (b"vm-178", b"vm-7", b"secret", b"migrated-workloads", VSPHERE.encode()):
        assert secret not in said
    told = {
        answer(merged(FOREIGN, {}), DATABASE, there=there, trust=True)
        for there in (msgspec.structs.replace(w, rights=(*w.rights, "get plans")) for w in WORLDS)
    }
    assert len(told) > 3


def test_a_plan_of_ones_own_namespace_is_told_without_counting_disks() -> None:
    one, none = (answer(MIGRATION, DATABASE, there=there) for there in (whole(PVC), whole()))
    assert one == none
    assert b"vm-178" in one


def test_a_migration_doesnt_tell_whether_a_foreign_plan_is_there() -> None:
    foreign = merged(MIGRATION, {"metadata": {"namespace": "strangers"}})
    cold = merged(PLAN, {"spec": {"type": "cold"}})
    worlds = [Cluster(rights=()), Cluster(plan=cold, rights=())]
    told = {answer(foreign, DATABASE, there=there) for there in worlds}
    assert len(told) == 1
    assert b"warnings" not in told.pop()


@pytest.mark.parametrize("vm", ["vm-178", None, ANOTHER.uuid])
@pytest.mark.parametrize("sees_providers", [False, True])
def test_a_conversion_doesnt_tell_whether_a_foreign_pvc_is_there(
    vm: str | None, sees_providers: bool
) -> None:
    """Of whichever kind of provider its VM seems to be: those of Hyper-V have a uuid for an id."""
    foreign = merged(
        CONVERSION, {"metadata": {"namespace": "strangers"}, "spec": {"vm": {"id": vm}}}
    )
    rights = ("get providers",) if sees_providers else ()
    of_another = merged(PVC, {"metadata": {"labels": {"vmID": "vm-900", "vmUUID": ANOTHER.uuid}}})
    unlabelled = merged(PVC, {"metadata": {"labels": {"vmUUID": None}}})
    worlds = [(), (PVC,), (SECOND,), (of_another,), (unlabelled,)]
    answers = {
        answer(
            foreign,
            DATABASE,
            others=[Vcenter("another", ANOTHER)],
            there=whole(*pvcs, rights=rights),
            trust=True,
        )
        for pvcs in worlds
    }
    assert len(answers) == 1
    told = {answer(foreign, DATABASE, there=whole(*pvcs), trust=True) for pvcs in worlds}
    assert len(told) > 2


@pytest.mark.parametrize(
    "names",
    [("luks", "disk-1"), ("luks", "vddk-conf"), ("a" * 64, "disk-1"), ("a" * 70, "b" * 90)],
)
def test_who_may_not_list_pvcs_counts_and_measures_none(names: tuple[str, str]) -> None:
    """Of the same two disks: which of them it is, whether both are, and how long its name is."""

    def told(first: str, second: str) -> bytes:
        pvcs = [
            merged(one, {**BOUND, "metadata": {"name": name}})
            for one, name in ((PVC, first), (SECOND, second))
        ]
        pods = dict.fromkeys((first, second), "pod")
        there = Cluster(pvcs=pvcs, plan=READY_PLAN, pods=pods)
        return answer(MIGRATION, DATABASE, there=there)

    assert told(*names) == told("vddk-vol-mount", "disk-1")


def test_a_pvc_that_proves_nothing_doesnt_tell_which_provider_has_its_vm() -> None:
    lone = pvc(uuid=None)
    away = Vcenter("z", DATABASE)
    away.inventory.lost("it is away", datetime.now(UTC))
    nobody = Vcenter("z")
    nobody.inventory.lost("it is away", datetime.now(UTC))
    assert answer(lone, others=[away]) == answer(lone, others=[nobody])


@pytest.mark.parametrize("right", ["", "create migrations", "get secrets"])
def test_readiness_tells_of_a_secret_who_may_know_it(right: str) -> None:
    luks = {"spec": {"vms": [{"id": "vm-178", "luks": {"name": "gone"}}]}}
    plan: Any = merged(READY_PLAN, luks)
    pvcs = [merged(one, BOUND) for one in (PVC, SECOND)]
    there = Cluster(pvcs=pvcs, plan=plan, rights=(right,))
    cluster = FixedCluster(there)
    inventory = Inventory([Vcenter(VSPHERE, DATABASE).inventory])
    sources = Sources(inventory, Policy(), lambda: 10_000.0, cluster.followed(), cluster)
    user = User("reader", proven=True)
    found = asyncio.run(readiness(NAMESPACE, "conversion-plan", plan, sources, user))
    assert ("no Secret" in str(found)) == bool(right)
    assert found.ready != bool(right)


def test_audit_annotations_are_part_of_the_answer() -> None:
    async def annotations(trust: bool) -> dict[str, str]:
        sources = Sources(
            Inventory([Vcenter(VSPHERE, DATABASE).inventory]), Policy(trust_network=trust), float
        )
        review = read_review(msgspec.json.encode(review_of(pvc(vm_id="vm-9"))))
        verdict = await decide(review, sources, asyncio.get_running_loop().time() + PATIENCE)
        assert isinstance(verdict, Denied)
        return verdict.audit

    assert "provider" not in asyncio.run(annotations(trust=False))
    assert asyncio.run(annotations(trust=True))["provider"] == f"{NAMESPACE}/{VSPHERE}"
