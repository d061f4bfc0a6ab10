"""What a review asks, a file per kind of object: each gathers its facts once, and whole.

`subject` reads the object, without waiting. `gather` asks what must be asked, and returns an Asked:
frozen, and ready to show what each provider says of it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from webhook.engine.sources import Sources
from webhook.errors import ObjectMalformed
from webhook.facts.audience import Audience
from webhook.facts.facts import F
from webhook.inventory.index import Vms
from webhook.inventory.provider import ProviderInventory
from webhook.model.keys import PLAN_VMS_FIELD, Action
from webhook.model.objects import KubeObject, User
from webhook.model.review import Cause

Views = Mapping[str, Vms]
"""The VMs of each provider whose word counts, by its name: as they are known, or read afresh."""


class ToRead(NamedTuple):
    """What to read afresh; each has passed its strict pattern."""

    morefs: Collection[str] = ()
    uuids: Collection[str] = ()
    names: Collection[str] = ()


class Seen(NamedTuple, Generic[F]):
    """What one provider says."""

    facts: F
    told: bool
    """Whether the provider's name may be told."""


class Subject(Protocol):
    """An object under review, with what it was before."""

    @property
    def judged(self) -> bool:
        """Whether there is anything to ask at all."""
        ...


class Asked(Protocol, Generic[F]):
    """Everything that has been asked for one object."""

    @property
    def judged(self) -> bool:
        """Whether there is anything to judge, now that it has been asked."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an admission should say of what could not be judged."""
        ...

    @property
    def gate(self) -> bool:
        """Whether an admission, too, must rest on a fresh read."""
        ...

    @property
    def any_provider(self) -> bool:
        """Whether a VM of any provider may be meant, known yet or not; else only of `providers`."""
        ...

    @property
    def changed(self) -> frozenset[str]:
        """The fields that this request sets or changes: all of them on CREATE."""
        ...

    @property
    def namespace(self) -> str:
        """Whose enforcement counts: where the PVCs are."""
        ...

    @property
    def at_most(self) -> Action:
        """The most that is done about a finding: `warn` for a PVC that is past its conversion."""
        ...

    @property
    def audience(self) -> Audience: ...

    @property
    def veil(self) -> Cause | None:
        """What stands for all findings where the caller may know none; else None."""
        ...

    @property
    def names_plan(self) -> tuple[str, str] | None:
        """Namespace and name of the Plan that a Migration starts, if its caller may speak of it."""
        ...

    @property
    def vms(self) -> Iterable[str]:
        """The ids of the VMs that it is about, as they are written."""
        ...

    @property
    def providers(self) -> Sequence[ProviderInventory]:
        """The vSphere providers that may answer: every one for a PVC, a Plan's own for a Plan."""
        ...

    def rank(self, source: ProviderInventory, views: Views) -> int:
        """How well `source` knows the VM: only those of the highest rank can speak for it."""
        ...

    def seen(self, source: ProviderInventory | None, views: Views) -> Seen[F]:
        """What `source` says, or nobody; `views` are those of all whose word counts."""
        ...

    def wanted(self, facts: F, fields: Collection[str]) -> ToRead:
        """What to read afresh, where the findings are on `fields`."""
        ...

    def facts_for(self, reads: frozenset[str], facts: F) -> F | None:
        """What a rule is to judge that reads these fields; None where this request changes none."""
        ...

    async def confirmed(self, sources: Sources) -> "Asked[F]":
        """The same, with what is followed of the cluster asked live. Raises ClusterUnreachable."""
        ...


class Asking(Protocol, Generic[F]):
    """A module of this package."""

    def subject(self, obj: KubeObject, old: KubeObject | None) -> Subject:
        """Raises ObjectMalformed."""
        ...

    async def gather(
        self, subject: Any, sources: Sources, user: User, *, whole: bool = True
    ) -> Asked[F]:
        """Without `whole` only what a default needs. Raises ClusterUnreachable, ObjectMalformed."""
        ...


class _Judged(Protocol):
    @property
    def judged(self) -> bool: ...


J = TypeVar("J", bound=_Judged)


def judged_before(of: Callable[[KubeObject], J], old: KubeObject | None) -> J | None:
    """What an object was before; None where nothing was judged then, be it because it can't be
    read: all of what it is now is new."""
    try:
        before = of(old) if old else None
    except ObjectMalformed:
        return None
    return before if before is not None and before.judged else None


def changed(now: Mapping[str, Any], before: Mapping[str, Any] | None) -> frozenset[str]:
    """The fields that a request sets or changes."""
    if before is None:
        return frozenset(now)
    return frozenset(field for field, value in now.items() if before[field] != value)


def everything(reads: frozenset[str], fields: frozenset[str]) -> bool:
    """Whether a rule that reads `reads` must look at every entry of spec.vms again, not only at
    those that are new, where `fields` have changed."""
    return bool((reads - {PLAN_VMS_FIELD}) & fields)
