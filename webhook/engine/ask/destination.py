"""Whether PVCs are in another cluster: the one place that decides it."""

from webhook.engine.sources import Sources
from webhook.model.objects import Provider


async def is_remote(destination: Provider, sources: Sources) -> bool | None:
    """Whether this Provider is another cluster. None where nobody can tell: it is in a namespace
    whose Providers are not followed, or was made a moment ago. With one that isn't there Forklift
    starts nothing, so it may be taken for this cluster. Raises ClusterUnreachable."""
    known = sources.inventory.get(destination.namespace, destination.name)
    if known is not None:
        return known.remote
    if sources.cluster is None or not (destination.name and destination.namespace):
        return False
    standing = await sources.cluster.provider(destination.namespace, destination.name)
    return None if standing in ("there", "unknown") else False
