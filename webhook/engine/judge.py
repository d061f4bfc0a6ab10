"""Whether an object may pass: gather facts once, run pure rules, answer once.

An allow of what the inventory knows never waits. A denial that rests on vSphere or on what is
followed of the cluster is confirmed by asking them once more; where that can't be had in time the
verdict is undecided.
"""

import asyncio
from typing import Any, Generic

import msgspec

from webhook.engine import doubt
from webhook.engine.ask import Asked, Views
from webhook.engine.books import Book, book_of
from webhook.engine.opinion import Opinion, opine
from webhook.engine.policy import Enforcement
from webhook.engine.sources import Sources
from webhook.errors import ClusterUnreachable, ObjectMalformed, TooManyReads, VsphereUnreachable
from webhook.facts.facts import F
from webhook.inventory.provider import ProviderInventory
from webhook.model.keys import MOREF
from webhook.model.objects import User
from webhook.model.review import Admitted, Cause, Denied, Review, Undecided, Verdict


async def decide(review: Review, sources: Sources, deadline: float) -> Verdict:
    """Whether the object of `review` may pass. `deadline` is by the running loop's clock."""
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
        return await _decide(book, subject, sources, review.user, deadline, since)
    except ObjectMalformed as error:
        causes = (Cause(error.field, str(error), "FieldValueInvalid", "object"),)
        return Denied(causes, findings=causes)


async def _decide(
    book: Book[F], subject: Any, sources: Sources, user: User, deadline: float, since: float
) -> Verdict:
    verdict: Verdict
    try:
        async with asyncio.timeout_at(deadline):
            asked = await book.ask.gather(subject, sources, user)
    except ClusterUnreachable as error:
        why = f"the API server can't be asked: {error}"
        verdict = Undecided(why, "cluster", audit=_UNKNOWN)
        return _enforced(verdict, sources.enforcement(book.namespace(subject)), book)
    except TimeoutError:
        why = "the API server did not answer in time for this request"
        verdict = Undecided(why, "deadline", audit=_UNKNOWN)
        return _enforced(verdict, sources.enforcement(book.namespace(subject)), book)
    if not asked.judged:
        return Admitted(warnings=asked.warnings)
    enforcement = sources.enforcement(asked.namespace, asked.at_most)
    judgement = await judge(asked, book, sources, enforcement, deadline, since, user)
    verdict = _enforced(judgement.verdict(sources), enforcement, book)
    return _annotated(verdict, judgement)


_UNKNOWN = {"verdict": "undecided"}


def _enforced(verdict: Verdict, enforcement: Enforcement, book: Book[Any]) -> Verdict:
    """What the policy makes of a verdict that could not be had."""
    if not isinstance(verdict, Undecided):
        return verdict
    action = enforcement.undecided(gate=book.gate)
    if action == "deny":
        return verdict
    warnings = (f"not checked: {verdict.message}",) if action == "warn" else ()
    return Admitted(warnings=warnings, audit=verdict.audit, doubt=verdict.doubt)


def _annotated(verdict: Verdict, judgement: "Judgement[Any]") -> Verdict:
    """With the VMs and the provider for the audit log: as far as the caller may know them, for the
    annotations are in the answer."""
    if not verdict.audit:
        return verdict
    asked, said = judgement.asked, judgement.opinion
    more: dict[str, str] = {}
    if vms := ",".join(vm for vm in asked.vms if MOREF.fullmatch(vm)):
        more["vm"] = vms
    if said.source and said.told:
        more["provider"] = said.source.name
    if isinstance(verdict, Denied):
        verdict = msgspec.structs.replace(verdict, plan=asked.names_plan)
    return msgspec.structs.replace(verdict, audit={**verdict.audit, **more})


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
            return _veiled(veil, denied=bool(denials), doubtful=doubtful)
        if denials:
            ordered = tuple(sorted(denials, key=Cause.place))
            findings = (*ordered, *said.warn, *said.audit)
            return Denied(ordered, said.warnings, said.annotations("denied"), findings)
        if doubtful is not None:
            return msgspec.structs.replace(doubtful, audit=said.annotations("undecided"))
        warnings = said.warnings
        if said.source and (old := doubt.age_warning(said.source, sources)):
            warnings = (*warnings, old)
        return Admitted(
            warnings=(*self.asked.warnings, *warnings),
            audit=said.annotations("admitted"),
            findings=(*said.warn, *said.audit),
        )


def _veiled(veil: Cause, *, denied: bool, doubtful: Undecided | None) -> Verdict:
    """One answer for each verdict: neither words nor numbers tell what the caller may not know."""
    audit = {"verdict": "denied", "rules": veil.rule}
    if denied:
        return Denied((veil,), audit=audit, findings=(veil,))
    if doubtful is not None:
        message = f"{veil.field}: can't be checked now: try again"
        return msgspec.structs.replace(doubtful, message=message, audit={"verdict": "undecided"})
    return Admitted(audit={"verdict": "admitted"})


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
    usable, unusable = doubt.believed(asked, sources)
    views: Views = {source.name: source.vms for source in usable}
    vsphere = cluster = None
    fresh = live = False
    while True:  # each turn asks what has not been asked yet: two at the most
        best = _best(asked, book, enforcement, usable, views)
        rests = best.deny_vsphere or (best.unknown and best.source)
        if (rests or asked.gate) and not fresh:
            fresh = True
            vsphere = doubt.of_providers(asked, usable, unusable, sources)
            if vsphere is None:
                read = await _afresh(asked, best, usable, since, user, deadline)
                if isinstance(read, Undecided):
                    vsphere = read
                else:
                    views = read
        elif best.deny_cluster and not live:
            live = True
            confirmed = await _confirmed(asked, sources, deadline)
            if isinstance(confirmed, Undecided):
                cluster = confirmed
            else:
                asked = confirmed
        else:
            return Judgement(asked=asked, opinion=best, vsphere=vsphere, cluster=cluster)


def _best(
    asked: Asked[F],
    book: Book[F],
    enforcement: Enforcement,
    usable: list[ProviderInventory],
    views: Views,
) -> Opinion[F]:
    """The opinion that counts: of the providers that know the VM best, the one that allows it."""
    if len(usable) < 2:
        source = usable[0] if usable else None
        return opine(asked, book.rules, enforcement, source, asked.seen(source, views))
    seen = [(source, asked.seen(source, views)) for source in usable]
    highest = max(one.rank for _, one in seen)
    opinions = (
        opine(asked, book.rules, enforcement, source, one)
        for source, one in seen
        if one.rank == highest
    )
    first: Opinion[F] | None = None
    for said in opinions:
        if said.clean:
            return said
        first = first or said
    assert first is not None  # noqa: S101  one of them has the highest rank
    return first


async def _afresh(
    asked: Asked[F],
    said: Opinion[F],
    usable: list[ProviderInventory],
    since: float,
    user: User,
    deadline: float,
) -> Views | Undecided:
    """The VMs of every provider as vSphere itself says now."""
    fields = {cause.field for cause in (*said.deny_vsphere, *said.unknown)}
    wanted = asked.wanted(said.facts, fields)

    async def read(source: ProviderInventory) -> tuple[str, Any]:
        if source.reader is None:
            raise VsphereUnreachable(source.trouble)
        fresh = await source.reader.read(
            morefs=wanted.morefs,
            uuids=wanted.uuids,
            names=wanted.names,
            user=user.username,
            since=since,
        )
        return source.name, source.vms.with_fresh(wanted.morefs, fresh)

    reads = [asyncio.ensure_future(read(source)) for source in usable]
    try:
        async with asyncio.timeout_at(deadline):
            return dict(await asyncio.gather(*reads))
    except TooManyReads as error:
        return Undecided(str(error), "too-many-reads")
    except VsphereUnreachable as error:
        return Undecided(str(error), "unreachable")
    except TimeoutError:
        late = ", ".join(s.name for s, one in zip(usable, reads, strict=True) if not _ok(one))
        return Undecided(f"{late} did not answer in time for this request", "deadline")
    finally:
        for one in reads:
            one.cancel()
        await asyncio.gather(*reads, return_exceptions=True)


def _ok(one: "asyncio.Future[Any]") -> bool:
    return one.done() and not one.cancelled() and one.exception() is None


async def _confirmed(asked: Asked[F], sources: Sources, deadline: float) -> Asked[F] | Undecided:
    """The same, as the API server itself says now."""
    try:
        async with asyncio.timeout_at(deadline):
            return await asked.confirmed(sources)
    except ClusterUnreachable as error:
        return Undecided(f"the API server can't be asked: {error}", "cluster")
    except TimeoutError:
        return Undecided("the API server did not answer in time for this request", "deadline")
