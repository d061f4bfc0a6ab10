"""A fresh read laid over what is known."""

from collections.abc import Collection, Iterable

from webhook.inventory.index import Index, Vms
from webhook.model.vms import VirtualMachine


class Overlay:
    """`base`, with what a fresh read just said of some VMs laid over it."""

    def __init__(self, base: Vms, read: Collection[str], fresh: Iterable[VirtualMachine]) -> None:
        """`read`: the morefs that were asked for; those of them not in `fresh` are gone."""
        self._base = base
        self._fresh = {vm.moref: vm for vm in fresh}
        self._read = frozenset(read) | self._fresh.keys()
        self._index = Index(self._fresh.values())

    def by_moref(self, moref: str) -> VirtualMachine | None:
        return self._fresh.get(moref) if moref in self._read else self._base.by_moref(moref)

    def by_uuid(self, uuid: str) -> tuple[VirtualMachine, ...]:
        return self._merge(self._base.by_uuid(uuid), self._index.by_uuid(uuid))

    def by_name(self, name: str) -> tuple[VirtualMachine, ...]:
        return self._merge(self._base.by_name(name), self._index.by_name(name))

    def like_name(self, name: str) -> tuple[VirtualMachine, ...]:
        return self._base.like_name(name)

    def datacenter(self, vm: VirtualMachine) -> str:
        return self._base.datacenter(vm)

    def _merge(
        self, known: tuple[VirtualMachine, ...], fresh: tuple[VirtualMachine, ...]
    ) -> tuple[VirtualMachine, ...]:
        return (*(vm for vm in known if vm.moref not in self._read), *fresh)
