"""One provider: its VMs, how old that knowledge is, and whom to ask afresh; and all of them."""

import math
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from typing import Literal, Protocol, get_args

from webhook.inventory.cluster import Unlisted
from webhook.inventory.index import Index
from webhook.model.objects import Provider
from webhook.model.vms import VirtualMachine


class Reader(Protocol):
    """Asks vSphere itself, now: what a denial must rest on."""

    async def read(
        self,
        *,
        morefs: Collection[str],
        uuids: Collection[str],
        names: Collection[str],
        user: str = "",
        since: float,
    ) -> tuple[VirtualMachine, ...]:
        """Every VM with one of these morefs, uuids (either kind) or names, as it is now.

        A VM that isn't in the answer isn't there. A name may be a path: every VM of its last name
        is meant. All arguments have passed their strict patterns; `user` is on whose behalf, and
        `since` is when the request came, in seconds of time.monotonic(): no answer is older. Raises
        VsphereUnreachable, TooManyReads; is cancelled at the review's deadline.
        """
        ...


def last_names(names: Iterable[str]) -> set[str]:
    """Of names that may be paths, every name that a VM which is meant by one may have."""
    return {name for path in names for name in (path, path.rpartition("/")[2]) if name}


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

    A source calls `whole` after a first read, `heard` after each answer to what is new since, empty
    ones included, and `lost` when it can't get one.
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
        """In UTC; None while it can be reached."""
        self.cause = "its first read has not finished"
        self.heard_at: float | None = None
        """By time.monotonic(), when vSphere last answered; None: for good, or never (`synced`)."""
        self.recalled = False
        """Whether what is known comes from an earlier run: this one has read nothing yet."""
        self.silence = math.inf
        """Seconds without an answer from which on what follows vSphere can't be taken as alive;
        infinite for what isn't followed."""
        self.url = ""
        """Where it is read; empty for what isn't live."""
        self.secret = ""
        """Where its password is, for who has to mend it: `Secret mtv/vsphere`, or a file."""
        self.reads: dict[tuple[str, str], int] = dict.fromkeys(_READS, 0)
        """How often vSphere was read, and how it went."""
        self.read_so_far = 0
        """VMs of a first read that still runs: progress, for a person to see."""

    def whole(self, at: float | None) -> None:
        """The index is whole and right as of `at` (seconds of time.monotonic; None: for good)."""
        self.heard_at, self.synced, self.recalled = at, True, False

    def heard(self, at: float | None) -> None:
        """The same, and what tells of changes is alive: it has just answered."""
        self.whole(at)
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

    def silent(self, now: float) -> bool:
        """Whether changes may have been missed: nothing has been heard for longer than `silence`,
        though nothing has failed either."""
        return self.age(now) > self.silence

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
        """Why this provider can't be asked, for a person: `… has been unreachable since … (…)`."""
        if self.unreachable_since is None and self.recalled:
            return f"provider {self.name} has not been read since the guard started"
        if self.unreachable_since is None:
            return f"provider {self.name} is not known yet: {self.cause}"
        return self.out_of_reach(self.unreachable_since, self.cause)

    def out_of_reach(self, since: datetime, cause: str) -> str:
        """The same of one read that has failed."""
        at = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"provider {self.name} has been unreachable since {at} ({cause})"


class Inventory:
    """Every provider that is known, of vSphere and of other types."""

    def __init__(self, providers: Iterable[ProviderInventory] = ()) -> None:
        self._providers = {(p.provider.namespace, p.provider.name): p for p in providers}
        self._vsphere: tuple[ProviderInventory, ...] | None = None
        """Of these; None where they have changed since."""
        self.unlisted: dict[str, Unlisted] = {}
        """Namespaces whose Providers are not all known yet, each with why."""

    def get(self, namespace: str, name: str) -> ProviderInventory | None:
        return self._providers.get((namespace, name))

    def put(self, provider: ProviderInventory) -> None:
        self._providers[provider.provider.namespace, provider.provider.name] = provider
        self._vsphere = None

    def drop(self, namespace: str, name: str) -> None:
        self._providers.pop((namespace, name), None)
        self._vsphere = None

    def __iter__(self) -> Iterator[ProviderInventory]:
        """By name: which of them was found first is no matter to any answer."""
        return iter([one for _, one in sorted(self._providers.items())])

    @property
    def first_reads(self) -> int:
        """How many first reads still run: of providers, and of namespaces' lists of them."""
        return len(self.unlisted) + sum(not one.settled for one in self.vsphere())

    def vsphere(self) -> tuple[ProviderInventory, ...]:
        """The providers whose VMs count here, by name."""
        if self._vsphere is None:
            self._vsphere = tuple(p for p in self if p.provider.type == "vsphere")
        return self._vsphere
