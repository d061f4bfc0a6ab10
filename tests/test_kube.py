"""The index of labelled PVCs: by VM, whatever came in what order; and what is kept of one."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.cluster.objects import claim as decode
from webhook.cluster.objects import plan_type
from webhook.inventory.cluster import ARCHIVED, Claims, Table
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
    assert plan_type(msgspec.json.encode(plan)) == ("mtv/p", kept)


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
