"""The VMs of one provider by moref, uuid and name, and what a fresh read says laid over them.

Sources write (a live vSphere, a snapshot file), reviews read, without a lock: a record is frozen
and replaced whole, so a reader never sees half a VM.
"""

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Literal

from webhook.model.vms import Folder, VirtualMachine

ROOTS = frozenset({"group-d1", "ha-folder-root"})
"""Every vCenter's root folder, and every ESXi host's: no part of a path."""
_LONGEST_NAME = 80
"""Characters that vSphere lets a VM's name have."""
_TYPED = "abcdefghijklmnopqrstuvwxyz0123456789-_. "


class Fresh(tuple[VirtualMachine, ...]):
    """VMs as a fresh read found them, and the folders that were read with them."""

    folders: tuple[Folder, ...] = ()


class Vms:
    """VMs that can be looked up: all of `below`, but for those in `read`, and these `vms`."""

    def __init__(
        self,
        vms: Iterable[VirtualMachine] = (),
        folders: Iterable[Folder] = (),
        below: "Vms | None" = None,
        read: Collection[str] = (),
    ) -> None:
        self._vms: dict[str, VirtualMachine] = {}
        # Keys are lower-case uuids and case-folded names; values are morefs. A stale moref in them
        # is harmless: every look-up checks the record itself.
        self._uuids: dict[str, tuple[str, ...]] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._folders: dict[str, Folder] = {folder.moref: folder for folder in folders}
        self._below = below
        for vm in vms:
            self._add(vm)
        self._read = frozenset(read).union(self._vms) if below is not None else frozenset[str]()

    def by_moref(self, moref: str) -> VirtualMachine | None:
        if self._below is not None and moref not in self._read:
            return self._below.by_moref(moref)
        return self._vms.get(moref)

    def by_uuid(self, uuid: str) -> tuple[VirtualMachine, ...]:
        """VMs whose config.uuid or config.instanceUuid is `uuid`, in any case of letters."""
        found = self._records("_uuids", uuid.lower())
        return tuple(vm for vm in found if uuid.lower() in _uuid_keys(vm))

    def named(self, name: str) -> tuple[VirtualMachine, ...]:
        """VMs of exactly this name, wherever they are; templates and ghosts, too."""
        return tuple(vm for vm in self._records("_names", name.casefold()) if vm.name == name)

    def folder(self, moref: str) -> Folder | None:
        found = self._folders.get(moref)
        if found is None and self._below is not None:
            return self._below.folder(moref)
        return found

    def above(self, vm: VirtualMachine) -> Iterator[Folder]:
        """The folders and the datacenter that `vm` is in, from its own up, without the root."""
        parent = vm.parent
        for _ in range(64):  # a loop can only come from a file written by hand
            folder = self.folder(parent)
            if folder is None or folder.moref in ROOTS:
                return
            yield folder
            parent = folder.parent

    def folders_of(self, vm: VirtualMachine) -> tuple[str, ...]:
        """Their names."""
        return tuple(folder.name for folder in self.above(vm))

    def datacenter(self, vm: VirtualMachine) -> str:
        """The moref of the datacenter that `vm` is in; empty where that isn't known."""
        above = (folder.moref for folder in self.above(vm))
        return next((moref for moref in above if moref.startswith("datacenter")), "")

    def path(self, vm: VirtualMachine) -> str:
        """`/DC/vm/folder/name`, as Forklift's inventory shows it."""
        return "/" + "/".join([*reversed(self.folders_of(vm)), vm.name])

    def with_fresh(self, read: Collection[str], fresh: Iterable[VirtualMachine]) -> "Vms":
        """These VMs with what a fresh read has found laid over them, its folders included.

        `read`: the morefs that were asked for; those of them not in `fresh` are gone.
        """
        folders = fresh.folders if isinstance(fresh, Fresh) else ()
        return Vms(fresh, folders, self, read)

    def _add(self, vm: VirtualMachine) -> None:
        for keys, table in ((_uuid_keys(vm), self._uuids), (_name_keys(vm), self._names)):
            for key in keys:
                table[key] = (*(m for m in table.get(key, ()) if m != vm.moref), vm.moref)
        self._vms[vm.moref] = vm

    def _records(self, table: Literal["_uuids", "_names"], key: str) -> tuple[VirtualMachine, ...]:
        """What may be found under a key of one of the tables, to be looked at itself."""
        morefs: tuple[str, ...] = getattr(self, table).get(key, ())
        if not morefs and self._below is None:
            return ()
        own = tuple(vm for moref in morefs if (vm := self._vms.get(moref)) is not None)
        if self._below is None:
            return own
        below = self._below._records(table, key)
        return (*(vm for vm in below if vm.moref not in self._read), *own)


class Index(Vms):
    """All VMs of one provider, as they change."""

    def __init__(self, vms: Iterable[VirtualMachine] = (), folders: Iterable[Folder] = ()) -> None:
        super().__init__(vms, folders)
        self.revision = 0
        """Another number after each change."""

    def __len__(self) -> int:
        return len(self._vms)

    def __iter__(self) -> Iterator[VirtualMachine]:
        return iter(tuple(self._vms.values()))

    def near(self, name: str, limit: int = 3) -> tuple[VirtualMachine, ...]:
        """Up to `limit` VMs of other names, one slip or the case of letters away from `name`.

        As quick with a hundred thousand VMs as with ten: not the names are gone through, but the
        slips that one may make.
        """
        names = self._names
        close = (slip for slip in _slips(name) if slip in names)
        found = (vm for slip in dict.fromkeys(close) for vm in self._records("_names", slip))
        return tuple(islice((vm for vm in found if vm.name != name), limit))

    def put(self, vm: VirtualMachine) -> None:
        """Add `vm`, or replace what was known of it."""
        self.revision += 1
        old = self._vms.get(vm.moref)
        self._add(vm)
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


def _slips(name: str) -> Iterator[str]:
    """`name` in any case of letters, and all that one slip makes of it: two letters swapped, one
    dropped, put in or taken for another."""
    name = name.casefold()
    if len(name) > _LONGEST_NAME:
        return
    letters = "".join(dict.fromkeys(name + _TYPED))
    yield name
    for at in range(len(name) + 1):
        head, tail, rest = name[:at], name[at:], name[at + 1 :]
        yield head + rest
        yield head + rest[:1] + tail[:1] + rest[1:]
        for letter in letters:
            yield head + letter + tail
            yield head + letter + rest


def _uuid_keys(vm: VirtualMachine) -> tuple[str, ...]:
    return tuple({_same(uuid, uuid.lower()) for uuid in (vm.uuid, vm.instance_uuid) if uuid})


def _name_keys(vm: VirtualMachine) -> tuple[str, ...]:
    return (_same(vm.name, vm.name.casefold()),)


def _same(text: str, key: str) -> str:
    """`key`, as the very object that the record holds where they are equal: less memory."""
    return text if key == text else key
