"""What is known of the cluster: labelled PVCs, storage classes, namespaces, Plans; and who can be
asked.

What is followed is written by reflectors and read by reviews, in one event loop; what must be
current is asked for.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, Literal, Protocol, TypeVar

from webhook.model.forklift import KeptPlan, Release
from webhook.model.objects import Claim, KubeObject, Standing, StorageClass, Surroundings, User

T = TypeVar("T")


class Aged:
    """Something that is followed, and how long ago it was certainly as it is kept."""

    def __init__(self) -> None:
        self._heard_at: float | None = -math.inf
        self._heeding: tuple[Callable[[str], None], ...] = ()

    @contextmanager
    def heeded(self, heed: Callable[[str], None]) -> Iterator[None]:
        """Meanwhile `heed` hears the key of each object that has been put or dropped. For what is
        done beside the reviews: it returns at once, and never fails."""
        self._heeding = (*self._heeding, heed)
        try:
            yield
        finally:
            self._heeding = tuple(one for one in self._heeding if one is not heed)

    def changed(self, key: str) -> None:
        """Who heeds it hears of it."""
        for heed in self._heeding:
            heed(key)

    def heard(self, at: float | None) -> None:
        """It was whole and right at `at` (seconds of time.monotonic; None: it is for good)."""
        self._heard_at = at

    def age(self, now: float) -> float:
        """Seconds since the API server proved that this is so; inf before the first whole list."""
        return 0.0 if self._heard_at is None else max(0.0, now - self._heard_at)

    @property
    def synced(self) -> bool:
        """Whether it has ever been listed whole."""
        return self._heard_at != -math.inf


class Claims(Aged):
    """PVCs by `namespace/name`, and by the VM that they name."""

    def __init__(self) -> None:
        super().__init__()
        self._claims: dict[str, Claim] = {}
        self._vms: dict[tuple[str, str, str], tuple[str, ...]] = {}

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
        if old != claim:
            self.changed(key)

    def drop(self, key: str) -> None:
        """Forget a PVC; one that isn't known is no error."""
        old = self._claims.pop(key, None)
        if old is not None:
            if rest := tuple(other for other in self._vms[old.vm] if other != key):
                self._vms[old.vm] = rest
            else:
                del self._vms[old.vm]
            self.changed(key)

    def within(self, namespace: str) -> tuple[Claim, ...]:
        """Every PVC of that namespace. Looks at each VM's of all namespaces."""
        keys = (keys for vm, keys in self._vms.items() if vm[0] == namespace)
        return tuple(self._claims[key] for some in keys for key in some)

    def of(self, namespace: str, vm_id: str, vm_uuid: str) -> tuple[Claim, ...]:
        """Every PVC of that namespace that names that VM."""
        return tuple(self._claims[key] for key in self._vms.get((namespace, vm_id, vm_uuid), ()))


class Table(Aged, Generic[T]):
    """Followed objects by key."""

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[str, T] = {}

    def keys(self) -> set[str]:
        """Of all there are."""
        return set(self._values)

    def put(self, key: str, value: T) -> None:
        """Add or replace. Heard of whatever the value: what is kept is but a part of the object."""
        self._values[key] = value
        self.changed(key)

    def drop(self, key: str) -> None:
        """Forget; what isn't known is no error."""
        if self._values.pop(key, None) is not None:
            self.changed(key)

    def get(self, key: str) -> T | None:
        return self._values.get(key)

    def known(self) -> Mapping[str, T] | None:
        """All there are; None before the first list is whole."""
        return self._values if self.synced else None


class Followed:
    """What the guard keeps of a cluster: each table current within moments, or older than that by
    its own word (`age`)."""

    def __init__(self) -> None:
        self.claims = Claims()
        self.classes: Table[StorageClass] = Table()
        self.enforced: Table[str] = Table()
        """Namespace to its label conversion-guard.io/enforce; only those that carry it."""
        self.plans: Table[KeptPlan] = Table()
        """Every Plan, by `namespace/name`."""
        self.release: Release | None = None
        """The cluster's Forklift; None where nobody has looked yet."""

    def converts(self, plan: str) -> bool:
        """Whether that Plan, `namespace/name`, is known as a conversion that isn't archived."""
        known = self.plans.get(plan)
        return known is not None and known.converts

    @property
    def unlisted(self) -> int:
        """How many of these have not been listed whole yet, or looked at."""
        tables: tuple[Aged, ...] = self.claims, self.classes, self.enforced, self.plans
        return sum(not kept.synced for kept in tables) + (self.release is None)


class Unlisted(Protocol):
    """Something that isn't known whole yet."""

    def why(self) -> str:
        """What is in the way, for a person."""
        ...

    @property
    def passing(self) -> bool:
        """Whether waiting helps: a right that isn't there doesn't come by itself."""
        ...


class Announcer(Protocol):
    """Tells of a Plan what its owner should know, where he looks: in the Plan's Events."""

    def refused(self, namespace: str, plan: str, rules: tuple[str, ...]) -> None:
        """A Migration of that Plan was refused by these rules. Returns at once, and never fails."""
        ...


Referent = Literal[
    "namespaces",
    "secrets",
    "virtualmachineinstancetypes",
    "virtualmachineclusterinstancetypes",
]
"""What a Plan names, and is looked up by its name alone: the plural of its kind."""


class ClusterReader(Protocol):
    """Asks the API server, now. Every method but `may` raises ClusterUnreachable. Where no object
    can have a name, nothing is asked, and nothing is there."""

    async def claims(self, namespace: str) -> tuple[Claim, ...]:
        """The namespace's PVCs that carry both labels."""
        ...

    async def siblings(self, namespace: str, vm_id: str, vm_uuid: str) -> tuple[Claim, ...]:
        """The namespace's PVCs with just these labels, as they are now."""
        ...

    async def plan(self, namespace: str, name: str) -> KubeObject | None:
        """A Plan; None where there is none of that name."""
        ...

    async def provider(self, namespace: str, name: str) -> Standing | None:
        """Whether there is a Provider of that name. `unknown` in a namespace whose Providers the
        guard may not list; None where there is no cluster to ask."""
        ...

    async def started(self) -> frozenset[str]:
        """The Plans, `namespace/name`, that Migrations name which have not ended."""
        ...

    async def standing(self, kind: Referent, namespace: str, name: str) -> Standing:
        """Whether the object of that name is there; of one without a namespace this is empty. None
        of its contents is asked for."""
        ...

    async def surroundings(self, namespace: str) -> Surroundings:
        """Quotas, limits and network policies of a namespace."""
        ...

    async def mounted(self, namespace: str) -> Mapping[str, str]:
        """The namespace's PVCs that running pods mount: claim name to pod name."""
        ...

    async def may(self, user: User, verb: str, resource: str, namespace: str, name: str) -> bool:
        """Whether the API server lets `user` do it. `resource` is `name` or `name.group`.

        False, too, where it doesn't answer within a second or so: who can't be known isn't
        trusted. Raises nothing.
        """
        ...


class TokenReader(Protocol):
    """Asks the API server whose a bearer token is."""

    async def user(self, token: str, audience: str) -> User | None:
        """Whom it authenticates, proven; None where it isn't good for `audience`. Raises
        ClusterUnreachable."""
        ...
