"""Which objects a VM touches, and what vSphere's news of it are."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, get_args

from webhook.errors import ObjectMalformed
from webhook.facts.lookup import look_up
from webhook.inventory.index import Index
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.model.forklift import Plan
from webhook.model.objects import KubeObject
from webhook.model.vms import Disk, VirtualMachine

Drift = Literal["moved", "resized", "snapshot", "added", "removed", "renamed", "uuid", "power"]
"""What has become of a VM or a disk of it."""
DRIFTS: tuple[Drift, ...] = get_args(Drift)

_BREATH = 1000  # VMs after which others on the same event loop have their turn


class Key(NamedTuple):
    """An object that is watched."""

    kind: str
    namespace: str
    name: str


class VmRef(NamedTuple):
    """How an object names a VM: by its moref or, without one, by its name or path."""

    moref: str
    name: str = ""


class Watched:
    """The objects, by the VMs that they name."""

    def __init__(self) -> None:
        self._by_vm: dict[VmRef, tuple[Key, ...]] = {}
        self._by_key: dict[Key, tuple[VmRef, ...]] = {}
        self.revision = 0
        """Another number after each change."""

    def put(self, key: Key, vms: Iterable[VmRef]) -> None:
        """`key` names these VMs, and no others."""
        now, before = tuple(dict.fromkeys(vms)), self._by_key.get(key, ())
        if now == before:
            return
        self.revision += 1
        for vm in before:
            if rest := tuple(other for other in self._by_vm[vm] if other != key):
                self._by_vm[vm] = rest
            else:
                del self._by_vm[vm]
        for vm in now:
            self._by_vm[vm] = (*self._by_vm.get(vm, ()), key)
        if now:
            self._by_key[key] = now
        else:
            self._by_key.pop(key, None)

    def touched(self, vms: Iterable[VmRef]) -> set[Key]:
        """The objects that name one of them."""
        return {key for vm in vms for key in self._by_vm.get(vm, ())}

    def beside(self, key: Key) -> set[Key]:
        """The objects that name a VM which `key` names, and itself."""
        return {key} | self.touched(self._by_key.get(key, ()))

    @property
    def vms(self) -> tuple[VmRef, ...]:
        """All that are named."""
        return tuple(self._by_vm)


def vms_of(plan: KubeObject) -> tuple[VmRef, ...]:
    """The VMs that a Plan names."""
    try:
        vms = Plan.of(plan).vms
    except ObjectMalformed:
        return ()
    return tuple(VmRef(vm.id, "" if vm.id else vm.name) for vm in vms if vm.id or vm.name)


class VmDrift(NamedTuple):
    """Of a VM that somebody names."""

    vm: VmRef
    what: tuple[Drift, ...]
    """Empty where it is nothing of these, such as the state of its Tools."""


_Records = tuple[VirtualMachine, ...]


class _LastLook:
    """What was there of one provider at the last look."""

    def __init__(self) -> None:
        self.index: Index | None = None
        self.revisions = -1, -1
        """Of the index, and of what is watched."""
        self.records: dict[VmRef, _Records] = {}


class Lookout:
    """Compares each VM that is named with what it was at the last look: whatever happened meanwhile
    to the connection, nothing is missed."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._seen: dict[str, _LastLook] = {}

    def begin(self, vms: Iterable[VmRef], inventory: Inventory) -> None:
        """From this moment on nothing that becomes of them is missed: call it before what names
        them is judged."""
        for provider in inventory.vsphere():
            if provider.synced:
                records = self._seen.setdefault(provider.name, _LastLook()).records
                for vm in vms:
                    records.setdefault(vm, _records(vm, provider.vms))

    async def known_to(self, provider: ProviderInventory) -> list[VmRef]:
        """The VMs that are named, and that it has."""
        found = []
        for count, vm in enumerate(self._watched.vms):
            if count % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
            if _records(vm, provider.vms):
                found.append(vm)
        return found

    async def look(self, inventory: Inventory) -> AsyncIterator[VmDrift]:
        """What is new since the last look, or since it began. Before that, nothing is."""
        for provider in inventory.vsphere():
            if not provider.synced:
                continue
            seen = self._seen.setdefault(provider.name, _LastLook())
            index, revisions = provider.vms, (provider.vms.revision, self._watched.revision)
            if seen.index is index and seen.revisions == revisions:
                continue
            seen.index, seen.revisions = index, revisions
            before, seen.records = seen.records, {}
            for count, vm in enumerate(self._watched.vms):
                if count % _BREATH == _BREATH - 1:
                    await asyncio.sleep(0)
                now = _records(vm, index)
                old = before.get(vm, seen.records.get(vm, now))
                seen.records[vm] = now
                if now != old:
                    yield VmDrift(vm, tuple(dict.fromkeys(_drifts(old, now))))


def _records(vm: VmRef, index: Index) -> _Records:
    if not vm.moref:
        return look_up("", vm.name, index).vms
    found = index.by_moref(vm.moref)
    return (found,) if found is not None else ()


def _drifts(old: _Records, new: _Records) -> Iterator[Drift]:
    there: Mapping[str, VirtualMachine] = {vm.moref: vm for vm in new}
    for before in old:
        now = there.get(before.moref)
        if now is None:
            yield "removed"
            continue
        if (now.uuid, now.instance_uuid) != (before.uuid, before.instance_uuid):
            yield "uuid"
        if now.name != before.name:
            yield "renamed"
        if now.power_state != before.power_state:
            yield "power"
        yield from _disk_drifts(before, now)
    if len(new) > len(old):
        yield "added"


def _disk_drifts(old: VirtualMachine, new: VirtualMachine) -> Iterator[Drift]:
    if old.disks == new.disks:
        return
    there: dict[int, Disk] = {disk.key: disk for disk in new.disks}
    for before in old.disks:
        now = there.pop(before.key, None)
        if now is None:
            yield "removed"
        elif now.source != before.source:
            yield "moved"
        elif now.file != before.file:
            yield "snapshot"
        if now is not None and now.capacity != before.capacity:
            yield "resized"
    if there:
        yield "added"
