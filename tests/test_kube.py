"""The index of labelled PVCs: by VM, whatever came in what order; and what is kept of one."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.cluster.objects import claim as decode
from webhook.cluster.objects import kept_plan
from webhook.inventory.cluster import Claims, Table
from webhook.model.forklift import ARCHIVED, KeptPlan
from webhook.model.keys import DISK_SOURCE, VM_ID, VM_UUID
from webhook.model.objects import Claim

_NAMES = st.sampled_from(["a", "b", "c"])
_CLAIMS = st.builds(
    Claim,
    namespace=st.just("team"),
    name=_NAMES,
    vm_id=st.sampled_from(["vm-1", "vm-2"]),
    vm_uuid=st.just("u"),
    disk_source=st.sampled_from(["[ds] a.vmdk", "[ds] b.vmdk"]),
    terminating=st.booleans(),
)


@given(st.lists(_CLAIMS | _NAMES))
def test_any_order_of_changes_gives_the_same_index(changes: list[Claim | str]) -> None:
    claims, truth = Claims(), dict[str, Claim]()
    for change in changes:
        if isinstance(change, Claim):
            claims.put(change.name, change)
            truth[change.name] = change
        else:
            claims.drop(change)
            truth.pop(change, None)
    assert claims.keys() == set(truth)
    assert len(claims) == len(truth)
    for claim in truth.values():
        same = {name for name, other in truth.items() if other.vm == claim.vm}
        assert {other.name for other in claims.of(*claim.vm)} == same
    assert len(claims._vms) == len({claim.vm for claim in truth.values()})


def test_a_table_knows_its_age() -> None:
    table: Table[str] = Table()
    assert table.age(100.0) == math.inf
    assert not table.synced
    assert table.known() is None
    table.heard(90.0)
    assert (table.age(100.0), table.age(80.0), table.synced) == (10.0, 0.0, True)
    assert table.known() == {}
    table.heard(None)
    assert table.age(1e9) == 0.0


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        ({"type": "conversion", "vms": [{"id": "vm-1"}]}, "conversion"),
        ({"type": "conversion", "archived": False}, "conversion"),
        ({"type": "conversion", "archived": True}, ARCHIVED),
        ({"warm": True}, ""),
    ],
)
def test_what_is_kept_of_a_plan(spec: dict[str, Any], kept: str) -> None:
    plan = {"metadata": {"name": "p", "namespace": "mtv"}, "spec": spec}
    key, found = kept_plan(msgspec.json.encode(plan))
    assert (key, found.type, found.converts) == ("mtv/p", kept, kept == "conversion")


_EXECUTES = [{"type": "Executing", "status": "True"}]
_SUCCEEDED = [{"type": "Succeeded", "status": "True"}]


@pytest.mark.parametrize(
    ("conditions", "progress", "running", "done"),
    [
        ([], [], [], []),
        ([], [{"id": "vm-1", "name": "a", "completed": "t"}], [], []),
        ([], [{"id": "vm-1", "conditions": _SUCCEEDED}], [], ["vm-1"]),
        (_EXECUTES, [{"id": "vm-1", "name": "a", "completed": "t"}], [], ["vm-1"]),
        (
            _EXECUTES,
            [{"id": "vm-2", "name": "b"}, {"id": "vm-3", "name": "taken out"}],
            [("vm-2", "b"), ("vm-3", "taken out")],
            [],
        ),
    ],
    ids=["new", "failed before", "succeeded", "failed now", "edited"],
)
def test_what_is_kept_of_the_vms_of_a_plan(
    conditions: list[Any], progress: list[Any], running: list[tuple[str, str]], done: list[str]
) -> None:
    plan = {
        "metadata": {"name": "p", "namespace": "mtv"},
        "spec": {
            "type": "conversion",
            "targetNamespace": "there",
            "provider": {"source": {"name": "vc", "namespace": "mtv"}},
            "vms": [{"id": "vm-1", "name": "a"}, {"name": "b"}],
        },
        "status": {"conditions": conditions, "migration": {"vms": progress}},
    }
    _, found = kept_plan(msgspec.json.encode(plan))
    assert found.vms == (("vm-1", "a"), ("", "b"))
    assert (list(found.running), sorted(found.done)) == (running, done)
    assert (found.target_namespace, str(found.source)) == ("there", "mtv/vc")


@pytest.mark.parametrize("spec", [{"vms": 7}, {"vms": ["x"]}, {"provider": 7}, {"vms": [None]}])
def test_a_plan_that_cannot_be_read_is_kept_as_a_conversion(spec: dict[str, Any]) -> None:
    plan = {"metadata": {"name": "p", "namespace": "mtv"}, "spec": {"type": "conversion", **spec}}
    assert kept_plan(msgspec.json.encode(plan)) == ("mtv/p", KeptPlan("conversion"))


def test_what_is_kept_of_a_pvc() -> None:
    pvc = {
        "metadata": {
            "name": "disk-0",
            "namespace": "team",
            "deletionTimestamp": "2026-11-24T00:00:00Z",
            "labels": {VM_ID: "vm-1", VM_UUID: "u", "app": "x"},
            "annotations": {DISK_SOURCE: "[ds] vm/disk-000002.vmdk", "other": "y"},
        },
        "spec": {"resources": {}},
    }
    key, claim = decode(msgspec.json.encode(pvc))
    assert key == "team/disk-0"
    assert claim == Claim(
        "team", "disk-0", "vm-1", "u", "[ds] vm/disk-000002.vmdk", terminating=True
    )
    assert (claim.vm, claim.source) == (("team", "vm-1", "u"), "[ds] vm/disk.vmdk")
