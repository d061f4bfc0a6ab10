"""Whether a Plan's VMs have their disks by now: the Migration's own proof, told VM by VM."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from webhook.engine.check import Found
from webhook.engine.decide import Sources
from webhook.engine.gather import PlanQuestion
from webhook.engine.policy import milder
from webhook.errors import ClusterUnreachable, ObjectMalformed, VsphereUnreachable
from webhook.facts.facts import MigrationFacts, PlanFacts, PlanVmFacts
from webhook.facts.proof import Proof, prove
from webhook.facts.rule import Finding
from webhook.inventory.overlay import Overlay
from webhook.inventory.provider import ProviderInventory
from webhook.model.keys import SOURCE_PROVIDER_FIELD
from webhook.model.objects import PROVIDERS, Claim, KubeObject, User
from webhook.model.vms import Disk
from webhook.rules import RULES

State = Literal["ready", "not-ready", "undecided", "not-checked"]
READINESS_SECONDS = 20.0
"""The most that it may take: the cluster, and then vSphere."""

_READ_SECONDS = 10.0
_RULES = tuple(rule for rule in RULES if rule.facts is MigrationFacts)


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


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a Migration of a Plan would start now."""

    namespace: str
    name: str
    ready: bool
    state: State
    """`undecided`: the facts can't be had. `not-checked`: of a Plan that nobody here judges."""
    message: str = ""
    findings: tuple[Found, ...] = ()
    """What is wrong with the Plan as a whole."""
    vms: tuple[VmReadiness, ...] = ()


async def readiness(
    namespace: str, name: str, obj: KubeObject, sources: Sources, user: User
) -> Readiness:
    """Of the Plan `obj`, as `user` may know it; what it says of a VM is at most five seconds old.

    Raises ClusterUnreachable where its PVCs can't be had.
    """

    def told(
        state: State,
        message: str = "",
        findings: tuple[Found, ...] = (),
        vms: tuple[VmReadiness, ...] = (),
    ) -> Readiness:
        return Readiness(
            namespace=namespace,
            name=name,
            ready=state == "ready",
            state=state,
            message=message,
            findings=findings,
            vms=vms,
        )

    try:
        question = PlanQuestion(obj, None, sources)
    except ObjectMalformed as error:
        fault = Found("object", "deny", "FieldValueInvalid", error.field, str(error))
        return told("not-ready", findings=(fault,))
    if not question.judged:
        return told("not-checked", "it is no conversion Plan, or it is archived")
    if question.remote:
        return told("not-checked", "its PVCs are in another cluster, where nobody can be asked")
    if sources.cluster is None:
        raise ClusterUnreachable("the guard has no access to the cluster")
    _, mounted = await asyncio.gather(
        question.fetch(user), sources.cluster.mounted(question.namespace)
    )
    source = next(iter(question.providers), None)
    if source is None:
        facts = MigrationFacts(plan=question.facts(None, None, ()))
        findings = tuple(_found(facts, sources, SOURCE_PROVIDER_FIELD))
        if facts.plan.provider is None:
            return told("undecided", "; ".join(found.message for found in findings))
        return told("not-ready", findings=findings)
    if why := _unusable(source, sources):
        return told("undecided", why)
    provider = source.provider
    if await sources.may(user, "get", PROVIDERS, provider.namespace, provider.name):
        question.trusted = (source.name,)
    known = question.facts(source, source.vms, (source,))
    wanted = question.wanted_of(vm for vm in known.vms if vm.entry.judged)
    try:
        if source.reader is None:
            raise VsphereUnreachable(source.trouble)
        async with asyncio.timeout(_READ_SECONDS):
            fresh = await source.reader.read(
                morefs=wanted.morefs, uuids=wanted.uuids, names=wanted.names, user=user.username
            )
    except VsphereUnreachable as error:
        return told("undecided", str(error))
    except TimeoutError:
        return told("undecided", f"{source.name} did not answer within {_READ_SECONDS:g} s")
    plan = question.facts(source, Overlay(source.vms, wanted.morefs, fresh), (source,))
    vms = tuple(_vm(plan, vm, mounted, sources) for vm in plan.vms)
    return told("ready" if all(vm.ready for vm in vms) else "not-ready", vms=vms)


def _unusable(source: ProviderInventory, sources: Sources) -> str:
    if not source.synced:
        return source.trouble
    if source.age(sources.now()) > sources.policy.max_age:
        return f"what is known of provider {source.name} is older than maxAge"
    return ""


def _vm(
    plan: PlanFacts, vm: PlanVmFacts, mounted: Mapping[str, str], sources: Sources
) -> VmReadiness:
    entry = vm.entry
    if entry.id in plan.plan.succeeded:
        return VmReadiness(id=entry.id, name=entry.name, ready=True, done=True)
    alone = msgspec.structs.replace(plan, vms=(vm,))
    facts = MigrationFacts(plan=alone, mounted=mounted)
    findings = tuple(_found(facts, sources, entry.field))
    ready = all(found.action != "deny" for found in findings)
    proof = prove(vm.vm, plan.claims_of(vm.vm)) if vm.vm else Proof()

    def piece(disk: Disk | None, claim: Claim | None) -> Piece:
        source = disk.disk_source if disk and plan.trusted else None
        if claim and plan.may_list and source is None:
            source = claim.disk_source or None
        return Piece(source, claim.name if claim and plan.may_list else None)

    return VmReadiness(
        id=entry.id,
        name=entry.name,
        ready=ready,
        findings=findings,
        matched=tuple(piece(disk, claim) for disk, claim in proof.matched),
        missing=tuple(piece(disk, None) for disk in proof.missing),
        surplus=tuple(piece(None, claim) for claim in (*proof.surplus, *proof.duplicate)),
        wrong=tuple(piece(None, claim) for claim in proof.wrong),
        unbound=tuple(piece(None, claim) for claim in proof.unbound),
    )


def _found(facts: MigrationFacts, sources: Sources, field: str) -> Iterator[Found]:
    """What the Migration's rules say, on `field` of the Plan, with the action that the settings
    choose."""
    enforcement = sources.enforcement(facts.plan.plan.target_namespace)
    for rule in _RULES:
        action = enforcement.action(rule)
        for said in rule.check(facts) if action != "off" else ():
            if isinstance(said, Finding):
                done = milder(action, said.at_most)
                yield Found(rule.id, done, said.reason, field, said.message, said.expected)
            else:
                yield Found(rule.id, action, "FieldValueInvalid", field, said.message)
