"""What the simulators and the API server say themselves, and since when it is so."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any

import pyVmomi

from tests.e2e.bed import Vcsim, add_disk, wait_for
from tests.e2e.faults.oracle import Truth
from tests.e2e.world import Vm
from tests.proxy import Proxy

vim: Any = pyVmomi.vim
vmodl: Any = pyVmomi.vmodl


@dataclass
class Vcenter:
    """A simulator, asked by a way that no fault is on."""

    provider: str
    vcsim: Vcsim
    proxy: Proxy
    """By which the guards reach it."""
    vms: list[Vm]
    """As they were at first; a disk that comes later is in `more`."""
    instance: Any
    more: dict[str, list[str]] = field(default_factory=dict)
    """By moref: disks that came and are there."""
    gone: dict[str, float] = field(default_factory=dict)
    """Disks that came and went, each under a name of its own: when."""
    last: Vm | None = None
    """Of which a disk came or went just now."""
    _changes: Counter[str] = field(default_factory=Counter)

    def version(self, moref: str) -> int:
        """Of this VM: see Truth."""
        return self._changes[moref]

    def read(self, moref: str) -> tuple[str, frozenset[str]] | None:
        """The uuid and the disks of a VM as it is now; None where there is none."""
        try:
            config = self._vm(moref).config
        except vmodl.fault.ManagedObjectNotFound:
            return None
        disks = (d for d in config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk))
        return config.uuid, frozenset(disk.backing.fileName for disk in disks)

    def add(self, vm: Vm, name: str) -> None:
        """A disk that wasn't there before."""
        with self._changing(vm):
            add_disk(self._vm(vm.moref), 1024, name)
        self.more.setdefault(vm.moref, []).append(name)

    def remove(self, vm: Vm) -> None:
        """One of those that came."""
        name = self.more[vm.moref].pop(0)
        found = self._vm(vm.moref)
        disk = next(
            d
            for d in found.config.hardware.device
            if isinstance(d, vim.vm.device.VirtualDisk) and d.backing.fileName == name
        )
        change = vim.vm.device.VirtualDeviceSpec(operation="remove", device=disk)
        with self._changing(vm):
            wait_for(found.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
            self.gone[name] = time.monotonic()

    @contextmanager
    def _changing(self, vm: Vm) -> Iterator[None]:
        self._changes[vm.moref] += 1
        yield
        self._changes[vm.moref] += 1
        self.last = vm

    def _vm(self, moref: str) -> Any:
        return vim.VirtualMachine(moref, self.instance._stub)


def of_disk(vcenters: Iterable[Vcenter], moref: str, uuid: str, source: str) -> Truth:
    """Whether a VM of any of them is just that one, and has that disk."""
    since: float | None = -inf
    versions: list[int] = []
    for vcenter in vcenters:
        versions.append(vcenter.version(moref))
        found = vcenter.read(moref)
        gone = vcenter.gone.get(source, -inf)
        versions.append(vcenter.version(moref))
        if found is not None and found[0] == uuid:
            since = None if source in found[1] else gone
    return Truth(vsphere=since, versions=tuple(versions))


def of_set(vcenter: Vcenter, moref: str, claimed: frozenset[str]) -> Truth:
    """Whether these are the VM's disks: all of them, and no others."""
    before = vcenter.version(moref)
    found = vcenter.read(moref)
    right = found is not None and found[1] == claimed
    return Truth(None if right else -inf, versions=(before, vcenter.version(moref)))


def of_vm(vcenter: Vcenter, moref: str) -> Truth:
    """Whether it has such a VM."""
    return Truth(None if vcenter.read(moref) is not None else -inf)
