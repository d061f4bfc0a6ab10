"""The index: look-ups as Forklift's, replacement whole, and snapshot files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from webhook.errors import SnapshotInvalid
from webhook.inventory.index import Index
from webhook.inventory.overlay import Overlay
from webhook.inventory.provider import ProviderInventory
from webhook.inventory.snapshot import dump_snapshot, load_snapshot
from webhook.model.objects import Provider
from webhook.model.vms import Disk, Folder, VirtualMachine

FOLDERS = (
    Folder("group-d1", "Datacenters"),
    Folder("dc-2", "DC0", "group-d1"),
    Folder("group-v3", "vm", "dc-2"),
    Folder("group-v4", "web%2fshop", "group-v3"),
)
WEB = VirtualMachine("vm-1", "web", "aaaa", "bbbb", parent="group-v3")
SHOP = VirtualMachine("vm-2", "web", "cccc", "dddd", parent="group-v4")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("web", {"vm-1", "vm-2"}),
        ("vm/web", {"vm-1"}),
        ("/DC0/vm/web", {"vm-1"}),
        ("web/shop/web", {"vm-2"}),
        ("Web", set()),
        ("eb", set()),
        ("other/web", set()),
    ],
)
def test_a_name_or_the_end_of_a_path_finds_a_vm(name: str, found: set[str]) -> None:
    index = Index([WEB, SHOP], FOLDERS)
    assert {vm.moref for vm in index.by_name(name)} == found


def test_a_path_is_the_one_that_forklift_shows() -> None:
    assert Index([WEB, SHOP], FOLDERS).path(SHOP) == "/Datacenters/DC0/vm/web/shop/web"


def test_a_uuid_is_found_in_any_case_and_by_either_kind() -> None:
    index = Index([WEB])
    assert index.by_uuid("AAAA") == index.by_uuid("bBbB") == (WEB,)
    assert index.by_uuid("eeee") == ()


def test_a_replaced_vm_is_found_by_what_it_is_now_only() -> None:
    index = Index([WEB])
    index.put(msgspec.structs.replace(WEB, name="shop", uuid="eeee"))
    assert index.by_name("web") == index.by_uuid("aaaa") == ()
    assert len(index.by_name("shop")) == len(index.by_uuid("eeee")) == len(index) == 1


_morefs = st.sampled_from(["vm-1", "vm-2", "vm-3"])
_texts = st.sampled_from(["", "a", "b", "A", "x%2fy"])
_vms = st.builds(VirtualMachine, _morefs, _texts, _texts, _texts)


@given(st.lists(_vms | _morefs, max_size=30))
def test_any_order_of_changes_gives_the_index_of_a_full_read(changes: list[object]) -> None:
    index, truth = Index(), dict[str, VirtualMachine]()
    for change in changes:
        if isinstance(change, VirtualMachine):
            index.put(change)
            truth[change.moref] = change
        else:
            index.drop(str(change))
            truth.pop(str(change), None)
    whole = Index(truth.values())
    assert set(index) == set(whole)
    for key in ("", "a", "b", "A", "x/y"):
        assert set(index.by_uuid(key)) == set(whole.by_uuid(key))
        assert set(index.by_name(key)) == set(whole.by_name(key))
    assert index.tables == whole.tables


def test_an_overlay_shows_the_fresh_read_and_forgets_what_was_not_found() -> None:
    fresh = msgspec.structs.replace(WEB, name="renamed")
    view = Overlay(Index([WEB, SHOP]), {"vm-1", "vm-2"}, [fresh])
    assert view.by_moref("vm-1") == fresh
    assert view.by_moref("vm-2") is None
    assert view.by_name("web") == view.by_uuid("cccc") == ()
    assert view.by_name("renamed") == view.by_uuid("aaaa") == (fresh,)


NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def _load(tmp_path: Path, text: str) -> tuple[ProviderInventory, ...]:
    (tmp_path / "s.yaml").write_text(text)
    return load_snapshot(tmp_path / "s.yaml", wall=NOW, monotonic=1000.0)


_TEXT = st.text(max_size=20)
_DISKS = st.builds(
    Disk, file=_TEXT, capacity=st.integers(0, 2**62), bus=_TEXT, shared=st.booleans()
)
_VMS = st.lists(
    st.builds(
        VirtualMachine,
        moref=_TEXT,
        name=_TEXT,
        uuid=_TEXT,
        template=st.booleans(),
        ip_address=_TEXT,
        disks=st.lists(_DISKS, max_size=3).map(tuple),
    ),
    max_size=4,
    unique_by=lambda vm: vm.moref,
)
_FOLDERS = st.lists(st.builds(Folder, moref=_TEXT, name=_TEXT, parent=_TEXT), max_size=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    vms=_VMS,
    folders=_FOLDERS,
    age=st.none() | st.floats(0, 10**6),
    as_yaml=st.booleans(),
)
def test_a_snapshot_reads_back_exactly(
    tmp_path: Path, vms: Any, folders: Any, age: float | None, as_yaml: bool
) -> None:
    before = ProviderInventory(Provider("mtv", "prod"))
    before.vms = Index(vms, folders)
    before.heard(None if age is None else 10.0**7 - age)
    other = ProviderInventory(Provider("mtv", "lab", "openstack"))
    file = tmp_path / "snapshot"
    now = datetime(2026, 11, 24, tzinfo=UTC)
    file.write_bytes(dump_snapshot((before, other), wall=now, monotonic=10.0**7, as_yaml=as_yaml))
    after, lab = load_snapshot(file, wall=now, monotonic=10.0**7)
    assert lab.provider == other.provider
    assert after.provider == before.provider
    assert list(after.vms) == list(before.vms)
    assert after.vms.folders == before.vms.folders
    assert after.age(10.0**7) == pytest.approx(before.age(10.0**7), abs=1e-5)


def test_a_snapshot_without_a_time_is_current_for_good(tmp_path: Path) -> None:
    (provider,) = _load(tmp_path, "providers: [{namespace: a, name: b, vms: [{moref: vm-1}]}]")
    assert provider.synced
    assert provider.age(10**9) == 0
    assert provider.provider == Provider("a", "b", "vsphere")


@pytest.mark.parametrize(
    "text",
    [
        "providers: [{namespace: a, name: b, readAt: 2026-11-24T11:55:00Z}]",
        "providers: [{namespace: a, name: b, readAt: '2026-11-24T12:55:00+01:00'}]",
        '{"providers": [{"namespace": "a", "name": "b", "readAt": "2026-11-24T11:55:00Z"}]}',
    ],
)
def test_a_snapshot_is_as_old_as_it_says(tmp_path: Path, text: str) -> None:
    (provider,) = _load(tmp_path, text)
    assert provider.age(1010.0) == pytest.approx(310)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("providers: {", "s.yaml"),
        ("{}", "providers"),
        ('{"providers": 7}', "providers"),
        ("providers: [{namespace: a, name: b, readAt: 2026-11-24T11:55:00}]", "readAt"),
        ("providers: [{namespace: a, name: b, vms: [{name: x}]}]", "moref"),
        ("providers: [{namespace: a, name: b, vms: [{moref: x, uid: y}]}]", "uid"),
        ("providers: [{namespace: a, name: b, vms: [{moref: x, disks: [{file: f}]}]}]", "capacity"),
        ("providers: [{namespace: a, name: b, vms: [{moref: x}, {moref: x}]}]", "twice"),
    ],
)
def test_a_bad_snapshot_is_refused_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SnapshotInvalid, match=says) as error:
        _load(tmp_path, text)
    assert "s.yaml" in str(error.value)


def test_a_missing_snapshot_is_named(tmp_path: Path) -> None:
    with pytest.raises(SnapshotInvalid, match=r"none\.yaml: No such file"):
        load_snapshot(tmp_path / "none.yaml", wall=NOW, monotonic=0.0)


def test_freshness_is_told_with_its_cause() -> None:
    provider = ProviderInventory(Provider("a", "b"))
    assert "first read" in provider.trouble
    provider.lost("connection refused", NOW)
    provider.lost("timed out", NOW + timedelta(hours=1))
    assert provider.trouble == "provider a/b is unreachable since 2026-11-24T12:00:00Z (timed out)"
    provider.heard(5.0)
    assert provider.unreachable_since is None
    assert provider.age(7.0) == 2.0
