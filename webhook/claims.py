"""The cluster's labelled PVCs, by the disk that each one claims; and who can be asked for them."""

from typing import Protocol

import msgspec

from webhook.model import KubeObject, is_blank, trim_backing_file


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a PVC that carries vmID and vmUUID: some 500 bytes."""

    namespace: str
    name: str
    vm_id: str
    vm_uuid: str
    disk_source: str = ""
    """As it is written; empty where there is none."""
    phase: str = ""
    """status.phase: Pending, Bound or Lost."""
    capacity: str = ""
    """status.capacity.storage, else what is requested: a Kubernetes quantity."""
    not_ready: str | None = None
    """The vendor's reason why its copy isn't whole; None where it is."""
    populated: bool = False
    """It has a dataSource or dataSourceRef: a populator may fill it when its first pod comes."""
    terminating: bool = False

    @property
    def matchable(self) -> bool:
        """Whether Forklift looks at its disk-source at all; it counts the PVC in any case.

        Source: Forklift's kubevirt.go, listDiskPVCsByUUID and hasDiskIdentity.
        """
        return not self.name.startswith("prime-") and not is_blank(self.disk_source)

    @property
    def source(self) -> str:
        """The disk-source as Forklift compares it."""
        return trim_backing_file(self.disk_source)

    @property
    def disk(self) -> tuple[str, str, str, str]:
        """What two claims must not have in common."""
        return self.namespace, self.vm_id, self.vm_uuid, self.source


class Claims:
    """PVCs by `namespace/name`, and by disk. Written and read in one event loop."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}
        self._disks: dict[tuple[str, str, str, str], tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._claims)

    def keys(self) -> set[str]:
        """Of all there are."""
        return set(self._claims)

    def put(self, key: str, claim: Claim) -> None:
        """Add a PVC, or replace what was known of it."""
        old = self._claims.get(key)
        if old is None or old.disk != claim.disk:
            self.drop(key)
            self._disks[claim.disk] = (*self._disks.get(claim.disk, ()), key)
        self._claims[key] = claim

    def drop(self, key: str) -> None:
        """Forget a PVC; one that isn't known is no error."""
        old = self._claims.pop(key, None)
        if old is not None:
            rest = tuple(other for other in self._disks[old.disk] if other != key)
            if rest:
                self._disks[old.disk] = rest
            else:
                del self._disks[old.disk]

    def of(self, namespace: str, vm_id: str, vm_uuid: str, disk_source: str) -> tuple[Claim, ...]:
        """Every PVC of that namespace that claims that disk."""
        keys = self._disks.get((namespace, vm_id, vm_uuid, trim_backing_file(disk_source)), ())
        return tuple(found for key in keys if (found := self._claims.get(key)) is not None)


class ClusterReader(Protocol):
    """Asks the API server, now. Every method raises ClusterUnreachable."""

    async def claims(self, namespace: str) -> tuple[Claim, ...]:
        """The namespace's PVCs that carry both labels."""
        ...

    async def plan(self, namespace: str, name: str) -> KubeObject | None:
        """A Plan; None where there is none of that name."""
        ...
