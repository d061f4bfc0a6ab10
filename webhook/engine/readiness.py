"""Whether a Plan's VMs have their disks by now: the Migration's own proof, told VM by VM."""

import asyncio
from collections.abc import Iterable
from typing import Literal

import msgspec

from webhook.engine.ask import migration as migrations
from webhook.engine.ask import plan as plans
from webhook.engine.ask.plan import PlanSubject
from webhook.engine.books import MIGRATIONS
from webhook.engine.judge import judge
from webhook.engine.results import Found, found_of
from webhook.engine.sources import Sources
from webhook.errors import ObjectMalformed
from webhook.facts.diskset import Pile
from webhook.facts.facts import PlanVmFacts
from webhook.model.keys import WAVE
from webhook.model.objects import KubeObject, User
from webhook.model.review import Cause

ReadyState = Literal["ready", "not-ready", "undecided", "not-checked"]
READINESS_SECONDS = 20.0
"""The most that it may take: the cluster, and then vSphere."""

_READ_SECONDS = 10.0


class PlanName(msgspec.Struct, frozen=True):
    """A conversion Plan that isn't archived."""

    namespace: str
    name: str


class Plans(msgspec.Struct, frozen=True):
    """The Plans that the caller may get, by namespace and name."""

    plans: tuple[PlanName, ...]


class Piece(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A disk, a PVC, or both; each as far as the caller may know it."""

    disk_source: str | None = None
    """The disk's; of a wrong PVC what it says."""
    pvc: str | None = None


class VmReadiness(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One entry of the Plan's spec.vms."""

    id: str
    name: str
    """Both as the Plan has them."""
    ready: bool
    done: bool = False
    """It was migrated before, and does not run again."""
    findings: tuple[Found, ...] = ()
    """Why it is not ready; and what is worth a warning."""
    matched: tuple[Piece, ...] = ()
    missing: tuple[Piece, ...] = ()
    """Disks that no PVC claims."""
    surplus: tuple[Piece, ...] = ()
    """PVCs that Forklift counts and leaves out, and those for a disk that has another."""
    wrong: tuple[Piece, ...] = ()
    """PVCs whose disk-source is no disk of the VM."""
    unbound: tuple[Piece, ...] = ()
    """PVCs without a volume."""
    copying: tuple[Piece, ...] = ()
    """PVCs that the vendor marks as not ready: the copy isn't whole."""


class Readiness(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Whether a Migration of a Plan would start now."""

    namespace: str
    name: str
    wave: str
    """The Plan's label conversion-guard.io/wave; empty without one."""
    target_namespace: str
    """Where its PVCs are."""
    ready: bool
    state: ReadyState
    """`undecided`: the facts can't be had. `not-checked`: of a Plan that nobody here judges."""
    message: str = ""
    findings: tuple[Found, ...] = ()
    """What is wrong with the Plan as a whole."""
    vms: tuple[VmReadiness, ...] = ()


async def readiness(
    namespace: str, name: str, obj: KubeObject, sources: Sources, user: User
) -> Readiness:
    """Of the Plan `obj`, as `user`, who may get it, may know it: the verdict on a Migration of it,
    told VM by VM.

    Raises ClusterUnreachable where its PVCs can't be had.
    """

    def result(
        state: ReadyState,
        message: str = "",
        findings: tuple[Found, ...] = (),
        vms: tuple[VmReadiness, ...] = (),
    ) -> Readiness:
        return Readiness(
            namespace=namespace,
            name=name,
            wave=wave,
            target_namespace=planned.plan.target_namespace if planned else "",
            ready=state == "ready",
            state=state,
            message=message,
            findings=findings,
            vms=vms,
        )

    wave = str(((obj.get("metadata") or {}).get("labels") or {}).get(WAVE) or "")
    planned: PlanSubject | None = None
    since = sources.now()
    try:
        planned = plans.subject(obj, None)
    except ObjectMalformed as error:
        fault = Found("object", "deny", "FieldValueInvalid", error.field, str(error))
        return result("not-ready", findings=(fault,))
    if not planned.judged:
        return result("not-checked", "it is not a conversion Plan, or it is archived")
    asked = await migrations.of_plan(planned, sources, user)
    judgement = await judge(
        asked,
        MIGRATIONS,
        sources,
        sources.enforcement(asked.namespace),
        asyncio.get_running_loop().time() + _READ_SECONDS,
        since,
        user,
    )
    if (doubt := judgement.doubt) is not None:
        # What can't be known of the VMs makes nothing right that is wrong in any case.
        certain = tuple(found_of(cause, cause.field) for cause in judgement.denials)
        return result("not-ready" if certain else "undecided", doubt.message, certain)
    causes = judgement.opinion.causes
    plan = judgement.opinion.facts.plan
    vms = tuple(_vm(one, causes) for one in plan.vms)
    whole = tuple(found_of(cause, cause.field) for cause in causes if cause.entry is None)
    ready = all(vm.ready for vm in vms) and not any(one.action == "deny" for one in whole)
    if ready and asked.plan is not None and asked.plan.remote:
        return result("not-checked", "its PVCs are in another cluster, which can't be read here")
    return result("ready" if ready else "not-ready", findings=whole, vms=vms)


def _vm(vm: PlanVmFacts, causes: Iterable[Cause]) -> VmReadiness:
    entry = vm.entry
    if vm.outcome == "done":
        return VmReadiness(id=entry.id, name=entry.name, ready=True, done=True)
    findings = tuple(found_of(cause, entry.field) for cause in causes if cause.entry == entry.index)
    pairs = tuple(vm.disks.pairs()) if vm.disks is not None else ()

    def pile(name: Pile) -> tuple[Piece, ...]:
        return tuple(Piece(one.disk_source, one.claim) for one in pairs if one.pile == name)

    return VmReadiness(
        id=entry.id,
        name=entry.name,
        ready=all(found.action != "deny" for found in findings),
        findings=findings,
        matched=pile("matched"),
        missing=pile("missing"),
        surplus=pile("surplus"),
        wrong=pile("wrong"),
        unbound=pile("unbound"),
        copying=pile("copying"),
    )
