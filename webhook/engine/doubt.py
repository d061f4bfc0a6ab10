"""Whose word counts now, and why a verdict can't be had: the one place that decides it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from webhook.engine.ask import Asked, Views
from webhook.engine.sources import Sources
from webhook.errors import ClusterUnreachable
from webhook.inventory.provider import ProviderInventory
from webhook.model.review import Doubt, Undecided

_WORST_FIRST: tuple[Doubt, ...] = ("unreachable", "too-old", "first-read")
_RETRY_SECONDS = 2


def believed(
    asked: Asked[Any], sources: Sources
) -> tuple[list[ProviderInventory], list[ProviderInventory]]:
    """Those whose word counts now, and those that should be asked but can't be."""
    usable, unusable = [], []
    now, policy = sources.now(), sources.policy
    for source in asked.providers:
        if source.synced and source.age(now) <= policy.max_age:
            usable.append(source)
        elif not asked.any_provider or source.name not in policy.ignore_providers:
            unusable.append(source)
    return usable, unusable


def knowing(
    asked: Asked[Any], usable: Sequence[ProviderInventory], views: Views, least: int = 0
) -> list[ProviderInventory]:
    """Of those whose word counts the ones that know the VM best: only they can speak for it. None
    where the best is below `least`."""
    ranks = [asked.rank(source, views) for source in usable]
    highest = max(ranks, default=least)
    if highest < least:
        return []
    return [source for source, rank in zip(usable, ranks, strict=True) if rank == highest]


def of_providers(
    asked: Asked[Any],
    usable: Sequence[ProviderInventory],
    unusable: Sequence[ProviderInventory],
    sources: Sources,
) -> Undecided | None:
    """Why no denial can be certain yet, or None where every provider has its word."""
    if unusable:
        doubts = {_kind(source) for source in unusable}
        worst = next(doubt for doubt in _WORST_FIRST if doubt in doubts)
        whys = "; ".join(_why(source, sources) for source in unusable)
        return Undecided(whys, worst, _RETRY_SECONDS if worst == "first-read" else None)
    if asked.providers and not asked.any_provider:
        return None  # no other counts
    for namespace, missing in sorted(sources.inventory.unlisted.items()):
        text = f"the Providers of namespace {namespace} are not known yet: {missing.why()}"
        return Undecided(text, "first-read", _RETRY_SECONDS if missing.passing else None)
    if not usable and asked.any_provider:  # of one that is named a rule says that it isn't known
        ignored = [one.name for one in sources.inventory.vsphere()]
        if ignored:
            text = f"no vSphere provider can be asked: {', '.join(ignored)} in ignoreProviders"
        else:
            text = (
                "no vSphere provider is known: create one in a namespace that providerNamespaces "
                "lists"
            )
        return Undecided(text, "no-provider")
    return None


def of_cluster(error: ClusterUnreachable | TimeoutError) -> Undecided:
    """Why what the API server must be asked for can't be known."""
    if isinstance(error, ClusterUnreachable):
        return Undecided(f"the API server can't be asked: {error}", "cluster")
    return Undecided("the API server did not answer in time for this request", "deadline")


def age_warning(source: ProviderInventory, sources: Sources) -> str:
    """What an admission says where it rests on older knowledge than it should; else empty."""
    now = sources.now()
    if source.unreachable_since is not None or source.recalled:
        return f"checked with the inventory of {span(source.age(now))} ago: {source.trouble}"
    if source.silent(now):
        return (
            f"checked with the inventory of {span(source.age(now))} ago: "
            f"provider {source.name} has not answered since"
        )
    return ""


def _kind(source: ProviderInventory) -> Doubt:
    if source.unreachable_since is not None:
        return "unreachable"
    return "too-old" if source.synced else "first-read"


def _why(source: ProviderInventory, sources: Sources) -> str:
    if not source.synced or source.unreachable_since:
        return source.trouble
    age, limit = source.age(sources.now()), sources.policy.max_age
    return f"the inventory of provider {source.name} is {span(age)} old, maxAge is {span(limit)}"


def span(seconds: float) -> str:
    """`0:01:30`."""
    return str(timedelta(seconds=int(seconds)))
