"""The cluster's labelled PVCs, by the disk that each one claims."""

import msgspec


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a PVC that carries vmID and vmUUID: some 400 bytes."""

    namespace: str
    name: str
    vm_id: str
    vm_uuid: str
    disk_source: str = ""
    """Trimmed as Forklift trims it; empty where there is none."""
    terminating: bool = False

    @property
    def disk(self) -> tuple[str, str, str, str]:
        """What two claims must not have in common."""
        return self.namespace, self.vm_id, self.vm_uuid, self.disk_source


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

    def of(self, claim: Claim) -> tuple[Claim, ...]:
        """Every PVC with that claim's disk, its own among them."""
        keys = self._disks.get(claim.disk, ())
        return tuple(found for key in keys if (found := self._claims.get(key)) is not None)
