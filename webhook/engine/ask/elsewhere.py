"""Which VMs another Plan converts from the same PVCs: the one place that finds them."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from webhook.engine.sources import Sources
from webhook.errors import ClusterUnreachable
from webhook.facts.lookup import look_up
from webhook.model.objects import Provider, User
from webhook.model.review import PLAN, resource_of

Vm = tuple[str, str]
"""A VM as its PVCs say: its moref and config.uuid."""
Converted = Mapping[Vm, str]
"""Each with `namespace/name` of the Plan that converts it; empty where that may not be told."""


async def elsewhere(
    vms: set[Vm], namespace: str, started: Collection[str], sources: Sources, user: User
) -> Converted:
    """Of these VMs those that a Plan of `started` converts from PVCs of `namespace`.

    By the Plans that are followed: nothing is asked for each of them. Raises ClusterUnreachable.
    """
    followed, found = sources.followed, dict[Vm, str]()
    if followed is None or not (vms and started):
        return found
    if followed.plans.age(sources.now()) > sources.policy.stale:
        raise ClusterUnreachable("the cluster's Plans can't be followed now")
    for other in sorted(started):
        plan = followed.plans.get(other)
        if plan is None or plan.target_namespace != namespace:
            continue
        destination = sources.inventory.get(plan.destination.namespace, plan.destination.name)
        if destination is not None and destination.remote:
            continue
        theirs = vms_of((*plan.running, *plan.vms), plan.source, sources, plan.done)
        if shared := vms.intersection(theirs):
            place, _, name = other.partition("/")
            told = await sources.may(user, "get", resource_of(PLAN), place, name)
            found |= {vm: other if told else found.get(vm, "") for vm in shared}
    return found


def vms_of(
    named: Iterable[tuple[str, str]], source: Provider, sources: Sources, done: Collection[str]
) -> Iterator[Vm]:
    """The VMs of ids and names, where each is one of that provider, and none of `done`."""
    known = sources.inventory.get(source.namespace, source.name)
    if known is None:
        return
    for moref, name in named:
        meant = look_up(moref, name, known.vms, done)
        if meant.outcome == "one":
            yield meant.vms[0].moref, meant.vms[0].uuid
