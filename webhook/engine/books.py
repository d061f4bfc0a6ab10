"""What there is to ask about each kind of object, and its rules and defaults in their order."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Generic

import msgspec
from msgspec.structs import replace

from webhook.engine.ask import Asked, Asking, conversion, migration, plan, pvc
from webhook.engine.policy import Enforcement, Policy, milder
from webhook.engine.sources import Sources
from webhook.facts.facts import ConversionFacts, F, Facts, MigrationFacts, PlanFacts, PvcFacts
from webhook.facts.rule import Default, Finding, Rule, Unknown
from webhook.model import review
from webhook.model.keys import (
    DESTINATION_PROVIDER_FIELD,
    MARK,
    MIGRATION_PLAN_FIELD,
    PLAN_VM_FIELDS,
    PLAN_VMS_FIELD,
    PRIME,
    UUID,
    Action,
)
from webhook.model.objects import User
from webhook.model.review import Admitted, Skip
from webhook.rules import DEFAULTS, RULES


class Book(msgspec.Struct, Generic[F], frozen=True, eq=False):
    """One kind's."""

    ask: Asking[F]
    rules: tuple[Rule[F], ...]
    defaults: tuple[Default[F], ...]
    namespace: Callable[[Any], str]
    """Whose enforcement counts while nothing could be asked yet, of a subject."""
    known: Callable[[Any, Sources, User], Asked[F] | None] = lambda subject, sources, user: None
    """As `ask.gather`, without waiting; None where that can't be."""

    @property
    def gate(self) -> bool:
        """Whether any of its rules is one that a namespace's label doesn't lower."""
        return any(rule.gate for rule in self.rules)

    def running(self, enforcement: Enforcement) -> tuple[tuple[Rule[F], Action], ...]:
        """The rules that aren't off, each with what is done about its findings."""
        return _running(self, enforcement)

    def filling(self, policy: Policy) -> tuple[Default[F], ...]:
        """The defaults that are on."""
        return _filling(self, policy)

    def skipped(self, subject: Any, policy: Policy, user: User) -> Admitted | None:
        """For a PVC that is not a vendor's. It proves nothing: the whole-disk-set proof looks at
        every PVC."""
        if not isinstance(subject, pvc.PvcSubject):
            return None
        if (why := _why(subject, policy, user)) is None:
            return None
        audit = {"verdict": "skipped", "skipped-because": _SKIPS[why]}
        return Admitted(audit=audit, skipped=why)


def _why(subject: pvc.PvcSubject, policy: Policy, user: User) -> Skip | None:
    claim = subject.pvc
    if MARK in claim.labels and UUID.fullmatch(str(claim.labels[MARK])):
        return "forklift-mark"
    if claim.name.startswith(PRIME):
        if not claim.vm_uuid:
            return "populator"
        if user.username in policy.importers:
            return "importer"
    return None


_SKIPS: dict[Skip, str] = {
    "forklift-mark": "marked by Forklift: the label migration is a uuid",
    "populator": "a populator's own PVC: named prime-*, without vmUUID",
    "importer": "a populator's own PVC: named prime-*, by an importer",
}


def _early(rule: Rule[PlanFacts]) -> Rule[PlanFacts]:
    """As the Plan is judged by a rule that its Migration is judged by again: whatever it reads,
    where entries begin at once."""

    def check(facts: PlanFacts) -> Iterator[Finding | Unknown]:
        begins = facts.begins and any(vm.is_new for vm in facts.vms)
        if not begins and not (facts.changed & rule.reads):
            return
        for found in rule.check(facts):
            if isinstance(found, Finding) and not facts.begins:
                found = replace(found, at_most=milder(found.at_most, "warn"))
            yield found

    return replace(rule, check=check, reads=rule.reads | {PLAN_VMS_FIELD})


def _at_the_start(rule: Rule[PlanFacts]) -> Rule[MigrationFacts]:
    """As the Migration is judged by it: of the Plan's fields only `spec.plan` is in sight."""

    def check(facts: MigrationFacts) -> Iterator[Finding | Unknown]:
        for found in rule.check(facts.plan):
            message = f"{found.field} of the Plan: {found.message}"
            if isinstance(found, Finding):
                found = replace(found, expected=None)  # it is the Plan's field's
            yield replace(found, field=MIGRATION_PLAN_FIELD, message=message)

    return _lent(rule, MigrationFacts, frozenset({MIGRATION_PLAN_FIELD}), check)


def _at_once(rule: Rule[Any]) -> Rule[PlanFacts]:
    """As a Plan is judged by it that has been started: no Migration comes any more."""

    def check(facts: PlanFacts) -> Iterator[Finding | Unknown]:
        for found in rule.check(MigrationFacts(plan=facts, runs=True)) if facts.begins else ():
            place = "" if found.entry is None else f"[{found.entry}]"
            yield replace(found, field=f"{PLAN_VMS_FIELD}{place}", entry=None)

    return _lent(rule, PlanFacts, PLAN_VM_FIELDS | {DESTINATION_PROVIDER_FIELD}, check)


def _lent(
    rule: Rule[Any],
    facts: type[F],
    reads: frozenset[str],
    check: Callable[[F], Iterator[Finding | Unknown]],
) -> Rule[F]:
    """A rule as another kind is judged by it."""
    return Rule(
        id=rule.id,
        facts=facts,
        reads=reads,
        check=check,
        asks_vsphere=rule.asks_vsphere,
        asks_cluster=rule.asks_cluster,
        action=rule.action,
        gate=rule.gate,
    )


def _rules(facts: type[Facts]) -> Iterator[Rule[Any]]:
    for rule in RULES:
        if issubclass(facts, rule.facts):
            yield _early(rule) if rule.facts is PlanFacts and rule.again else rule
        elif facts is MigrationFacts and rule.facts is PlanFacts and rule.again:
            yield _at_the_start(rule)
        elif facts is PlanFacts and rule.again and issubclass(MigrationFacts, rule.facts):
            yield _at_once(rule)


# By the objects themselves: settings that change make another policy, and so another enforcement.
@lru_cache(maxsize=1024)
def _running(book: Book[Any], enforcement: Enforcement) -> tuple[tuple[Rule[Any], Action], ...]:
    actions = ((rule, enforcement.action(rule)) for rule in book.rules)
    return tuple((rule, action) for rule, action in actions if action != "off")


@lru_cache(maxsize=16)
def _filling(book: Book[Any], policy: Policy) -> tuple[Default[Any], ...]:
    return tuple(one for one in book.defaults if policy.defaults.get(one.id, one.on))


def _book(ask: Any, facts: type[Facts], namespace: Callable[[Any], str], **more: Any) -> Book[Any]:
    return Book(
        ask,
        tuple(_rules(facts)),
        tuple(default for default in DEFAULTS if default.facts is facts),
        namespace,
        **more,
    )


MIGRATIONS: Book[MigrationFacts] = _book(migration, MigrationFacts, lambda one: "")
_BOOKS: dict[review.Kind, Book[Any]] = {
    review.PVC: _book(pvc, PvcFacts, lambda one: one.pvc.namespace, known=pvc.known),
    review.PLAN: _book(plan, PlanFacts, lambda one: one.plan.target_namespace),
    review.MIGRATION: MIGRATIONS,
    review.CONVERSION: _book(conversion, ConversionFacts, lambda one: one.conversion.namespace),
}


def book_of(kind: review.Kind) -> Book[Any]:
    """Of one of webhook.model.review.JUDGED."""
    return _BOOKS[kind]
