"""How people and tools write a VM's id, its uuid and a disk's file; Forklift takes one form only.

Each is recognised by its form alone, whatever vSphere says: what may be meant, and how to say it.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import msgspec

from webhook.model.keys import UUID
from webhook.model.vms import Disk, VirtualMachine, trim_backing_file

_POWERCLI = "VirtualMachine-"
_LABEL = 63  # characters: what is longer is never stored, and not worth keeping
_HEX = re.compile(r"[0-9a-f]{32}", re.ASCII | re.IGNORECASE)
_NO_DIGITS = re.compile(r"[\s{}-]", re.ASCII)
# The files behind a disk's descriptor: its data, and the list of its changed blocks.
_EXTENT = re.compile(r"-(flat|ctk|delta|sesparse|rdmp?)\.vmdk$", re.ASCII | re.IGNORECASE)
_ON_A_HOST = re.compile(r"(?:ds://)?/vmfs/volumes/([^/]+)/+(.+)", re.ASCII | re.IGNORECASE)
_VOLUME_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{12}|vsan:.*|vvol:.*", re.I)
_NO_BLANK = re.compile(r"(\[[^\]]+\])\s*(.+)", re.ASCII | re.DOTALL)


def moref(vm_id: str) -> str:
    """`vm-42` of `VirtualMachine-vm-42`, as PowerCLI writes it; anything else as it is."""
    return vm_id.removeprefix(_POWERCLI) or vm_id


class Reading(msgspec.Struct, frozen=True):
    """Another form of something."""

    form: str
    """In words: `without dashes`."""
    value: str


def uuids(text: str) -> Iterator[Reading]:
    """The uuids that `text` is another form of."""
    digits = _NO_DIGITS.sub("", text).lower()
    if not _HEX.fullmatch(digits):
        return
    if not UUID.fullmatch(text):
        yield Reading("in another form", _dashed(digits))
    first, second, third, rest = digits[:8], digits[8:12], digits[12:16], digits[16:]
    swapped = "".join((*map(_reversed, (first, second, third)), rest))
    yield Reading("with its first bytes swapped, as a guest shows it", _dashed(swapped))


def meanings(uuid: str) -> tuple[str, ...]:
    """What `uuid` may mean, in lower case: itself, and those that it is another form of."""
    return _kept(uuid) if len(uuid) <= _LABEL else _meanings(uuid)


def _meanings(uuid: str) -> tuple[str, ...]:
    return (uuid.lower(), *(one.value for one in uuids(uuid))) if uuid else ()


_kept = lru_cache(maxsize=256)(_meanings)  # each vCenter is asked for the same one


def meant(vm: VirtualMachine, uuid: str) -> str:
    """What proves `vm` of `uuid`: itself, or the one that it is another form of; empty for none."""
    if vm.proven_by((uuid.lower(),)):
        return uuid
    return next((value for value in meanings(uuid) if vm.proven_by((value,))), "")


def _reversed(digits: str) -> str:
    return "".join(digits[at : at + 2] for at in range(len(digits) - 2, -1, -2))


def _dashed(digits: str) -> str:
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return "-".join(parts)


BLANK = "must have one blank after the datastore"
EXTENT = "is a file behind the disk, not the disk"
ON_A_HOST = "is a path on a host"


def file(source: str, disks: Sequence[Disk]) -> Reading | None:
    """The disk's file that `source` is another form of: `[datastore] dir/disk.vmdk`, or without the
    datastore where its name isn't in it; None where it is of no form that is known here. `disks`
    are all of the VM: one of them may be called like a file behind another."""
    if found := _ON_A_HOST.fullmatch(source):
        volume, path = found.groups()
        path = _whole(path, disks)
        return Reading(ON_A_HOST, path if _VOLUME_ID.fullmatch(volume) else f"[{volume}] {path}")
    spaced = source
    if found := _NO_BLANK.fullmatch(source):
        spaced = f"{found[1]} {found[2]}"
    whole = _whole(spaced, disks)
    if whole != spaced:
        return Reading(EXTENT, whole)
    return Reading(BLANK, spaced) if spaced != source else None


def _whole(path: str, disks: Sequence[Disk]) -> str:
    name = base_name(path)
    named = any(base_name(disk.file) == name for disk in disks)
    return path if named else _EXTENT.sub(".vmdk", path)


def base_name(file: str) -> str:
    """`disk.vmdk` of `[datastore] dir/Disk-000003.vmdk`, to compare by."""
    return trim_backing_file(file).rpartition("/")[2].rpartition("] ")[2].lower()


def only(disks: Sequence[Disk], wanted: str) -> Disk | None:
    """The one disk that `wanted` can mean, where Forklift lists it: a file, bare, partial or in
    another case of letters. A datastore that is named is meant: a disk that has moved is for a
    person to see. One that Forklift doesn't list may be meant as well as any other."""
    wanted = trim_backing_file(wanted.strip()).lower()
    fitting = [disk for disk in disks if _fits(disk.source.lower(), wanted)]
    return fitting[0] if len(fitting) == 1 and fitting[0].listed else None


def _fits(full: str, wanted: str) -> bool:
    if wanted.startswith("["):
        return full == wanted
    return full.endswith((f"/{wanted}", f"] {wanted}"))


def apart(disks: Sequence[Disk]) -> str:
    """How to make files different that Forklift takes for one."""
    if all(disk.is_delta for disk in disks):
        return "consolidate the snapshots in vSphere"
    return "rename one of the files in vSphere"
