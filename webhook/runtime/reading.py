"""All of vSphere read once, for a command that ends."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from webhook.errors import VsphereUnreachable
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.inventory.snapshot import SnapshotReader
from webhook.runtime import sources
from webhook.runtime.supervise import Supervisor
from webhook.settings import Settings

if TYPE_CHECKING:
    from webhook.cluster import Cluster

_LOOK = 0.1  # seconds between two looks at how far the reads are


async def read(
    settings: Settings,
    cluster: "Cluster | None",
    heard: Callable[[str, int], None],
    timeout: float,
    *,
    some: bool = False,
) -> Inventory:
    """What every vSphere provider of the settings and the cluster says, as it was just now.

    `heard` is told meanwhile how many VMs of which provider have been read. Raises
    VsphereUnreachable where one of them (with `some`: all) can't be read within `timeout` seconds.
    """
    inventory, live = sources.known(settings)
    with ExitStack() as running:
        for source in live:
            source.start()
            running.callback(source.stop)
        following = None
        if cluster is not None:
            from webhook.cluster import ProviderWatch

            places = settings.provider_namespaces
            keep = Supervisor(sources.nothing, sources.nothing).keep
            watch = ProviderWatch(
                cluster, places, inventory, sources.connector(settings), keep=keep
            )
            await watch.ask()
            following = asyncio.create_task(watch.run())
        try:
            async with asyncio.timeout(timeout):
                while inventory.first_reads:
                    for one in inventory.vsphere():
                        heard(one.name, one.read_so_far)
                    await asyncio.sleep(_LOOK)
        except TimeoutError:
            whys = [f"namespace {name}: {why.why()}" for name, why in inventory.unlisted.items()]
            whys += [one.trouble for one in inventory.vsphere() if not one.synced]
            raise VsphereUnreachable("; ".join(whys)) from None
        else:
            # Who stops following the cluster forgets its Providers.
            inventory = Inventory(inventory)
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
    everyone = list(inventory.vsphere())
    if not everyone:
        raise VsphereUnreachable("there is no vSphere provider in the settings or the cluster")
    lost = [one.trouble for one in everyone if not one.synced]
    if lost and (not some or len(lost) == len(everyone)):
        raise VsphereUnreachable("; ".join(lost))
    return Inventory(map(_still, inventory))


def _still(known: ProviderInventory) -> ProviderInventory:
    """As it was read: a moment ago, so that its word is as fresh as another read's would be."""
    still = ProviderInventory(known.provider, SnapshotReader(known.vms))
    still.remote, still.url, still.vms = known.remote, known.url, known.vms
    if known.synced:
        still.heard(known.heard_at)
    if known.unreachable_since is not None:
        still.lost(known.cause, known.unreachable_since)
    return still
