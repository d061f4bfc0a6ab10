"""The VMs of one provider by moref, uuid and name.

Sources write (a live vSphere, a snapshot file), reviews read, without a lock: a record is frozen
and replaced whole, so a reader never sees half a VM.
"""

import difflib
from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from webhook.model.vms import Folder, VirtualMachine

_PATH_SEPARATOR_IN_NAMES = "%2f"  # vSphere's own spelling of a slash inside a name


class Vms(Protocol):
    """VMs of one provider that can be looked up, whichever way they are held."""

    def by_moref(self, moref: str) -> VirtualMachine | None: ...

    def by_uuid(self, uuid: str) -> tuple[VirtualMachine, ...]:
        """VMs whose config.uuid or config.instanceUuid is `uuid`, in any case of letters."""
        ...

    def by_name(self, name: str) -> tuple[VirtualMachine, ...]:
        """VMs of that name, or under that path's end (`folder/name`), as Forklift looks them up."""
        ...

    def like_name(self, name: str) -> tuple[VirtualMachine, ...]:
        """Up to three VMs whose names are spelled nearly so. Slow: it looks at every name."""
        ...

    def datacenter(self, vm: VirtualMachine) -> str:
        """The moref of the datacenter that `vm` is in; empty where that isn't known."""
        ...


class Index:
    """The VMs of one provider by moref, uuid and name."""

    def __init__(self, vms: Iterable[VirtualMachine] = (), folders: Iterable[Folder] = ()) -> None:
        self._vms: dict[str, VirtualMachine] = {}
        # Keys are lower-case uuids and last names; values are morefs. A stale moref in them is
        # harmless: every look-up checks the record itself.
        self._uuids: dict[str, tuple[str, ...]] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._folders: dict[str, Folder] = {folder.moref: folder for folder in folders}
        self.revision = 0
        """Another number after each change."""
        for vm in vms:
            self.put(vm)

    def __len__(self) -> int:
        return len(self._vms)

    def __iter__(self) -> Iterator[VirtualMachine]:
        return iter(tuple(self._vms.values()))

    def put(self, vm: VirtualMachine) -> None:
        """Add `vm`, or replace what was known of it."""
        self.revision += 1
        old = self._vms.get(vm.moref)
        for keys, table in ((_uuid_keys(vm), self._uuids), (_name_keys(vm), self._names)):
            for key in keys:
                table[key] = (*(m for m in table.get(key, ()) if m != vm.moref), vm.moref)
        self._vms[vm.moref] = vm
        if old is not None:
            self._forget(old, _uuid_keys(vm), _name_keys(vm))

    def drop(self, moref: str) -> None:
        """Forget a VM; one that isn't known is no error."""
        self.revision += 1
        old = self._vms.pop(moref, None)
        if old is not None:
            self._forget(old, (), ())

    def put_folder(self, folder: Folder) -> None:
        self.revision += 1
        self._folders[folder.moref] = folder

    def drop_folder(self, moref: str) -> None:
        self.revision += 1
        self._folders.pop(moref, None)

    def folder(self, moref: str) -> Folder | None:
        return self._folders.get(moref)

    @property
    def folders(self) -> tuple[Folder, ...]:
        return tuple(self._folders.values())

    @property
    def tables(self) -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]:
        """The look-up tables, for a test that nothing stale is left in them."""
        uuids, names = (
            {key: frozenset(morefs) for key, morefs in table.items()}
            for table in (self._uuids, self._names)
        )
        return uuids, names

    def by_moref(self, moref: str) -> VirtualMachine | None:
        return self._vms.get(moref)

    def by_uuid(self, uuid: str) -> tuple[VirtualMachine, ...]:
        found = self._records(self._uuids.get(uuid.lower(), ()))
        return tuple(vm for vm in found if uuid.lower() in _uuid_keys(vm))

    def by_name(self, name: str) -> tuple[VirtualMachine, ...]:
        wanted = name.strip("/").split("/")
        found = self._records(self._names.get(wanted[-1], ()))
        return tuple(
            vm for vm in found if self.path(vm).strip("/").split("/")[-len(wanted) :] == wanted
        )

    def like_name(self, name: str) -> tuple[VirtualMachine, ...]:
        close = difflib.get_close_matches(name, tuple(self._names), n=3, cutoff=0.8)
        return tuple(vm for other in close for vm in self.by_name(other))[:3]

    def datacenter(self, vm: VirtualMachine) -> str:
        """The moref of the datacenter that `vm` is in; empty where that isn't known."""
        above = (folder.moref for folder in self._above(vm))
        return next((moref for moref in above if moref.startswith("datacenter")), "")

    def path(self, vm: VirtualMachine) -> str:
        """`/DC/vm/folder/name`, as Forklift's inventory shows it."""
        names = [_plain(vm.name), *(_plain(folder.name) for folder in self._above(vm))]
        return "/" + "/".join(reversed(names))

    def _above(self, vm: VirtualMachine) -> Iterator[Folder]:
        """The folders that `vm` is in, from its own up."""
        parent = vm.parent
        for _ in range(64):  # a loop can only come from a file written by hand
            folder = self._folders.get(parent)
            if folder is None:
                return
            yield folder
            parent = folder.parent

    def _records(self, morefs: Iterable[str]) -> tuple[VirtualMachine, ...]:
        return tuple(vm for moref in morefs if (vm := self._vms.get(moref)) is not None)

    def _forget(self, old: VirtualMachine, uuids: Collection[str], names: Collection[str]) -> None:
        for keys, kept, table in (
            (_uuid_keys(old), uuids, self._uuids),
            (_name_keys(old), names, self._names),
        ):
            for key in keys:
                if key in kept:
                    continue
                if rest := tuple(m for m in table.get(key, ()) if m != old.moref):
                    table[key] = rest
                else:
                    table.pop(key, None)


def _uuid_keys(vm: VirtualMachine) -> tuple[str, ...]:
    return tuple({uuid.lower() for uuid in (vm.uuid, vm.instance_uuid) if uuid})


def _name_keys(vm: VirtualMachine) -> tuple[str, ...]:
    return (_plain(vm.name),)


def _plain(name: str) -> str:
    return name.replace(_PATH_SEPARATOR_IN_NAMES, "/").replace("%2F", "/").replace("%5c", "\\")
