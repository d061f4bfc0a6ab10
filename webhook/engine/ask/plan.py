"""Is each entry of this Plan one VM of its source provider, and are its PVCs that VM's disks?"""

import asyncio
from collections.abc import Mapping
from difflib import get_close_matches

import msgspec

from webhook.engine.ask.asked_plan import AskedPlan, PlanSubject, subject
from webhook.engine.ask.destination import is_remote
from webhook.engine.ask.elsewhere import Converted, elsewhere, vms_of
from webhook.engine.ask.named import Named, may_secrets
from webhook.engine.ask.pvc import known_to
from webhook.engine.sources import Sources
from webhook.facts.audience import Audience
from webhook.facts.lookup import look_up
from webhook.model.forklift import Plan
from webhook.model.objects import Claim, Provider, Standing, Surroundings, User
from webhook.model.review import PVC, resource_of
from webhook.model.vms import VirtualMachine

__all__ = ["AskedPlan", "PlanSubject", "gather", "subject"]

_NEAR_MISSES = 3
"""Entries for which a VM of a similar name is looked for: each takes a millisecond."""


async def gather(
    subject: PlanSubject,
    sources: Sources,
    user: User,
    *,
    whole: bool = True,
    starting: bool = False,
) -> AskedPlan:
    """See webhook.engine.ask.Asking. The target namespace's PVCs are asked live: Plans are rare,
    and what they say must be current. `starting`: for a Migration of it."""
    plan = subject.plan
    source = sources.inventory.get(plan.source.namespace, plan.source.name)
    asked = AskedPlan(
        subject=subject,
        source=source,
        classes=sources.followed.classes.known() if sources.followed else None,
        release=sources.followed.release if sources.followed else None,
    )
    if not whole or not subject.judged:
        return asked
    remote = await is_remote(plan.destination, sources)
    asked = msgspec.structs.replace(asked, remote=remote)
    claims, started, audience, standing, named, surroundings = await asyncio.gather(
        _claims(asked, sources),
        _started(sources),
        _audience(asked, sources, user),
        _standing(asked, sources),
        _named(asked, sources),
        _surroundings(asked, sources),
    )
    asked = msgspec.structs.replace(
        asked,
        claims=claims,
        started=_name(plan) in started,
        audience=audience,
        standing=standing,
        named=named,
        surroundings=surroundings,
    )
    if asked.gate:  # who adds to it starts what is added
        audience = msgspec.structs.replace(audience, secrets=True)
        asked = msgspec.structs.replace(asked, audience=audience)
    if (starting or asked.gate) and sources.cluster is not None and plan.target_namespace:
        mounted, others = await asyncio.gather(
            sources.cluster.mounted(plan.target_namespace),
            _elsewhere(asked, started, sources, user),
        )
        asked = msgspec.structs.replace(asked, mounted=mounted, elsewhere=others)
    if source is None:
        return msgspec.structs.replace(asked, alike=await _alike(plan, sources, user))
    return msgspec.structs.replace(asked, near=_near(asked))


async def _claims(
    asked: AskedPlan, sources: Sources
) -> Mapping[tuple[str, str], tuple[Claim, ...]] | None:
    namespace = asked.subject.plan.target_namespace
    if sources.cluster is None or not namespace or asked.remote is not False:
        return None
    found: dict[tuple[str, str], tuple[Claim, ...]] = {}
    for claim in await sources.cluster.claims(namespace):
        key = claim.vm_id, claim.vm_uuid
        found[key] = (*found.get(key, ()), claim)
    return found


async def _named(asked: AskedPlan, sources: Sources) -> Named:
    if sources.cluster is None or asked.remote is not False:
        return Named()
    return await Named.by(asked.subject.plan, sources.cluster)


async def _surroundings(asked: AskedPlan, sources: Sources) -> Surroundings:
    namespace = asked.subject.plan.target_namespace
    if sources.cluster is None or not namespace or asked.remote is not False:
        return Surroundings()
    return await sources.cluster.surroundings(namespace)


async def _elsewhere(
    asked: AskedPlan, started: frozenset[str], sources: Sources, user: User
) -> Converted:
    plan = asked.subject.plan
    if asked.remote is not False or sources.followed is None:
        return {}
    known = sources.followed.plans.get(_name(plan))
    named = ((vm.id, vm.name) for vm in plan.vms)
    vms = set(vms_of(named, plan.source, sources, known.done if known else ()))
    return await elsewhere(vms, plan.target_namespace, started - {_name(plan)}, sources, user)


def _name(plan: Plan) -> str:
    return f"{plan.namespace}/{plan.name}"


async def _started(sources: Sources) -> frozenset[str]:
    return await sources.cluster.started() if sources.cluster else frozenset()


async def _standing(asked: AskedPlan, sources: Sources) -> Standing | None:
    """How a source provider stands that isn't known. The API server is asked, for it may have been
    made a moment ago."""
    if asked.source is not None or sources.cluster is None or sources.inventory.unlisted:
        return None
    named = asked.subject.plan.source
    return await sources.cluster.provider(named.namespace, named.name)


async def _alike(plan: Plan, sources: Sources, user: User) -> tuple[Provider, ...]:
    """The vSphere providers whose names are like the one that isn't known, where the caller may
    know them."""
    known = {source.name: source for source in sources.inventory.vsphere()}
    close = [known[name] for name in get_close_matches(str(plan.source), known, _NEAR_MISSES)]
    told = await known_to(user, close, sources)
    return tuple(source.provider for source in close if source.name in told)


async def _audience(asked: AskedPlan, sources: Sources, user: User) -> Audience:
    namespace = asked.subject.plan.target_namespace
    plan = asked.subject.plan
    providers, claims, secrets = await asyncio.gather(
        known_to(user, asked.providers, sources),
        sources.may(user, "list", resource_of(PVC), namespace, ""),
        may_secrets(plan, sources, user),
    )
    return Audience(providers, claims, secrets=secrets)


def _near(asked: AskedPlan) -> Mapping[str, tuple[VirtualMachine, ...]]:
    """VMs of similar names, for the first entries that none has, where the caller may know them."""
    source = asked.source
    if source is None or not asked.audience.knows(source.name):
        return {}
    near: dict[str, tuple[VirtualMachine, ...]] = {}
    for entry, is_new in zip(asked.subject.plan.vms, asked.subject.new, strict=True):
        if is_new and entry.name and look_up(entry.id, entry.name, source.vms).outcome == "none":
            near[entry.name] = source.vms.named(entry.name) or source.vms.near(entry.name)
            if len(near) == _NEAR_MISSES:
                break
    return near
