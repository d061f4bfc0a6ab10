"""Snapshot files: providers and their VMs as YAML or JSON."""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from webhook.errors import SnapshotInvalid
from webhook.inventory.index import Index
from webhook.inventory.provider import ProviderInventory, last_names
from webhook.model.keys import echoed
from webhook.model.objects import Provider
from webhook.model.vms import Folder, VirtualMachine

CLOCKS_DIFFER = timedelta(minutes=5)
"""As far as the clock of who wrote a file may be ahead."""


class _SnapshotProvider(
    msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True
):
    namespace: str
    name: str
    type: str = "vsphere"
    url: str = ""
    remote: bool = False
    """Of type openshift: another cluster than the guard's own."""
    read_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    folders: tuple[Folder, ...] = ()
    vms: tuple[VirtualMachine, ...] = ()


class _Snapshot(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    providers: tuple[_SnapshotProvider, ...]


class SnapshotReader:
    """The reader of a snapshot: the file is the source, so what it says is as fresh as can be."""

    def __init__(self, index: Index) -> None:
        self._index = index

    async def read(
        self,
        *,
        morefs: Collection[str],
        uuids: Collection[str],
        names: Collection[str],
        user: str = "",
        since: float,
    ) -> tuple[VirtualMachine, ...]:
        found = {vm.moref: vm for uuid in uuids for vm in self._index.by_uuid(uuid)}
        found |= {vm.moref: vm for name in last_names(names) for vm in self._index.named(name)}
        found |= {m: vm for m in morefs if (vm := self._index.by_moref(m)) is not None}
        return tuple(found.values())


def load_snapshot(path: Path, *, wall: datetime, monotonic: float) -> tuple[ProviderInventory, ...]:
    """The providers of a snapshot file, YAML or JSON, all of them synced.

    A provider with `readAt` is as old as that says at `wall` (`monotonic` is the same moment on the
    monotonic clock); one without it is taken as current for good. No age is below 0: what is ahead
    by no more than clocks may differ is of now, and what is further ahead is refused, for it would
    seem fresh until then. Raises SnapshotInvalid.
    """
    try:
        text = path.read_bytes()
        # JSON is YAML, too; this way is far faster for the snapshot of a large vCenter.
        if text.lstrip().startswith(b"{"):
            snapshot = msgspec.json.decode(text, type=_Snapshot)
        else:
            snapshot = msgspec.convert(msgspec.yaml.decode(text), _Snapshot)
    except OSError as error:
        raise SnapshotInvalid(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:  # ValidationError too: both name the place
        raise SnapshotInvalid(f"{path}: {error}") from None
    providers = []
    for entry in snapshot.providers:
        provider = ProviderInventory(Provider(entry.namespace, entry.name, entry.type))
        provider.vms = Index(entry.vms, entry.folders)
        if len(provider.vms) != len(entry.vms):
            raise SnapshotInvalid(f"{path}: provider {echoed(provider.provider)} has a moref twice")
        provider.reader = SnapshotReader(provider.vms)
        provider.url, provider.remote = entry.url, entry.remote
        age = None if entry.read_at is None else wall - entry.read_at
        if age is not None and age < -CLOCKS_DIFFER:
            raise SnapshotInvalid(
                f"{path}: provider {echoed(provider.provider)}: readAt is in the future: set the"
                " clock of who wrote it right, and write it anew"
            )
        provider.heard(None if age is None else monotonic - max(0.0, age.total_seconds()))
        providers.append(provider)
    return tuple(providers)


def dump_snapshot(
    providers: Iterable[ProviderInventory],
    *,
    wall: datetime,
    monotonic: float,
    as_yaml: bool = False,
) -> bytes:
    """The snapshot file of `providers`, which load_snapshot reads back as they are.

    `wall` and `monotonic` are one moment on the two clocks, from which `readAt` is told.
    """
    entries = []
    for one in providers:
        entry = _without_vms(one, wall, monotonic)
        entry.vms = tuple(one.vms)
        entries.append(entry)
    snapshot = msgspec.to_builtins(_Snapshot(tuple(entries)))
    if as_yaml:
        return msgspec.yaml.encode(snapshot)
    return msgspec.json.format(msgspec.json.encode(snapshot)) + b"\n"


def dump_piecewise(one: ProviderInventory, *, wall: datetime, monotonic: float) -> Iterator[bytes]:
    """The snapshot file of one provider, with its address, some VMs at a time: for a thread that
    must let others work. What changes meanwhile may be in it or not."""
    entry = _without_vms(one, wall, monotonic)  # its time first: what follows is no older
    entry.url = one.url
    head = msgspec.json.encode(entry)
    yield b'{"providers":[' + head[:-1] + b',"vms":['
    vms = tuple(one.vms)
    for start in range(0, len(vms), _PIECE):
        some = msgspec.json.encode(vms[start : start + _PIECE])
        yield (b"," if start else b"") + some[1:-1]
    yield b"]}]}\n"


_PIECE = 100


def _without_vms(one: ProviderInventory, wall: datetime, monotonic: float) -> _SnapshotProvider:
    heard_at = one.heard_at
    age = None if heard_at is None else timedelta(seconds=monotonic - heard_at)
    return _SnapshotProvider(
        namespace=one.provider.namespace,
        name=one.provider.name,
        type=one.provider.type,
        remote=one.remote,
        read_at=None if age is None else wall - age,
        folders=one.vms.folders,
    )
