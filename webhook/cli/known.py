"""What a command rests on, once it has asked: vSphere read whole, and the cluster as it stands."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from webhook.cli.progress import Progress
from webhook.engine.decide import Sources
from webhook.engine.policy import Policy
from webhook.errors import SettingsInvalid, VsphereUnreachable
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.inventory.snapshot import SnapshotReader, load_snapshot

if TYPE_CHECKING:
    from webhook.cluster import Cluster, Picture
    from webhook.settings import Settings

FIRST_READ = 300.0  # seconds
_LOOK = 0.1  # seconds between two looks at how far the reads are


class Where(msgspec.Struct, frozen=True):
    """Where to look: what the options say."""

    snapshot: Path | None = None
    settings: Path | None = None
    kubeconfig: Path | None = None
    context: str | None = None

    @property
    def names_cluster(self) -> bool:
        return self.kubeconfig is not None or self.context is not None


def settings_of(path: Path | None) -> "Settings":
    """Of a file and the environment. Raises SettingsInvalid."""
    # Here, not above: pydantic is slow to import, and a snapshot needs none of it.
    from webhook.rules import DEFAULTS, RULES
    from webhook.settings import load

    return load(
        path,
        os.environ,
        rules=frozenset(rule.id for rule in RULES),
        defaults=frozenset(default.id for default in DEFAULTS),
    )


def snapshot_of(path: Path) -> Inventory:
    """A snapshot file's. Raises SnapshotInvalid."""
    now, monotonic = datetime.now(UTC), time.monotonic()
    return Inventory(load_snapshot(path, wall=now, monotonic=monotonic))


async def inventory_of(where: Where, timeout: float = FIRST_READ) -> Inventory:
    """A snapshot file's, or that of all that the settings name, read whole. Raises GuardError."""
    if where.snapshot is not None:
        return snapshot_of(where.snapshot)
    if where.settings is None and not where.names_cluster:
        raise SettingsInvalid("where to look? Give --snapshot FILE or --settings FILE")
    settings = settings_of(where.settings)
    with Progress() as progress:
        if not _in_reach(where, settings):
            return await read(settings, None, progress, timeout)
        async with cluster_of(where, settings) as cluster:
            return await read(settings, cluster, progress, timeout)


@asynccontextmanager
async def sources_of(
    where: Where, namespaces: Callable[[], Collection[str]]
) -> AsyncIterator[Sources]:
    """What to judge manifests by: a snapshot alone, or all that the settings and the cluster say.

    Of the cluster count the PVCs of `namespaces`. Raises GuardError.
    """
    if where.snapshot is not None and where.settings is None and not where.names_cluster:
        yield Sources(snapshot_of(where.snapshot), Policy(trust_network=True), time.monotonic)
        return
    settings = settings_of(where.settings)
    if _in_reach(where, settings):
        async with standing(where, settings, namespaces()) as (sources, _):
            yield sources
        return
    with Progress() as progress:
        inventory = await read(settings, None, progress)
    yield Sources(inventory, policy_of(settings), time.monotonic)


@asynccontextmanager
async def standing(
    where: Where, settings: "Settings", namespaces: Collection[str], *, some: bool = False
) -> AsyncIterator[tuple[Sources, "Picture"]]:
    """vSphere read, and the cluster as it stands meanwhile. With `some`, not every vSphere need be
    within reach: what rests on the others is undecided. Raises GuardError."""
    from webhook.cluster import Picture

    async with cluster_of(where, settings) as cluster:
        with Progress() as progress:
            # The cluster first: it is the one that is more often out of reach, and says so at once.
            picture = await Picture.take(cluster, namespaces, progress.of("objects").more)
            if where.snapshot is not None:
                inventory = snapshot_of(where.snapshot)
            else:
                inventory = await read(settings, cluster, progress, some=some)
        yield (
            Sources(inventory, policy_of(settings), time.monotonic, picture.followed, picture),
            picture,
        )


def policy_of(settings: "Settings") -> Policy:
    """The settings', for somebody who may see all that this command could read."""
    from webhook.runtime import sources

    return msgspec.structs.replace(sources.policy(settings), trust_network=True)


@asynccontextmanager
async def cluster_of(where: Where, settings: "Settings") -> AsyncIterator["Cluster"]:
    """The cluster that the options or the settings name, or else kubectl's. Raises
    ClusterUnreachable."""
    from webhook.cluster import Cluster

    named = where.kubeconfig or settings.kubeconfig
    if named is None and (known := os.environ.get("KUBECONFIG")):
        named = Path(known)
    usual = Path.home() / ".kube" / "config"
    if named is None and ("KUBERNETES_SERVICE_HOST" not in os.environ or usual.exists()):
        named = usual
    async with Cluster.open(named, where.context) as cluster:
        yield cluster


async def read(
    settings: "Settings",
    cluster: "Cluster | None",
    progress: Progress,
    timeout: float = FIRST_READ,
    *,
    some: bool = False,
) -> Inventory:
    """What every vSphere provider of the settings and the cluster says, as it was just now.

    Raises VsphereUnreachable where one of them (with `some`: all) can't be read.
    """
    from webhook.runtime import sources

    inventory, live = sources.known(settings)
    with ExitStack() as running:
        for source in live:
            source.start()
            running.callback(source.stop)
        following = None
        if cluster is not None:
            from webhook.cluster import ProviderWatch

            places = settings.provider_namespaces
            watch = ProviderWatch(cluster, places, inventory, sources.connector(settings))
            await watch.ask()
            following = asyncio.create_task(watch.run())
        try:
            async with asyncio.timeout(timeout):
                while _waiting(inventory):
                    for one in inventory.vsphere():
                        progress.of(f"VMs of {one.name}").at(one.read_so_far)
                    await asyncio.sleep(_LOOK)
        except TimeoutError:
            whys = [f"namespace {name}: {why()}" for name, why in inventory.unlisted.items()]
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


def _in_reach(where: Where, settings: "Settings") -> bool:
    """Whether a cluster is named: a kubeconfig that merely lies there is not meant."""
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
    return where.names_cluster or settings.kubeconfig is not None or in_pod


def _waiting(inventory: Inventory) -> bool:
    return bool(inventory.unlisted) or any(not source.settled for source in inventory.vsphere())


def _still(known: ProviderInventory) -> ProviderInventory:
    """As it was read: a moment ago, so that its word is as fresh as another read's would be."""
    still = ProviderInventory(known.provider, SnapshotReader(known.vms))
    still.remote, still.url, still.vms = known.remote, known.url, known.vms
    if known.synced:
        still.heard(known.heard_at)
    if known.unreachable_since is not None:
        still.lost(known.cause, known.unreachable_since)
    return still
