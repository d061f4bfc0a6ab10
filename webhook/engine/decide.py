"""The engine: gather facts once, run pure rules, answer once.

`decide` judges (/validate), `repair` fills in (/mutate); both are the same for every door.
"""

import asyncio
import copy
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from webhook.engine.gather import (
    ConversionQuestion,
    MigrationQuestion,
    PlanQuestion,
    PvcQuestion,
    Question,
)
from webhook.engine.policy import Enforcement, Policy, milder
from webhook.errors import ClusterUnreachable, ObjectMalformed, TooManyReads, VsphereUnreachable
from webhook.facts.facts import ConversionFacts, F, Facts, MigrationFacts, PlanFacts, PvcFacts
from webhook.facts.rule import Default, Finding, Rule, Unknown
from webhook.inventory.cluster import ClusterReader, Followed
from webhook.inventory.overlay import Overlay
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.model.keys import MARK, MOREF, PRIME, UUID, Action
from webhook.model.objects import PROVIDERS, KubeObject, User
from webhook.model.review import (
    CONVERSION,
    MIGRATION,
    PLAN,
    PVC,
    Admitted,
    Cause,
    Denied,
    Doubt,
    PatchOp,
    Review,
    Skip,
    Undecided,
    Verdict,
)
from webhook.rules import DEFAULTS, RULES


class Sources(msgspec.Struct, frozen=True):
    """What a decision rests on; `now` is the monotonic clock that tells the inventory's age."""

    inventory: Inventory
    policy: Policy
    now: Callable[[], float]
    followed: Followed | None = None
    """What is kept of the cluster; None outside any."""
    cluster: ClusterReader | None = None

    def believes(self, user: User) -> bool:
        """Whether `user` is certainly who it says: only the API server can have sent it."""
        return user.proven or self.policy.trust_network

    def enforcement(self, namespace: str, at_most: Action = "deny") -> Enforcement:
        """What is done about findings in `namespace`."""
        label = self.followed.enforced.get(namespace) if self.followed else None
        return Enforcement(self.policy, self.policy.namespaces.get(namespace), label, at_most)

    async def may(self, user: User, verb: str, resource: str, namespace: str, name: str) -> bool:
        """Whether that may be told to `user` which one needs this right to see."""
        if not self.believes(user):
            return False
        if self.cluster is None:
            return True
        try:
            return await self.cluster.may(user, verb, resource, namespace, name)
        except ClusterUnreachable:
            return False


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
        if why := _skipped(question, sources.policy, review.user):
            audit = {"verdict": "skipped", "skipped-because": _SKIPS[why]}
            return Admitted(audit=audit, skipped=why)
        return await _judge(question, book, sources, deadline, review.user)
    except ObjectMalformed as error:
        causes = (Cause(error.field, str(error), "FieldValueInvalid", "object"),)
        return Denied(causes, findings=causes)


async def repair(review: Review, sources: Sources, deadline: float) -> Admitted:
    """The changes that have only one right answer; none where the facts can't be had."""
    if review.object is None:
        return Admitted()
    try:
        book = _BOOKS[review.kind]
        question = book.ask(review.object, review.old, sources)
        if not question.judged or _skipped(question, sources.policy, review.user):
            return Admitted()
        if _past_conversion(question, sources.policy):
            return Admitted()  # what is restored comes back as it was
        async with asyncio.timeout_at(deadline):
            trusted = await _trusted(question, sources, review.user)
        return Admitted(_fill(book, review.object, review.old, sources, trusted))
    except ObjectMalformed:
        return Admitted()  # the API server's own validation says what is wrong
    except TimeoutError:
        return Admitted()


def _skipped(question: Question[Any], policy: Policy, user: User) -> Skip | None:
    """Why a PVC is none of a vendor's; None where it may be one. A skip proves nothing: the
    whole-disk-set proof looks at every PVC."""
    if not isinstance(question, PvcQuestion):
        return None
    pvc = question.pvc
    if UUID.fullmatch(str(pvc.labels.get(MARK, ""))):
        return "forklift-mark"
    if pvc.name.startswith(PRIME):
        if not pvc.vm_uuid:
            return "populator"
        if user.username in policy.importers:
            return "importer"
    return None


_SKIPS: dict[Skip, str] = {
    "forklift-mark": "marked by Forklift: the label migration is a uuid",
    "populator": "a populator's own: prime-* without vmUUID",
    "importer": "a populator's own: prime-* by an importer",
}


def _past_conversion(question: Question[Any], policy: Policy) -> bool:
    return isinstance(question, PvcQuestion) and policy.past_conversion.marks(question.pvc)


async def _trusted(question: Question[Any], sources: Sources, user: User) -> frozenset[str]:
    """The names of the providers of which `user` may know everything."""
    if not sources.believes(user):
        return frozenset()
    names = [(source.provider.namespace, source.provider.name) for source in question.providers]
    asked = (sources.may(user, "get", PROVIDERS, *name) for name in names)
    allowed = zip(question.providers, await asyncio.gather(*asked), strict=True)
    return frozenset(source.name for source, may in allowed if may)


class _Book(msgspec.Struct, frozen=True):
    """What there is to ask about one kind, and its rules and defaults in their order."""

    question: "_Asks"
    rules: tuple[Rule[Any], ...]
    defaults: tuple[Default[Any], ...]

    @classmethod
    def of(
        cls,
        question: "_Asks",
        facts: type[Facts],
    ) -> "_Book":
        return cls(
            question,
            tuple(rule for rule in RULES if rule.facts is facts),
            tuple(default for default in DEFAULTS if default.facts is facts),
        )

    def ask(self, obj: KubeObject, old: KubeObject | None, sources: Sources) -> Question[Any]:
        question: Question[Any] = self.question(obj, old, sources)
        return question

    @property
    def gate(self) -> bool:
        """Whether any of its rules is one that a namespace's label doesn't lower."""
        return any(rule.gate for rule in self.rules)


_Asks = type[PvcQuestion] | type[PlanQuestion] | type[MigrationQuestion] | type[ConversionQuestion]
_BOOKS = {
    PVC: _Book.of(PvcQuestion, PvcFacts),
    PLAN: _Book.of(PlanQuestion, PlanFacts),
    MIGRATION: _Book.of(MigrationQuestion, MigrationFacts),
    CONVERSION: _Book.of(ConversionQuestion, ConversionFacts),
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
    enforcement: Enforcement,
    source: ProviderInventory | None,
    facts: F,
) -> _Opinion:
    changed, created = question.changed, question.created
    piles: dict[str, tuple[Cause, ...]] = {}
    where: str
    for rule in book.rules:
        if not created and not rule.reads & changed:
            continue
        action = enforcement.action(rule)
        if action == "off":
            continue
        for said in rule.check(facts):
            where = _pile(rule, action, said)
            cause = _cause(said, rule, where)
            piles[where] = (*piles.get(where, ()), cause)
    piles.pop("off", None)
    return _Opinion(source, question.rank(facts), **piles)


def _pile(rule: Rule[Any], action: Action, said: Finding | Unknown) -> str:
    """Where in an opinion it belongs."""
    if isinstance(said, Unknown):
        return "unknown" if action == "deny" else action
    action = milder(action, said.at_most)
    rests = rule.asks_vsphere and not said.certain
    return "deny_if_so" if action == "deny" and rests else action


def _cause(said: Finding | Unknown, rule: Rule[Any], where: str) -> Cause:
    if isinstance(said, Unknown):
        return Cause(said.field, said.message, "FieldValueInvalid", rule.id)
    action: Action = "warn" if where == "warn" else "audit" if where == "audit" else "deny"
    return Cause(said.field, said.message, said.reason, rule.id, action, said.expected)


async def _judge(
    question: Question[F], book: _Book, sources: Sources, deadline: float, user: User
) -> Verdict:
    if not question.judged:
        return Admitted()
    doubt: Undecided | None = None
    try:
        async with asyncio.timeout_at(deadline):
            await question.fetch(user)
            question.trusted = await _trusted(question, sources, user)
    except ClusterUnreachable as error:
        why = f"the PVCs of the target namespace can't be had: {error}"
        doubt = Undecided(why, "cluster", audit=_UNKNOWN)
    except TimeoutError:
        why = "the API server did not list the PVCs within this request's time"
        doubt = Undecided(why, "deadline", audit=_UNKNOWN)
    else:
        if not question.judged:
            return Admitted(warnings=tuple(question.warnings))
    enforcement = _enforcement(question, sources)
    verdict: Verdict
    if doubt is not None:
        verdict = doubt
    else:
        verdict = await _opine(question, book, sources, enforcement, deadline, user)
    if isinstance(verdict, Undecided):
        action = enforcement.undecided(gate=book.gate)
        if action != "deny":
            warnings = (f"not checked: {verdict.message}",) if action == "warn" else ()
            verdict = Admitted(warnings=warnings, audit=verdict.audit, doubt=verdict.doubt)
    if verdict.audit and (vms := ",".join(vm for vm in question.vms if MOREF.fullmatch(vm))):
        verdict = msgspec.structs.replace(verdict, audit={**verdict.audit, "vm": vms})
    return verdict


_UNKNOWN = {"verdict": "undecided"}


def _enforcement(question: Question[Any], sources: Sources) -> Enforcement:
    past = _past_conversion(question, sources.policy)
    return sources.enforcement(question.namespace, "warn" if past else "deny")


async def _opine(
    question: Question[F],
    book: _Book,
    sources: Sources,
    enforcement: Enforcement,
    deadline: float,
    user: User,
) -> Verdict:
    usable, unusable = _providers(question, sources)
    opinions = [
        _opinion(question, book, enforcement, source, question.facts(source, source.vms, usable))
        for source in usable
    ] or [_opinion(question, book, enforcement, None, question.facts(None, None, usable))]
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
                *(_confirmed(said, question, book, enforcement, usable, user) for said in best)
            )
    except TooManyReads as error:
        return _settled(best[0], Undecided(str(error), "too-many-reads"))
    except VsphereUnreachable as error:
        return _settled(best[0], Undecided(str(error), "unreachable"))
    except TimeoutError:
        names = ", ".join(said.source.name for said in best if said.source)
        why = f"{names} did not answer within this request's time"
        return _settled(best[0], Undecided(why, "deadline"))
    for said in best:
        if said.clean:
            return _admitted(said, sources)
    return _settled(max(best, key=lambda said: said.rank), None)


async def _confirmed(
    known: _Opinion,
    question: Question[F],
    book: _Book,
    enforcement: Enforcement,
    usable: Sequence[ProviderInventory],
    user: User,
) -> _Opinion:
    """The opinion once more, on what vSphere itself says now. Raises VsphereUnreachable."""
    source = known.source
    if source is None or source.reader is None:
        raise VsphereUnreachable(source.trouble if source else "no vSphere provider is known")
    fields = {cause.field for cause in (*known.deny_if_so, *known.unknown)}
    wanted = question.wanted(question.facts(source, source.vms, usable), fields)
    fresh = await source.reader.read(
        morefs=wanted.morefs,
        uuids=wanted.uuids,
        names=wanted.names,
        user=user.username,
        afresh=question.gate,  # what it lets through shuts a VM down
    )
    view = Overlay(source.vms, wanted.morefs, fresh)
    return _opinion(question, book, enforcement, source, question.facts(source, view, usable))


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
        doubts = {_doubt_of(source) for source in unusable}
        worst = next(doubt for doubt in _WORST_FIRST if doubt in doubts)
        whys = "; ".join(_why(source, sources) for source in unusable)
        return Undecided(whys, worst, None if worst == "unreachable" else 2)
    for namespace, why in sources.inventory.unlisted.items():
        text = f"the Providers of namespace {namespace} are not known yet: {why()}"
        return Undecided(text, "first-read", 2)
    if not usable:
        text = "no vSphere provider is known: make one in one of providerNamespaces"
        return Undecided(text, "no-provider")
    return None


_WORST_FIRST: tuple[Doubt, ...] = ("unreachable", "too-old", "first-read")


def _doubt_of(source: ProviderInventory) -> Doubt:
    """Why a provider's word doesn't count now."""
    if source.unreachable_since is not None:
        return "unreachable"
    return "too-old" if source.synced else "first-read"


def _why(source: ProviderInventory, sources: Sources) -> str:
    if not source.synced or source.unreachable_since:
        return source.trouble
    age, limit = source.age(sources.now()), sources.policy.max_age
    return f"what is known of provider {source.name} is {_span(age)} old, past {_span(limit)}"


def _span(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


def _admitted(said: _Opinion, sources: Sources) -> Admitted:
    warnings = [f"{cause.field}: {cause}" for cause in sorted(said.warn, key=_place)]
    if said.source and (said.source.unreachable_since or said.source.recalled):
        age = _span(said.source.age(sources.now()))
        warnings.append(f"judged by what was known {age} ago: {said.source.trouble}")
    findings = (*said.warn, *said.audit)
    return Admitted(warnings=tuple(warnings), audit=_audit("admitted", said), findings=findings)


def _settled(said: _Opinion, doubt: Undecided | None) -> Verdict:
    """The verdict on an opinion that isn't clean; what needs no confirming stands in doubt."""
    causes = said.deny if doubt else (*said.deny, *said.deny_if_so)
    if causes:
        warnings = tuple(f"{cause.field}: {cause}" for cause in sorted(said.warn, key=_place))
        causes = tuple(sorted(causes, key=_place))
        findings = (*causes, *said.warn, *said.audit)
        return Denied(causes, warnings, _audit("denied", said), findings)
    if doubt is None:
        doubt = Undecided("; ".join(f"{c.field}: {c}" for c in said.unknown), "facts")
    return msgspec.structs.replace(doubt, audit=_audit("undecided", said))


def _place(cause: Cause) -> list[str | int]:
    """Where a reader expects it: by field, with spec.vms[2] before spec.vms[10]."""
    parts = _NUMBERS.split(cause.field)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


_NUMBERS = re.compile(r"(\d+)", re.ASCII)


def _audit(verdict: str, said: _Opinion) -> dict[str, str]:
    causes = (*said.deny, *said.deny_if_so, *said.unknown, *said.warn, *said.audit)
    audit = {"verdict": verdict}
    if said.source:
        audit["provider"] = said.source.name
    if causes:
        audit["rules"] = ",".join(sorted({cause.rule for cause in causes}))
    return audit


def _fill(
    book: _Book,
    obj: KubeObject,
    old: KubeObject | None,
    sources: Sources,
    trusted: Collection[str],
) -> tuple[PatchOp, ...]:
    patch: list[PatchOp] = []
    question = book.ask(obj, old, sources)
    question.trusted = trusted
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
            question.trusted = trusted
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
