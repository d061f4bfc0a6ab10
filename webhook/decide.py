"""The engine: gather facts once, run pure rules, answer once.

`decide` judges (/validate), `repair` fills in (/mutate); both are the same for every door.
"""

import asyncio
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from webhook.claims import Claims, ClusterReader
from webhook.errors import ClusterUnreachable, ObjectMalformed, VsphereUnreachable
from webhook.gather import MigrationQuestion, PlanQuestion, PvcQuestion, Question
from webhook.inventory import Inventory, Overlay, ProviderInventory
from webhook.model import MILDEST_FIRST, Action, KubeObject
from webhook.review import MIGRATION, PLAN, PVC, Admitted, Cause, Denied, Review, Undecided, Verdict
from webhook.rule import (
    Default,
    F,
    Finding,
    MigrationFacts,
    PatchOp,
    PlanFacts,
    PvcFacts,
    Reason,
    Rule,
    Unknown,
)
from webhook.rules import DEFAULTS, RULES


class Policy(msgspec.Struct, frozen=True):
    """What the operator chose."""

    actions: Mapping[str, Action] = {}
    """Rule id to action, where it isn't the rule's own."""
    defaults: Mapping[str, bool] = {}
    """Default id to whether it fills in, where it isn't the default's own."""
    undecided: Action = "deny"
    """deny or warn."""
    max_age: float = 3600.0
    """Seconds past which what is known of a provider decides nothing."""
    trust_network: bool = False
    """Whether every caller may know what vSphere says."""
    ignore_providers: frozenset[str] = frozenset()
    """`namespace/name` of providers whose silence makes no PVC undecided."""


class Sources(msgspec.Struct, frozen=True):
    """What a decision rests on; `now` is the monotonic clock that tells the inventory's age."""

    inventory: Inventory
    policy: Policy
    now: Callable[[], float]
    claims: Claims | None = None
    """The cluster's labelled PVCs, followed; None outside any cluster."""
    cluster: ClusterReader | None = None

    @property
    def trusted(self) -> bool:
        """Whether this caller may be told what the object itself doesn't prove."""
        return self.policy.trust_network


async def decide(review: Review, sources: Sources, deadline: float) -> Verdict:
    """Whether the object of `review` may pass. `deadline` is by the running loop's clock.

    An allow of what the inventory knows never waits. A denial that rests on the inventory is
    confirmed by a fresh read; where that can't be had in time the verdict is undecided.
    """
    if review.object is None:
        return Admitted()
    try:
        book = _BOOKS[review.kind]
        question = book.ask(review.object, review.old, sources)
        verdict = await _judge(question, book, sources, deadline, review.user)
    except ObjectMalformed as error:
        return Denied((Cause(error.field, str(error), "FieldValueInvalid", "object"),))
    if isinstance(verdict, Undecided) and sources.policy.undecided != "deny":
        return Admitted(warnings=(f"not checked: {verdict.message}",), audit=verdict.audit)
    return verdict


def repair(review: Review, sources: Sources) -> Admitted:
    """The changes that have only one right answer; none where the facts can't be had."""
    if review.object is None:
        return Admitted()
    try:
        return Admitted(_fill(_BOOKS[review.kind], review.object, review.old, sources))
    except ObjectMalformed:
        return Admitted()  # the API server's own validation says what is wrong


class _Book(msgspec.Struct, frozen=True):
    """What there is to ask about one kind, and its rules and defaults in their order."""

    question: "_Asks"
    rules: tuple[Rule[Any], ...]
    defaults: tuple[Default[Any], ...]

    @classmethod
    def of(
        cls,
        question: "_Asks",
        facts: type[PvcFacts] | type[PlanFacts] | type[MigrationFacts],
    ) -> "_Book":
        return cls(
            question,
            tuple(rule for rule in RULES if rule.facts is facts),
            tuple(default for default in DEFAULTS if default.facts is facts),
        )

    def ask(self, obj: KubeObject, old: KubeObject | None, sources: Sources) -> Question[Any]:
        question: Question[Any] = self.question(obj, old, sources)
        return question


_Asks = type[PvcQuestion] | type[PlanQuestion] | type[MigrationQuestion]
_BOOKS = {
    PVC: _Book.of(PvcQuestion, PvcFacts),
    PLAN: _Book.of(PlanQuestion, PlanFacts),
    MIGRATION: _Book.of(MigrationQuestion, MigrationFacts),
}


class _Opinion(msgspec.Struct, frozen=True):
    """What the rules say on one provider's word, sorted by what is to be done about it."""

    source: ProviderInventory | None
    rank: int
    deny: tuple[Cause, ...] = ()
    """Denials that the object alone is enough for."""
    deny_if_so: tuple[Cause, ...] = ()
    """Denials that rest on the inventory: to be confirmed."""
    unknown: tuple[Cause, ...] = ()
    warn: tuple[Cause, ...] = ()
    audit: tuple[Cause, ...] = ()

    @property
    def clean(self) -> bool:
        return not (self.deny or self.deny_if_so or self.unknown)

    @property
    def asks_again(self) -> bool:
        """Whether a fresh read could change it."""
        return bool(self.deny_if_so or (self.unknown and self.source))


def _opinion(
    question: Question[F],
    book: _Book,
    policy: Policy,
    source: ProviderInventory | None,
    facts: F,
) -> _Opinion:
    changed, created = question.changed, question.created
    piles: dict[str, tuple[Cause, ...]] = {}
    where: str
    for rule in book.rules:
        if not created and not rule.reads & changed:
            continue
        action = policy.actions.get(rule.id, rule.action)
        if action == "off":
            continue
        for said in rule.check(facts):
            cause = Cause(said.field, said.message, _reason(said), rule.id)
            where = _pile(rule, action, said)
            piles[where] = (*piles.get(where, ()), cause)
    piles.pop("off", None)
    return _Opinion(source, question.rank(facts), **piles)


def _pile(rule: Rule[Any], action: Action, said: Finding | Unknown) -> str:
    """Where in an opinion it belongs."""
    if isinstance(said, Unknown):
        return "unknown" if action == "deny" else action
    action = min(action, said.at_most, key=MILDEST_FIRST.index)
    rests = rule.asks_vsphere and not said.certain
    return "deny_if_so" if action == "deny" and rests else action


def _reason(said: Finding | Unknown) -> Reason:
    return said.reason if isinstance(said, Finding) else "FieldValueInvalid"


async def _judge(
    question: Question[F], book: _Book, sources: Sources, deadline: float, user: str
) -> Verdict:
    if not question.judged:
        return Admitted()
    try:
        async with asyncio.timeout_at(deadline):
            await question.fetch(sources.cluster)
    except ClusterUnreachable as error:
        return Undecided(f"the PVCs of the target namespace can't be had: {error}")
    except TimeoutError:
        return Undecided("the API server did not list the PVCs within this request's time")
    if not question.judged:
        return Admitted(warnings=tuple(question.warnings))
    policy = sources.policy
    usable, unusable = _providers(question, sources)
    opinions = [
        _opinion(question, book, policy, source, question.facts(source, source.vms, usable))
        for source in usable
    ] or [_opinion(question, book, policy, None, question.facts(None, None, usable))]
    if len(opinions) > 1:
        opinions.sort(key=lambda said: -said.rank)
    for said in opinions:
        if said.clean and not question.gate:
            return _admitted(said, sources)
    best = [said for said in opinions if said.rank == opinions[0].rank]
    if not any(said.asks_again or question.gate for said in best):
        return _settled(best[0], None)
    if doubt := _doubt(usable, unusable, sources):
        return _settled(best[0], doubt)
    try:
        async with asyncio.timeout_at(deadline):
            best = await asyncio.gather(
                *(_confirmed(said, question, book, policy, usable, user) for said in best)
            )
    except VsphereUnreachable as error:
        return _settled(best[0], Undecided(str(error)))
    except TimeoutError:
        names = ", ".join(said.source.name for said in best if said.source)
        return _settled(best[0], Undecided(f"{names} did not answer within this request's time"))
    for said in best:
        if said.clean:
            return _admitted(said, sources)
    return _settled(max(best, key=lambda said: said.rank), None)


async def _confirmed(
    known: _Opinion,
    question: Question[F],
    book: _Book,
    policy: Policy,
    usable: Sequence[ProviderInventory],
    user: str,
) -> _Opinion:
    """The opinion once more, on what vSphere itself says now. Raises VsphereUnreachable."""
    source = known.source
    if source is None or source.reader is None:
        raise VsphereUnreachable(source.trouble if source else "no vSphere provider is known")
    fields = {cause.field for cause in (*known.deny_if_so, *known.unknown)}
    wanted = question.wanted(question.facts(source, source.vms, usable), fields)
    fresh = await source.reader.read(
        morefs=wanted.morefs, uuids=wanted.uuids, names=wanted.names, user=user
    )
    view = Overlay(source.vms, wanted.morefs, fresh)
    return _opinion(question, book, policy, source, question.facts(source, view, usable))


def _providers(
    question: Question[F], sources: Sources
) -> tuple[list[ProviderInventory], list[ProviderInventory]]:
    """Those whose word counts now, and those that should be asked but can't be."""
    usable, unusable = [], []
    now, policy = sources.now(), sources.policy
    for source in question.providers:
        if source.synced and source.age(now) <= policy.max_age:
            usable.append(source)
        elif source.name not in policy.ignore_providers:
            unusable.append(source)
    return usable, unusable


def _doubt(
    usable: Sequence[ProviderInventory], unusable: Sequence[ProviderInventory], sources: Sources
) -> Undecided | None:
    """Why no denial can be certain yet, or None where every provider has its word."""
    if unusable:
        reading = all(source.unreachable_since is None for source in unusable)
        whys = "; ".join(_why(source, sources) for source in unusable)
        return Undecided(whys, 2 if reading else None)
    for namespace, why in sources.inventory.unlisted.items():
        return Undecided(f"the Providers of namespace {namespace} are not known yet: {why()}", 2)
    if not usable:
        return Undecided("no vSphere provider is known: make one in one of providerNamespaces")
    return None


def _why(source: ProviderInventory, sources: Sources) -> str:
    if not source.synced or source.unreachable_since:
        return source.trouble
    age, limit = source.age(sources.now()), sources.policy.max_age
    return f"what is known of provider {source.name} is {_span(age)} old, past {_span(limit)}"


def _span(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


def _admitted(said: _Opinion, sources: Sources) -> Admitted:
    warnings = [f"{cause.field}: {cause}" for cause in said.warn]
    if said.source and said.source.unreachable_since:
        age = _span(said.source.age(sources.now()))
        warnings.append(f"judged by what was known {age} ago: {said.source.trouble}")
    return Admitted(warnings=tuple(warnings), audit=_audit("admitted", said))


def _settled(said: _Opinion, doubt: Undecided | None) -> Verdict:
    """The verdict on an opinion that isn't clean; what needs no confirming stands in doubt."""
    causes = said.deny if doubt else (*said.deny, *said.deny_if_so)
    if causes:
        warnings = tuple(f"{cause.field}: {cause}" for cause in said.warn)
        return Denied(causes, warnings, _audit("denied", said))
    if doubt is None:
        doubt = Undecided("; ".join(f"{cause.field}: {cause}" for cause in said.unknown))
    return msgspec.structs.replace(doubt, audit=_audit("undecided", said))


def _audit(verdict: str, said: _Opinion) -> dict[str, str]:
    causes = (*said.deny, *said.deny_if_so, *said.unknown, *said.warn, *said.audit)
    audit = {"verdict": verdict}
    if said.source:
        audit["provider"] = said.source.name
    if causes:
        audit["rules"] = ",".join(sorted({cause.rule for cause in causes}))
    return audit


def _fill(
    book: _Book, obj: KubeObject, old: KubeObject | None, sources: Sources
) -> tuple[PatchOp, ...]:
    patch: list[PatchOp] = []
    question = book.ask(obj, old, sources)
    for default in book.defaults:
        if not sources.policy.defaults.get(default.id, default.on):
            continue
        if not question.judged or not default.reads & question.changed:
            continue
        if ops := _agreed(question, default, sources):
            obj = obj if patch else copy.deepcopy(obj)
            for op in ops:
                patch.extend(_apply(obj, op))
            question = book.ask(obj, old, sources)  # the next one sees what this one wrote
    return tuple(patch)


def _agreed(question: Question[F], default: Default[F], sources: Sources) -> tuple[PatchOp, ...]:
    """What every provider that fits best would fill in; nothing where two of them differ."""
    usable, _ = _providers(question, sources)
    if not default.asks_vsphere:
        return tuple(default.fill(question.facts(None, None, usable)))
    facts = [question.facts(source, source.vms, usable) for source in usable]
    best = max(map(question.rank, facts), default=0)
    answers = {tuple(default.fill(f)) for f in facts if best and question.rank(f) == best}
    return answers.pop() if len(answers) == 1 else ()


def _apply(obj: Any, op: PatchOp) -> Iterator[PatchOp]:
    """Make the change in `obj`, and yield it, after the empty parent that it may need."""
    *parents, leaf = op.path
    at = obj
    for depth, part in enumerate(parents):
        if isinstance(at, dict) and at.get(part) is None:
            yield PatchOp("add", tuple(parents[: depth + 1]), {})
            at[part] = {}
        at = at[part]
    if op.op == "remove":
        del at[leaf]
    else:
        at[leaf] = op.value
    yield op
