"""A live source against the vCenter simulator: what it reads, follows, asks, and survives."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from tests.e2e.bed import (
    Vcsim,
    add_disk,
    destroy,
    eventually,
    find_vm,
    power_off,
    rename,
)
from tests.e2e.bed import wait_for as finished
from tests.live import following, fresh, live_address
from webhook.errors import VsphereUnreachable
from webhook.inventory.provider import ProviderInventory
from webhook.model.vms import VirtualMachine

pytestmark = pytest.mark.simulator


@pytest.fixture
def inventory(vcsim: Vcsim, tmp_path: Path) -> Iterator[ProviderInventory]:
    with following(live_address(vcsim, tmp_path)) as inventory:
        eventually(lambda: inventory.synced, "the first read")
        yield inventory


def _named(inventory: ProviderInventory, name: str) -> VirtualMachine:
    (vm,) = inventory.vms.named(name)
    return vm


def test_the_first_read_is_what_vsphere_says(vcsim: Vcsim, inventory: ProviderInventory) -> None:
    with vcsim.connect() as instance:
        for name in ("DC0_H0_VM0", "DC0_C0_RP0_VM1"):
            there = find_vm(instance, name)
            here = _named(inventory, name)
            disks: list[Any] = [
                device
                for device in there.config.hardware.device
                if isinstance(device, vim.vm.device.VirtualDisk)
            ]
            assert here.moref == there._moId
            assert here.uuid == there.config.uuid
            assert here.instance_uuid == there.config.instanceUuid
            assert here.connection_state == "connected"
            assert inventory.vms.path(here).endswith(f"/DC0/vm/{name}")
            assert [disk.file for disk in here.disks] == [disk.backing.fileName for disk in disks]
            assert {disk.bus for disk in here.disks} <= {"scsi", "ide"}
            assert all(disk.capacity > 0 and disk.backing == "FlatVer2" for disk in here.disks)
    assert len(inventory.vms) == 4


def test_changes_are_followed(vcsim: Vcsim, inventory: ProviderInventory) -> None:
    with vcsim.connect() as instance:
        vm = find_vm(instance, "DC0_H0_VM0")
        moref = vm._moId
        # First: the simulator forgets that a VM has gone in the same 20 ms as another changed.
        clone = finished(
            vm.Clone(vm.parent, "cloned", vim.vm.CloneSpec(location=vim.vm.RelocateSpec()))
        )
        eventually(lambda: inventory.vms.by_moref(clone._moId), "the clone")
        add_disk(vm, 1024, "[LocalDS_0] DC0_H0_VM0/hot.vmdk")
        eventually(lambda: len(_named(inventory, "DC0_H0_VM0").disks) == 2, "a disk was added")
        rename(vm, "renamed")
        eventually(lambda: inventory.vms.named("renamed"), "the new name")
        assert not inventory.vms.named("DC0_H0_VM0")
        power_off(vm)
        eventually(lambda: _named(inventory, "renamed").power_state == "poweredOff", "it is off")
        destroy(vm)
        eventually(lambda: inventory.vms.by_moref(moref) is None, "it is gone")


def test_a_fresh_read_finds_by_moref_uuid_and_name_and_nothing_else(
    inventory: ProviderInventory,
) -> None:
    vm = _named(inventory, "DC0_H0_VM0")
    other = _named(inventory, "DC0_H0_VM1")
    assert fresh(inventory, morefs=[vm.moref]) == (vm,)
    assert fresh(inventory, uuids=[vm.uuid.upper()]) == (vm,)
    assert fresh(inventory, uuids=[vm.instance_uuid]) == (vm,)
    assert fresh(inventory, names=["vm/DC0_H0_VM0"]) == (vm,)
    both = fresh(inventory, morefs=[vm.moref, "vm-99999", other.moref])
    assert set(both) == {vm, other}
    assert fresh(inventory, morefs=["vm-99999"], uuids=[vm.uuid[:-1] + "x"], names=["no"]) == ()
    assert fresh(inventory) == ()


def test_markup_in_a_moref_or_uuid_reaches_nobody(inventory: ProviderInventory) -> None:
    vm, other = _named(inventory, "DC0_H0_VM0"), _named(inventory, "DC0_H0_VM1")
    crafted = f'{vm.moref}</obj></objectSet><objectSet><obj type="VirtualMachine">{other.moref}'
    assert fresh(inventory, morefs=[crafted], uuids=[f"{vm.uuid}</uuid>"]) == ()


def test_an_outage_is_noticed_told_and_survived(
    vcsim: Vcsim, inventory: ProviderInventory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    vcsim.stop()
    eventually(lambda: inventory.unreachable_since, "the outage")
    eventually(lambda: "connection refused" in inventory.cause, "its cause")
    with pytest.raises(VsphereUnreachable, match="prod has been unreachable since 20"):
        fresh(inventory, morefs=["vm-1"])
    assert len(inventory.vms) == 4
    vcsim.start()
    eventually(lambda: inventory.unreachable_since is None, "it is back")
    assert len(inventory.vms) == 4
    # A line for each change of its state, not for each try.
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) <= 3


def test_a_wrong_password_is_tried_once_and_a_new_one_at_once(
    vcsim: Vcsim, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook.vsphere.source._PASSWORD_LOOKS", 0.05)
    wrong = "secret-canary-7c1e"
    with following(live_address(vcsim, tmp_path, password=wrong)) as inventory:
        eventually(lambda: inventory.unreachable_since, "the refusal")
        assert "user or password is wrong" in inventory.cause
        time_of_the_first = inventory.unreachable_since
        with pytest.raises(AssertionError):
            eventually(lambda: len(caplog.records) > 1, "a second try", 1)
        assert inventory.unreachable_since == time_of_the_first
        (tmp_path / "password").write_text(vcsim.password)
        eventually(lambda: inventory.synced, "the new password")
    assert wrong not in caplog.text
    assert vcsim.password not in caplog.text


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"ca_file": None}, "certificate is not trusted: .*set its CA"),
        ({"url": "https://127.0.0.1:1/sdk"}, "connection refused"),
        ({"url": "https://no.such.host.invalid/sdk"}, "name|not known|resolution"),
        ({"password_file": Path("/nowhere/password")}, "password file .*: No such file"),
    ],
    ids=["certificate", "refused", "name", "password-file"],
)
def test_the_cause_is_told_to_a_person(
    vcsim: Vcsim, tmp_path: Path, change: dict[str, Any], cause: str
) -> None:
    with following(live_address(vcsim, tmp_path, **change)) as inventory:
        eventually(lambda: inventory.unreachable_since, "the failure")
        with pytest.raises(VsphereUnreachable, match=cause):
            raise VsphereUnreachable(inventory.trouble)


def test_the_insecure_flag_takes_any_certificate(vcsim: Vcsim, tmp_path: Path) -> None:
    with following(live_address(vcsim, tmp_path, ca_file=None, insecure=True)) as inventory:
        eventually(lambda: inventory.synced, "the first read")


def test_stop_ends_a_blocked_wait_and_logs_out(vcsim: Vcsim, tmp_path: Path) -> None:
    with vcsim.connect() as instance:
        sessions = instance.RetrieveContent().sessionManager
        before = {session.key for session in sessions.sessionList}
        # With waits so long that no test would see the end of one.
        with following(live_address(vcsim, tmp_path), silence=12_000) as inventory:
            eventually(lambda: inventory.synced, "the first read")
            assert len({session.key for session in sessions.sessionList} - before) == 1
        assert {session.key for session in sessions.sessionList} == before
