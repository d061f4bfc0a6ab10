"""What is known of every vSphere provider: an index over VMs, its age, and snapshot files.

Sources write (a live vSphere, a snapshot file), reviews read, without a lock: a record is frozen
and replaced whole, so a reader never sees half a VM.
"""

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Protocol, get_args

import msgspec

from webhook.errors import SnapshotInvalid
from webhook.model import Folder, Provider, VirtualMachine, quoted

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


class Reader(Protocol):
    """Asks vSphere itself, now: what a denial must rest on."""

    async def read(
        self,
        *,
        morefs: Collection[str],
        uuids: Collection[str],
        names: Collection[str],
        user: str = "",
        afresh: bool = False,
    ) -> tuple[VirtualMachine, ...]:
        """Every VM with one of these morefs, uuids (either kind) or last names, as it is now.

        A VM that isn't in the answer isn't there. All arguments have passed their strict patterns;
        `user` is on whose behalf; with `afresh` an answer of some seconds ago won't do. Raises
        VsphereUnreachable; is cancelled at the review's deadline.
        """
        ...


ProviderState = Literal["first-read", "known", "recalled", "unreachable"]
PROVIDER_STATES: tuple[ProviderState, ...] = get_args(ProviderState)
_READS = (
    ("full", "ok"),
    ("full", "failed"),
    ("fresh", "ok"),
    ("fresh", "failed"),
    ("fresh", "refused"),  # by the guard itself: too many
)


class ProviderInventory:
    """One provider: its VMs, how old that knowledge is, and whom to ask afresh.

    A source calls `heard` after each answer and `lost` when it can't get one.
    """

    def __init__(self, provider: Provider, reader: Reader | None = None) -> None:
        self.provider = provider
        self.reader = reader
        self.remote = False
        """Whether this is another cluster than the guard's own: type openshift, with a URL."""
        self.vms = Index()
        self.name = str(provider)
        self.synced = False
        self.unreachable_since: datetime | None = None
        self.cause = "its first read has not finished"
        self.heard_at: float | None = None
        self.recalled = False
        """Whether what is known comes from an earlier run: this one has read nothing yet."""
        self.url = ""
        """Where it is read; empty for what isn't live."""
        self.reads: dict[tuple[str, str], int] = dict.fromkeys(_READS, 0)
        """How often vSphere was read, and how it went."""
        self.read_so_far = 0
        """VMs of a first read that still runs: progress, for a person to see."""

    def heard(self, at: float | None) -> None:
        """The index is whole and right as of `at` (seconds of time.monotonic; None: for good)."""
        self.heard_at, self.synced, self.recalled = at, True, False
        self.unreachable_since, self.cause = None, ""

    def recall(self, known: "ProviderInventory") -> None:
        """Take over what an earlier run knew, as old as it is, until something is heard."""
        self.vms, self.heard_at = known.vms, known.heard_at
        self.synced = self.recalled = True

    def lost(self, cause: str, since: datetime) -> None:
        """The source can't be reached because of `cause`; the first `since` of a row counts."""
        self.cause = cause
        self.unreachable_since = self.unreachable_since or since

    def age(self, now: float) -> float:
        """Seconds since vSphere last said that this is so; 0 for a snapshot without a time."""
        return 0.0 if self.heard_at is None else max(0.0, now - self.heard_at)

    @property
    def state(self) -> ProviderState:
        """How well its word can be trusted now."""
        if self.unreachable_since is not None:
            return "unreachable"
        if self.recalled:
            return "recalled"
        return "known" if self.synced else "first-read"

    @property
    def settled(self) -> bool:
        """Whether its first read is over: it is known, or known to be out of reach."""
        return self.unreachable_since is not None or (self.synced and not self.recalled)

    @property
    def trouble(self) -> str:
        """Why this provider can't be asked, for a person: `… is unreachable since … (…)`."""
        if self.unreachable_since is None and self.recalled:
            return f"provider {self.name} has not been read since the guard started"
        if self.unreachable_since is None:
            return f"provider {self.name} is not known yet: {self.cause}"
        since = self.unreachable_since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"provider {self.name} is unreachable since {since} ({self.cause})"


class Inventory:
    """Every provider that is known, of vSphere and of other types."""

    def __init__(self, providers: Iterable[ProviderInventory] = ()) -> None:
        self._providers = {(p.provider.namespace, p.provider.name): p for p in providers}
        self.unlisted: dict[str, Callable[[], str]] = {}
        """Namespaces whose Providers are not all known yet, each with why."""

    def get(self, namespace: str, name: str) -> ProviderInventory | None:
        return self._providers.get((namespace, name))

    def put(self, provider: ProviderInventory) -> None:
        self._providers[provider.provider.namespace, provider.provider.name] = provider

    def drop(self, namespace: str, name: str) -> None:
        self._providers.pop((namespace, name), None)

    def __iter__(self) -> Iterator[ProviderInventory]:
        return iter(tuple(self._providers.values()))

    def vsphere(self) -> Iterator[ProviderInventory]:
        """The providers whose VMs count here."""
        return (p for p in self if p.provider.type == "vsphere")


class _SnapshotProvider(
    msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True
):
    namespace: str
    name: str
    type: str = "vsphere"
    url: str = ""
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
        afresh: bool = False,
    ) -> tuple[VirtualMachine, ...]:
        found = {vm.moref: vm for uuid in uuids for vm in self._index.by_uuid(uuid)}
        found |= {vm.moref: vm for name in names for vm in self._index.by_name(name)}
        found |= {m: vm for m in morefs if (vm := self._index.by_moref(m)) is not None}
        return tuple(found.values())


def load_snapshot(path: Path, *, wall: datetime, monotonic: float) -> tuple[ProviderInventory, ...]:
    """The providers of a snapshot file, YAML or JSON, all of them synced.

    A provider with `readAt` is as old as that says at `wall` (`monotonic` is the same moment on the
    monotonic clock); one without it is taken as current for good. Raises SnapshotInvalid.
    """
    try:
        text = path.read_bytes()
        # JSON is YAML, too; this way is far faster for the snapshot of a large vCenter.
        if text.lstrip().startswith(b"{"):
            snapshot = msgspec.json.decode(text, type=_Snapshot)
        else:
            snapshot = msgspec.convert(msgspec.yaml.decode(text), _Snapshot)
    except OSError as error:
        raise SnapshotInvalid(f"{path}: {error.strerror}") from None
    except msgspec.DecodeError as error:  # ValidationError too: both name the place
        raise SnapshotInvalid(f"{path}: {error}") from None
    providers = []
    for entry in snapshot.providers:
        provider = ProviderInventory(Provider(entry.namespace, entry.name, entry.type))
        provider.vms = Index(entry.vms, entry.folders)
        if len(provider.vms) != len(entry.vms):
            raise SnapshotInvalid(f"{path}: provider {quoted(provider.provider)} has a moref twice")
        provider.reader = SnapshotReader(provider.vms)
        provider.url = entry.url
        age = None if entry.read_at is None else (wall - entry.read_at).total_seconds()
        provider.heard(None if age is None else monotonic - age)
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
        read_at=None if age is None else wall - age,
        folders=one.vms.folders,
    )


def _uuid_keys(vm: VirtualMachine) -> tuple[str, ...]:
    return tuple({uuid.lower() for uuid in (vm.uuid, vm.instance_uuid) if uuid})


def _name_keys(vm: VirtualMachine) -> tuple[str, ...]:
    return (_plain(vm.name),)


def _plain(name: str) -> str:
    return name.replace(_PATH_SEPARATOR_IN_NAMES, "/").replace("%2F", "/").replace("%5c", "\\")
