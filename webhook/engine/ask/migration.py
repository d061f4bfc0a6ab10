"""Has every VM that this Migration will shut down all of its disks?"""

import asyncio
from collections.abc import Collection, Iterable, Sequence

import msgspec

from webhook.engine.ask import Seen, ToRead, Views, changed, judged_before
from webhook.engine.ask import plan as plans
from webhook.engine.ask.plan import AskedPlan, PlanSubject
from webhook.engine.sources import Sources
from webhook.errors import ClusterUnreachable
from webhook.facts.audience import Audience
from webhook.facts.facts import MigrationFacts
from webhook.inventory.provider import ProviderInventory
from webhook.model.forklift import Migration
from webhook.model.keys import MIGRATION_FIELDS, MIGRATION_PLAN_FIELD, RESUME_FIELD, Action, quoted
from webhook.model.objects import KubeObject, Metadata, User
from webhook.model.review import PLAN, Cause, resource_of
from webhook.model.shape import mapping

_PLAN_PATIENCE = 3.0
"""Seconds for the Plan: a review has 4.5, and at their end whatever is not known to be a conversion
must be on its way already."""
_VEIL = Cause(
    MIGRATION_PLAN_FIELD,
    "the Plan can't be migrated as it is: whoever may get it finds the reason with "
    "`conversion-guard check`, or in the Plan's Events",
    "FieldValueInvalid",
    "migration-disks",
)


class MigrationSubject(msgspec.Struct, frozen=True):
    """A Migration, and what it was before."""

    migration: Migration
    namespace: str
    """The Migration's own."""
    is_new: bool
    changed: frozenset[str]
    runs: bool = False
    """Whether Forklift has begun it: status.started."""

    @property
    def judged(self) -> bool:
        return bool(self.changed) and self.migration.judged


def subject(obj: KubeObject, old: KubeObject | None) -> MigrationSubject:
    """See webhook.engine.ask.Asking."""
    migration, before = Migration.of(obj), judged_before(Migration.of, old)
    fields = changed(migration.fields, before.fields) if before else MIGRATION_FIELDS
    own = (obj.get("metadata") or Metadata()).get("namespace") or ""
    runs = bool(mapping(obj.get("status")).get("started"))
    return MigrationSubject(migration, own, before is None, fields, runs)


async def gather(
    subject: MigrationSubject, sources: Sources, user: User, *, whole: bool = True
) -> "AskedMigration":
    """See webhook.engine.ask.Asking. The Plan is read live. What can't be known to be a conversion
    is admitted, with a warning: warm and cold migrations must not suffer."""
    try:
        obj = await _plan(subject, sources)
    except ClusterUnreachable as error:
        if _known_conversion(subject, sources):
            raise
        return _unchecked(subject, str(error))
    visible = await _visible(subject, sources, user)
    unspoken, named = AskedMigration(subject=subject), quoted(subject.migration.plan)
    if obj is None:
        return _unchecked(subject, f"there is no Plan {named}") if visible else unspoken
    planned = plans.subject(obj, None)
    if not planned.judged:
        return unspoken
    asked = await of_plan(planned, sources, user, subject=subject, visible=visible)
    if asked.plan is not None and asked.plan.remote and visible:
        why = f"the PVCs of {named} are in another cluster"
        return msgspec.structs.replace(asked, warnings=_not_checked(why))
    return asked


async def _plan(subject: MigrationSubject, sources: Sources) -> KubeObject | None:
    """None where there is none of that name. Raises ClusterUnreachable, in time for an answer."""
    if sources.cluster is None:
        raise ClusterUnreachable("the guard has no access to the cluster")
    named = subject.migration.plan
    try:
        async with asyncio.timeout(_PLAN_PATIENCE):
            return await sources.cluster.plan(named.namespace, named.name)
    except TimeoutError:
        raise ClusterUnreachable("the API server did not answer in time") from None


async def of_plan(
    planned: PlanSubject,
    sources: Sources,
    user: User,
    *,
    subject: MigrationSubject | None = None,
    visible: bool = True,
) -> "AskedMigration":
    """A Migration of that Plan: one that is there, or any. Raises ClusterUnreachable."""
    if sources.cluster is None:
        raise ClusterUnreachable("the guard has no access to the cluster")
    plan = await plans.gather(planned, sources, user, starting=True)
    secrets = plan.audience.secrets or subject is not None
    audience = msgspec.structs.replace(plan.audience, plan=visible, secrets=secrets)
    plan = msgspec.structs.replace(plan, audience=audience)
    return AskedMigration(subject=subject or _ANY, plan=plan)


def _known_conversion(subject: MigrationSubject, sources: Sources) -> bool:
    """Whether the Plan was followed a moment ago, and was a conversion."""
    named, followed = subject.migration.plan, sources.followed
    return followed is not None and followed.converts(str(named))


def _unchecked(subject: MigrationSubject, why: str) -> "AskedMigration":
    return AskedMigration(subject=subject, warnings=_not_checked(why))


def _not_checked(why: str) -> tuple[str, ...]:
    return (f"{MIGRATION_PLAN_FIELD}: not checked: {why}",)


async def _visible(subject: MigrationSubject, sources: Sources, user: User) -> bool:
    named = subject.migration.plan
    if named.namespace == subject.namespace:
        return True
    return await sources.may(user, "get", resource_of(PLAN), named.namespace, named.name)


_ANY = MigrationSubject(Migration(), "", True, MIGRATION_FIELDS)


class AskedMigration(msgspec.Struct, frozen=True, kw_only=True):
    """See webhook.engine.ask.Asked. Without a `plan` there is nothing to judge."""

    subject: MigrationSubject
    plan: AskedPlan | None = None
    warnings: tuple[str, ...] = ()

    at_most: Action = "deny"
    gate = True
    any_provider = False

    @property
    def judged(self) -> bool:
        return self.plan is not None

    @property
    def changed(self) -> frozenset[str]:
        return self.subject.changed

    @property
    def namespace(self) -> str:
        return self.plan.namespace if self.plan else ""

    @property
    def audience(self) -> Audience:
        return self.plan.audience if self.plan else Audience()

    @property
    def veil(self) -> Cause | None:
        return None if self.audience.plan else _VEIL

    @property
    def names_plan(self) -> tuple[str, str] | None:
        named = self.subject.migration.plan
        return (named.namespace, named.name) if self.audience.plan else None

    @property
    def vms(self) -> Iterable[str]:
        return self.plan.vms if self.plan and self.audience.plan else ()

    @property
    def providers(self) -> Sequence[ProviderInventory]:
        return self.plan.providers if self.plan else ()

    async def confirmed(self, sources: Sources) -> "AskedMigration":
        """See Asked: it was asked live."""
        return self

    def facts_for(self, reads: frozenset[str], facts: MigrationFacts) -> MigrationFacts | None:
        """See Asked."""
        # Whether it resumes decides what is proven: with it, all rules begin anew.
        return facts if self.subject.is_new or (reads | {RESUME_FIELD}) & self.changed else None

    def rank(self, source: ProviderInventory, views: Views) -> int:
        """See Asked: the Plan names its provider."""
        return 0

    def seen(self, source: ProviderInventory | None, views: Views) -> Seen[MigrationFacts]:
        """See Asked."""
        assert self.plan is not None  # noqa: S101  there is nothing to judge without
        seen = self.plan.seen(source, views)
        subject = self.subject
        facts = MigrationFacts(
            plan=seen.facts, resumes=subject.migration.resumes, runs=subject.runs
        )
        return Seen(facts, told=self.audience.plan)

    def wanted(self, facts: MigrationFacts, fields: Collection[str]) -> ToRead:
        """See Asked: every VM that will run, in one read."""
        if self.plan is None:
            return ToRead()
        return self.plan.wanted_of(vm.entry for vm in facts.plan.vms if vm.judged)
