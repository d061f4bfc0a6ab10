"""The index: look-ups as Forklift's, replacement whole, and snapshot files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.errors import SnapshotInvalid
from webhook.inventory.index import Fresh, Index
from webhook.inventory.provider import ProviderInventory
from webhook.inventory.snapshot import dump_snapshot, load_snapshot
from webhook.model.objects import Provider
from webhook.model.vms import Disk, Folder, VirtualMachine

FOLDERS = (
    Folder("group-d1", "Datacenters"),
    Folder("dc-2", "DC0", "group-d1"),
    Folder("group-v3", "vm", "dc-2"),
    Folder("group-v4", "web/shop", "group-v3"),
)
WEB = VirtualMachine("vm-1", "web", "aaaa", "bbbb", parent="group-v3")
SHOP = VirtualMachine("vm-2", "web", "cccc", "dddd", parent="group-v4")


def test_a_path_is_the_one_that_forklift_shows() -> None:
    assert Index([WEB, SHOP], FOLDERS).path(SHOP) == "/DC0/vm/web/shop/web"


def test_a_uuid_is_found_in_any_case_and_by_either_kind() -> None:
    index = Index([WEB])
    assert index.by_uuid("AAAA") == index.by_uuid("bBbB") == (WEB,)
    assert index.by_uuid("eeee") == ()


def test_a_replaced_vm_is_found_by_what_it_is_now_only() -> None:
    index = Index([WEB])
    index.put(msgspec.structs.replace(WEB, name="shop", uuid="eeee"))
    assert index.named("web") == index.by_uuid("aaaa") == ()
    assert len(index.named("shop")) == len(index.by_uuid("eeee")) == len(index) == 1


_morefs = st.sampled_from(["vm-1", "vm-2", "vm-3"])
_texts = st.sampled_from(["", "a", "b", "A", "x/y"])
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
        assert set(index.named(key)) == set(whole.named(key))
    assert index.tables == whole.tables


def test_a_name_is_found_whole_whatever_is_in_it() -> None:
    slash, other = VirtualMachine("vm-1", "a/b"), VirtualMachine("vm-2", "b")
    index = Index([slash, other])
    assert index.named("a/b") == (slash,)
    assert index.named("b") == (other,)
    assert index.named("B") == index.named("a") == index.named("") == ()


def test_the_root_folder_is_no_part_of_a_path() -> None:
    index = Index([SHOP], FOLDERS)
    assert index.folders_of(SHOP) == ("web/shop", "vm", "DC0")
    assert index.folders_of(VirtualMachine("vm-9", parent="group-v99")) == ()


def test_a_fresh_read_lies_over_what_is_known_and_hides_what_it_did_not_find() -> None:
    fresh = msgspec.structs.replace(WEB, name="renamed")
    view = Index([WEB, SHOP], FOLDERS).with_fresh({"vm-1", "vm-2"}, [fresh])
    assert view.by_moref("vm-1") == fresh
    assert view.by_moref("vm-2") is None
    assert view.named("web") == view.by_uuid("cccc") == ()
    assert view.named("renamed") == view.by_uuid("aaaa") == (fresh,)
    assert view.folders_of(fresh) == ("vm", "DC0")


def test_a_fresh_read_brings_the_folders_that_it_read() -> None:
    moved = Fresh([msgspec.structs.replace(WEB, parent="group-v5")])
    moved.folders = (Folder("group-v5", "new", "group-v3"), Folder("group-v3", "vms", "dc-2"))
    index = Index([WEB, SHOP], FOLDERS)
    view = index.with_fresh((), moved)
    assert view.folders_of(moved[0]) == ("new", "vms", "DC0")
    assert view.folders_of(SHOP) == ("web/shop", "vms", "DC0")
    assert index.folders_of(SHOP) == ("web/shop", "vm", "DC0")


_folders = st.builds(
    Folder, st.sampled_from(["group-1", "group-2"]), _texts, st.sampled_from(["", "group-1"])
)
_placed = st.builds(
    VirtualMachine, _morefs, _texts, _texts, _texts, st.sampled_from(["", "group-1", "group-2"])
)


@given(st.lists(_placed), st.lists(_folders), st.sets(_morefs), st.lists(_placed))
def test_a_fresh_read_shows_what_a_new_index_of_the_truth_would(
    known: list[VirtualMachine],
    folders: list[Folder],
    read: set[str],
    found: list[VirtualMachine],
) -> None:
    before, fresh = Index(known, folders), {vm.moref: vm for vm in found}
    hidden = read | fresh.keys()
    truth = Index([*(vm for vm in before if vm.moref not in hidden), *fresh.values()], folders)
    view = before.with_fresh(read, fresh.values())
    for moref in ("vm-1", "vm-2", "vm-3", "vm-4"):
        vm = truth.by_moref(moref)
        assert view.by_moref(moref) == vm
        assert vm is None or view.folders_of(vm) == truth.folders_of(vm)
    for key in ("", "a", "b", "A", "x/y"):
        assert set(view.by_uuid(key)) == set(truth.by_uuid(key))
        assert set(view.named(key)) == set(truth.named(key))


@pytest.mark.parametrize(
    ("slip", "found"),
    [
        ("databse-01", True),
        ("database-011", True),
        ("databaes-01", True),
        ("database_01", True),
        ("Database-01", True),
        ("database-01", False),
        ("datbse-01", False),
        ("", False),
        ("database-01" * 9, False),
    ],
)
def test_a_near_name_is_one_slip_away(slip: str, found: bool) -> None:
    vm = VirtualMachine("vm-7", "database-01")
    assert Index([vm, WEB]).near(slip) == ((vm,) if found else ())


def test_of_near_names_no_more_than_three_are_told() -> None:
    index = Index([VirtualMachine(f"vm-{n}", f"web-{n}") for n in range(9)])
    assert len({vm.moref for vm in index.near("web-x")}) == 3


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


def test_a_clock_that_is_a_little_ahead_makes_no_age_below_0(tmp_path: Path) -> None:
    text = "providers: [{namespace: a, name: b, readAt: 2026-11-24T12:05:00Z}]"
    (provider,) = _load(tmp_path, text)
    assert provider.age(1000.0) == 0
    assert provider.age(1010.0) == 10, "and from then on it gets older"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("providers: [{namespace: a, name: b, readAt: 2026-11-24T12:05:01Z}]", "in the future"),
        ("providers: [{namespace: a, name: b, readAt: 9999-12-31T23:59:59Z}]", "in the future"),
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
    assert (
        provider.trouble
        == "provider a/b has been unreachable since 2026-11-24T12:00:00Z (timed out)"
    )
    provider.heard(5.0)
    assert provider.unreachable_since is None
    assert provider.age(7.0) == 2.0
