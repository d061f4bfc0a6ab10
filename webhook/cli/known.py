"""What a command rests on, once it has asked: vSphere read whole, and the cluster as it stands."""

import os
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from webhook.cli.output import printable
from webhook.cli.progress import Progress
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.errors import ClusterUnreachable, SettingsInvalid
from webhook.inventory.provider import Inventory
from webhook.inventory.snapshot import load_snapshot

if TYPE_CHECKING:
    from webhook.cluster import Cluster, Picture
    from webhook.settings import Settings

FIRST_READ = 300.0  # seconds


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
    from webhook.runtime import settings_file

    return settings_file.settings_of(path)


def snapshot_of(path: Path) -> Inventory:
    """A snapshot file's. Raises SnapshotInvalid."""
    now, monotonic = datetime.now(UTC), time.monotonic()
    return Inventory(load_snapshot(path, wall=now, monotonic=monotonic))


async def inventory_of(where: Where, timeout: float = FIRST_READ) -> Inventory:
    """A snapshot file's, or that of all that the settings name, read whole. Raises GuardError."""
    if where.snapshot is not None:
        return snapshot_of(where.snapshot)
    if where.settings is None and not where.names_cluster:
        raise SettingsInvalid("no inventory to read: give --snapshot FILE or --settings FILE")
    settings = settings_of(where.settings)
    with Progress() as progress:
        if not _in_reach(where, settings):
            return await _read(settings, None, progress, timeout)
        async with cluster_of(where, settings) as cluster:
            return await _read(settings, cluster, progress, timeout)


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
        inventory = await _read(settings, None, progress)
    yield Sources(inventory, policy_of(settings), time.monotonic)


@asynccontextmanager
async def standing(
    where: Where,
    settings: "Settings",
    namespaces: Collection[str],
    *,
    some: bool = False,
    quiet: bool = False,
) -> AsyncIterator[tuple[Sources, "Picture"]]:
    """vSphere read, and the cluster as it stands meanwhile. With `some`, not every vSphere need be
    within reach: what rests on the others is undecided. `quiet`: nobody is told how far it is.
    Raises GuardError."""
    from webhook.cluster import Picture, release_of

    async with cluster_of(where, settings) as cluster:
        with Progress(quiet=quiet) as progress:
            # The cluster first: it is the one that is more often out of reach, and says so at once.
            picture = await Picture.take(cluster, namespaces, progress.of("objects").more)
            if where.snapshot is not None:
                inventory = snapshot_of(where.snapshot)
            else:
                inventory = await _read(settings, cluster, progress, some=some)
            picture.followed.release = await release_of(cluster, settings.release_namespaces)
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
    from webhook.cluster import Cluster, ClusterSilent

    named = where.kubeconfig or settings.kubeconfig
    if named is None and (known := os.environ.get("KUBECONFIG")):
        named = Path(known)
    usual = Path.home() / ".kube" / "config"
    if named is None and ("KUBERNETES_SERVICE_HOST" not in os.environ or usual.exists()):
        named = usual
    async with Cluster.open(named, where.context) as cluster:
        try:
            yield cluster
        except ClusterSilent as error:
            raise ClusterUnreachable(f"{printable(cluster.server)}: {error}") from None


def _in_reach(where: Where, settings: "Settings") -> bool:
    """Whether a cluster is named: a kubeconfig that merely lies there is not meant."""
    from webhook.runtime.following import clustered

    return where.names_cluster or clustered(settings)


async def _read(
    settings: "Settings",
    cluster: "Cluster | None",
    progress: Progress,
    timeout: float = FIRST_READ,
    *,
    some: bool = False,
) -> Inventory:
    from webhook.runtime.reading import read

    def heard(provider: str, vms: int) -> None:
        progress.of(f"VMs of {provider}").at(vms)

    return await read(settings, cluster, heard, timeout, some=some)
