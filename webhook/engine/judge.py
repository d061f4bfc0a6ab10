"""Whether an object may pass: gather facts once, run pure rules, answer once.

An allow of what the inventory knows never waits. A denial that rests on vSphere or on what is
followed of the cluster is confirmed by asking them once more; where that can't be had in time the
verdict is undecided.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic

import msgspec

from webhook.engine import doubt
from webhook.engine.afresh import afresh, confirmed_live
from webhook.engine.ask import Asked, Views
from webhook.engine.books import Book, book_of
from webhook.engine.opinion import Opinion, opine
from webhook.engine.policy import Enforcement
from webhook.engine.sources import Sources
from webhook.errors import ClusterUnreachable, ObjectMalformed
from webhook.facts.facts import F
from webhook.inventory.provider import ProviderInventory
from webhook.model.keys import MOREF
from webhook.model.objects import User
from webhook.model.review import VERDICTS, Admitted, Cause, Denied, Review, Undecided, Verdict

Deciding = Coroutine[Any, Any, Verdict]
"""What a verdict is still to be had by."""


async def decide(review: Review, sources: Sources, deadline: float) -> Verdict:
    """Whether the object of `review` may pass. `deadline` is by the running loop's clock."""
    begun = begin(review, sources, deadline)
    return begun if isinstance(begun, VERDICTS) else await begun


def begin(review: Review, sources: Sources, deadline: float) -> Verdict | Deciding:
    """The same, at once where nothing has to be waited for."""
    if review.object is None:
        return Admitted()
    since = sources.now()
    try:
        book = book_of(review.kind)
        subject = book.ask.subject(review.object, review.old)
        if (skip := book.skipped(subject, sources.policy, review.user)) is not None:
            return skip
        if not subject.judged:
            return Admitted()
        asked = book.known(subject, sources, review.user)
        if asked is None:
            return _gathered(book, subject, sources, review.user, deadline, since)
        return _judged(book, asked, sources, review.user, deadline, since)
    except ObjectMalformed as error:
        return _malformed(error)


def _malformed(error: ObjectMalformed) -> Denied:
    causes = (Cause(error.field, str(error), "FieldValueInvalid", "object"),)
    return Denied(causes, findings=causes)


async def _gathered(
    book: Book[F], subject: Any, sources: Sources, user: User, deadline: float, since: float
) -> Verdict:
    """The verdict on what the API server must be asked for."""
    try:
        async with asyncio.timeout_at(deadline):
            asked = await book.ask.gather(subject, sources, user)
        said = _judged(book, asked, sources, user, deadline, since)
        return said if isinstance(said, VERDICTS) else await said
    except ObjectMalformed as error:
        return _malformed(error)
    except (ClusterUnreachable, TimeoutError) as error:
        verdict = msgspec.structs.replace(doubt.of_cluster(error), audit=_UNKNOWN)
    return _enforced(verdict, sources.enforcement(book.namespace(subject)), book)


_UNKNOWN = {"verdict": "undecided"}


def _judged(
    book: Book[F], asked: Asked[F], sources: Sources, user: User, deadline: float, since: float
) -> Verdict | Deciding:
    if not asked.judged:
        said = asked.warnings
        return Admitted(warnings=said, notes=said, unchecked=bool(said))
    enforcement = sources.enforcement(asked.namespace, asked.at_most)
    judgement = _first(asked, book, sources, enforcement, deadline, since, user)
    if isinstance(judgement, Judgement):
        return _enforced(judgement.verdict(sources), enforcement, book)
    return _confirmed_verdict(judgement, sources, enforcement, book)


async def _confirmed_verdict(
    judgement: "Coroutine[Any, Any, Judgement[F]]",
    sources: Sources,
    enforcement: Enforcement,
    book: Book[F],
) -> Verdict:
    try:
        return _enforced((await judgement).verdict(sources), enforcement, book)
    except ObjectMalformed as error:
        return _malformed(error)


def _enforced(verdict: Verdict, enforcement: Enforcement, book: Book[Any]) -> Verdict:
    """What the policy makes of a verdict that could not be had."""
    if not isinstance(verdict, Undecided):
        return verdict
    action = enforcement.undecided(gate=book.gate)
    if action == "deny":
        return verdict
    said = (f"not checked: {verdict.message}",)
    return Admitted(
        warnings=said if action == "warn" else (),
        audit=verdict.audit,
        doubt=verdict.doubt,
        notes=said,
        unchecked=True,
    )


class Judgement(msgspec.Struct, Generic[F], frozen=True, kw_only=True):
    """What came of it: the opinion that counts, and what could not be confirmed of it."""

    asked: Asked[F]
    opinion: Opinion[F]
    vsphere: Undecided | None = None
    """Why what rests on vSphere is in doubt."""
    cluster: Undecided | None = None

    @property
    def doubt(self) -> Undecided | None:
        """Why the verdict is undecided, where it is."""
        said = self.opinion
        if self.vsphere is not None and (said.deny_vsphere or said.unknown or self.asked.gate):
            return self.vsphere
        if self.cluster is not None and said.deny_cluster:
            return self.cluster
        if said.unknown:
            return Undecided("; ".join(f"{c.field}: {c}" for c in said.unknown), "facts")
        return None

    @property
    def denials(self) -> tuple[Cause, ...]:
        """Those that are certain, or confirmed."""
        said = self.opinion
        return (
            *said.deny,
            *(() if self.vsphere else said.deny_vsphere),
            *(() if self.cluster else said.deny_cluster),
        )

    def verdict(self, sources: Sources) -> Verdict:
        """The answer to all of it."""
        said, veil = self.opinion, self.asked.veil
        denials, doubtful = self.denials, self.doubt
        if veil is not None:
            return self._veiled(veil, denied=bool(denials), doubtful=doubtful)
        if denials:
            ordered = tuple(sorted(denials, key=Cause.place))
            findings = (*ordered, *said.warn, *said.audit)
            audit = self._annotations("denied", said.rules)
            return Denied(ordered, said.warnings, audit, findings, self.asked.names_plan)
        if doubtful is not None:
            audit = self._annotations("undecided", said.rules)
            return msgspec.structs.replace(doubtful, audit=audit)
        note = doubt.age_warning(said.source, sources) if said.source and said.told else ""
        if said.unsaid and self.vsphere is not None:
            note = f"not checked: {self.vsphere.message}"
        left_out = self.asked.warnings
        notes = (*left_out, note) if note else left_out
        return Admitted(
            warnings=(*said.warnings, *notes),
            audit=self._annotations("admitted", said.rules),
            findings=(*said.warn, *said.audit),
            notes=notes,
            unchecked=bool(left_out),
        )

    def _veiled(self, veil: Cause, *, denied: bool, doubtful: Undecided | None) -> Verdict:
        """One answer for each verdict: neither words nor numbers tell what the caller may not
        know."""
        if denied:
            audit = self._annotations("denied", veil.rule)
            return Denied((veil,), (), audit, (veil,), self.asked.names_plan)
        if doubtful is not None:
            message = f"{veil.field}: can't be checked now: try again"
            audit = self._annotations("undecided")
            return msgspec.structs.replace(doubtful, message=message, audit=audit)
        return Admitted(audit=self._annotations("admitted"))

    def _annotations(self, verdict: str, rules: str = "") -> dict[str, str]:
        """For the audit log. The VMs and the provider as far as the caller may know them, for the
        annotations are in the answer."""
        asked, said = self.asked, self.opinion
        audit = {"verdict": verdict}
        if rules:
            audit["rules"] = rules
        if vms := ",".join(vm for vm in asked.vms if MOREF.fullmatch(vm)):
            audit["vm"] = vms
        if said.source and said.told:
            audit["provider"] = said.source.name
        return audit


async def judge(
    asked: Asked[F],
    book: Book[F],
    sources: Sources,
    enforcement: Enforcement,
    deadline: float,
    since: float,
    user: User,
) -> Judgement[F]:
    """The opinion on `asked`, confirmed where it must be: by reads that begin after `since`.

    Only the providers that know the VM best can speak for it. Before a denial every provider whose
    word counts has been read afresh: morefs repeat between vCenters.
    """
    first = _first(asked, book, sources, enforcement, deadline, since, user)
    return first if isinstance(first, Judgement) else await first


def _first(
    asked: Asked[F],
    book: Book[F],
    sources: Sources,
    enforcement: Enforcement,
    deadline: float,
    since: float,
    user: User,
) -> "Judgement[F] | Coroutine[Any, Any, Judgement[F]]":
    """By what is known. A right PVC needs no more."""
    usable, unusable = doubt.believed(asked, sources)
    views: Views = {source.name: source.vms for source in usable}
    best = _best(asked, book, enforcement, usable, views)
    if not (asked.gate or best.rests_on_vsphere or best.deny_cluster):
        missing = doubt.of_providers(asked, usable, unusable, sources) if best.unsaid else None
        return Judgement(asked=asked, opinion=best, vsphere=missing)

    async def confirmed() -> Judgement[F]:
        nonlocal asked, views, best
        vsphere = cluster = None
        fresh = read_afresh = live = False
        while True:  # each turn asks what has not been asked yet: two at the most
            if (asked.gate or best.rests_on_vsphere) and not fresh:
                fresh = True
                missing = doubt.of_providers(asked, usable, unusable, sources)
                vsphere = missing
                # What one allows that knows the VM needs no other's word.
                if missing is None or (best.clean and best.source is not None):
                    read = await afresh(asked, best, usable, since, user, deadline)
                    if isinstance(read, Undecided):
                        vsphere = read
                    else:
                        views, read_afresh = read, True
            elif best.deny_cluster and not live:
                live = True
                asks = await confirmed_live(asked, sources, deadline)
                if isinstance(asks, Undecided):
                    cluster = asks
                else:
                    asked = asks
            else:
                if read_afresh and best.clean:
                    vsphere = None
                return Judgement(asked=asked, opinion=best, vsphere=vsphere, cluster=cluster)
            best = _best(asked, book, enforcement, usable, views, best)

    return confirmed()


def _best(
    asked: Asked[F],
    book: Book[F],
    enforcement: Enforcement,
    usable: list[ProviderInventory],
    views: Views,
    before: Opinion[F] | None = None,
) -> Opinion[F]:
    """The opinion that counts: of the providers that know the VM best, the one that allows it; else
    one that can't tell, for only together they can deny. It stands as it was `before` where the
    facts are the same, for rules see nothing else (a disk set is never the same as another)."""
    knowing = doubt.knowing(asked, usable, views) if len(usable) > 1 else usable
    rules = book.running(enforcement)
    others: list[Opinion[F]] = []
    for source in knowing or (None,):
        seen = asked.seen(source, views)
        if before is not None and before.source is source and (before.facts, before.told) == seen:
            said = before
        else:
            said = opine(asked, rules, source, seen)
        if said.clean:
            return said
        others.append(said)
    return min(others, key=lambda said: said.denies)
