"""What is known of the cluster: labelled PVCs, storage classes, namespaces; and who can be asked.

What is followed is written by reflectors and read by reviews, in one event loop; what must be
current is asked for.
"""

from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

from webhook.model.objects import Claim, KubeObject, StorageClass, User

T = TypeVar("T")


class Claims:
    """PVCs by `namespace/name`, and by the VM that they name."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}
        self._vms: dict[tuple[str, str, str], tuple[str, ...]] = {}
        self.synced = False

    def __len__(self) -> int:
        return len(self._claims)

    def keys(self) -> set[str]:
        """Of all there are."""
        return set(self._claims)

    def get(self, key: str) -> Claim | None:
        return self._claims.get(key)

    def put(self, key: str, claim: Claim) -> None:
        """Add a PVC, or replace what was known of it."""
        old = self._claims.get(key)
        if old is None or old.vm != claim.vm:
            self.drop(key)
            self._vms[claim.vm] = (*self._vms.get(claim.vm, ()), key)
        self._claims[key] = claim

    def drop(self, key: str) -> None:
        """Forget a PVC; one that isn't known is no error."""
        old = self._claims.pop(key, None)
        if old is not None:
            if rest := tuple(other for other in self._vms[old.vm] if other != key):
                self._vms[old.vm] = rest
            else:
                del self._vms[old.vm]

    def of(self, namespace: str, vm_id: str, vm_uuid: str) -> tuple[Claim, ...]:
        """Every PVC of that namespace that names that VM."""
        return tuple(self._claims[key] for key in self._vms.get((namespace, vm_id, vm_uuid), ()))


class Table(Generic[T]):
    """Followed objects by key. `synced` is set once the first list is whole."""

    def __init__(self) -> None:
        self._values: dict[str, T] = {}
        self.synced = False

    def keys(self) -> set[str]:
        """Of all there are."""
        return set(self._values)

    def put(self, key: str, value: T) -> None:
        """Add or replace."""
        self._values[key] = value

    def drop(self, key: str) -> None:
        """Forget; what isn't known is no error."""
        self._values.pop(key, None)

    def get(self, key: str) -> T | None:
        return self._values.get(key)

    def known(self) -> Mapping[str, T] | None:
        """All there are; None before the first list is whole."""
        return self._values if self.synced else None


class Followed:
    """What the guard keeps of a cluster, current within moments."""

    def __init__(self) -> None:
        self.claims = Claims()
        self.classes: Table[StorageClass] = Table()
        self.enforced: Table[str] = Table()
        """Namespace to its label conversion-guard.io/enforce; only those that carry it."""

    @property
    def unlisted(self) -> int:
        """How many of these have not been listed whole yet."""
        return sum(not kept.synced for kept in (self.claims, self.classes, self.enforced))


class Announcer(Protocol):
    """Tells of a Plan what its owner should know, where he looks: in the Plan's Events."""

    def refused(self, namespace: str, plan: str, rules: tuple[str, ...]) -> None:
        """A Migration of that Plan was refused by these rules. Returns at once, and never fails."""
        ...


class ClusterReader(Protocol):
    """Asks the API server, now. Every method raises ClusterUnreachable."""

    async def claims(self, namespace: str) -> tuple[Claim, ...]:
        """The namespace's PVCs that carry both labels."""
        ...

    async def plan(self, namespace: str, name: str) -> KubeObject | None:
        """A Plan; None where there is none of that name."""
        ...

    async def started(self, namespace: str, name: str) -> bool:
        """Whether a Migration that hasn't ended names that Plan."""
        ...

    async def mounted(self, namespace: str) -> Mapping[str, str]:
        """The namespace's PVCs that running pods mount: claim name to pod name."""
        ...

    async def may(self, user: User, verb: str, resource: str, namespace: str, name: str) -> bool:
        """Whether the API server lets `user` do it. `resource` is `name` or `name.group`."""
        ...


class TokenReader(Protocol):
    """Asks the API server whose a bearer token is."""

    async def user(self, token: str, audience: str) -> User | None:
        """Whom it authenticates, proven; None where it isn't good for `audience`. Raises
        ClusterUnreachable."""
        ...
