"""Which VMs another Plan converts from the same PVCs: the one place that finds them."""

import asyncio
from collections.abc import Collection, Iterator, Mapping

from webhook.engine.ask.destination import is_remote
from webhook.engine.sources import Sources
from webhook.errors import ObjectMalformed
from webhook.facts.lookup import look_up
from webhook.model.forklift import Plan
from webhook.model.objects import User
from webhook.model.review import PLAN, resource_of

Converted = Mapping[tuple[str, str], str]
"""Moref and config.uuid of a VM, which is what its PVCs say, to `namespace/name` of the Plan that
converts it; empty where that may not be told."""


async def elsewhere(
    plan: Plan, started: Collection[str], sources: Sources, user: User
) -> Converted:
    """Of all Plans that have been `started` the VMs that count for `plan`: their PVCs are in the
    same namespace, and their conversions have not ended. Raises ClusterUnreachable."""
    own = f"{plan.namespace}/{plan.name}"
    others = (other for other in sorted(started) if other != own)
    found = await asyncio.gather(*(_of(other, plan, sources, user) for other in others))
    return {vm: other for one in found for vm, other in one.items()}


async def _of(other: str, plan: Plan, sources: Sources, user: User) -> Converted:
    followed = sources.followed.plans.get(other) if sources.followed else None
    if followed not in (None, "conversion") or sources.cluster is None:
        return {}
    namespace, _, name = other.partition("/")
    obj = await sources.cluster.plan(namespace, name)
    try:
        found = Plan.of(obj or {})
    except ObjectMalformed:
        return {}  # Forklift can't read it either
    if not found.judged or found.target_namespace != plan.target_namespace:
        return {}
    vms = set(_vms(found, sources))
    if not vms or await is_remote(found.destination, sources):
        return {}
    told = await sources.may(user, "get", resource_of(PLAN), namespace, name)
    return dict.fromkeys(vms, other if told else "")


def _vms(plan: Plan, sources: Sources) -> Iterator[tuple[str, str]]:
    source = sources.inventory.get(plan.source.namespace, plan.source.name)
    if source is None:
        return
    for entry in plan.vms:
        meant = look_up(entry.id, entry.name, source.vms, plan.succeeded | plan.ended)
        if meant.outcome == "one":
            yield meant.vms[0].moref, meant.vms[0].uuid
