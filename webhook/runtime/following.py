"""What is found in a cluster and followed: Providers, PVCs and what else reviews ask for."""

import logging
import os
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from webhook.errors import ClusterUnreachable
from webhook.inventory.cluster import Followed
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.runtime.logins import Logins
from webhook.runtime.supervise import Supervisor
from webhook.settings import Settings

if TYPE_CHECKING:
    from webhook.cluster import Cluster, FoundProvider, Source

Connect = Callable[["FoundProvider", ProviderInventory], "Source"]
Count = Callable[[Literal["sent", "spared", "failed"]], None]
"""Hears what became of each Event."""

Audit = Callable[["Cluster"], Coroutine[Any, Any, None]]
"""Does its work on a cluster until it is cancelled."""

_log = logging.getLogger("webhook")


class Following:
    """A cluster to be followed, once `run` runs; until then an Unlisted, for all that is in it."""

    passing = True

    def __init__(
        self,
        settings: Settings,
        inventory: Inventory,
        supervisor: Supervisor,
        connect: Connect,
        count: Count,
        logins: Logins | None = None,
    ) -> None:
        # Here, not above: the kubernetes client is slow to import, and many need none of it.
        from webhook.cluster import Events, LiveReader

        self._settings, self._inventory = settings, inventory
        self._supervisor, self._connect, self._logins = supervisor, connect, logins
        self._why = "the cluster has not been read yet"
        self.reader = LiveReader(self.why)
        self.events = Events(count)
        self.followed = Followed()
        self.audit: Audit | None = None
        """Watches what is on the cluster, as long as it is open."""
        for namespace in settings.provider_namespaces:
            inventory.unlisted[namespace] = self

    def why(self) -> str:
        """Why nothing is known of it yet."""
        return self._why

    async def run(self) -> None:
        """Until cancelled. Raises ClusterUnreachable where the cluster can't be opened."""
        from webhook.cluster import Cluster

        try:
            settings = self._settings
            async with Cluster.open(settings.kubeconfig, silence=settings.silence) as cluster:
                await self._follow(cluster)
        except ClusterUnreachable as error:
            self._why = str(error)
            raise

    async def _follow(self, cluster: "Cluster") -> None:
        from webhook.cluster import ProviderWatch, ReleaseWatch, reflectors

        watch = ProviderWatch(
            cluster,
            self._settings.provider_namespaces,
            self._inventory,
            self._connect,
            keep=self._supervisor.keep,
        )
        release = ReleaseWatch(cluster, self._settings.release_namespaces, self.followed)
        self.reader.cluster = self.events.cluster = cluster
        if self._logins is not None:
            self._logins.open(cluster)
        audit = self.audit
        with self.followed.enforced.heeded(self._labelled):
            await self._supervisor.keep_all(
                [
                    *([("audit", partial(audit, cluster))] if audit is not None else []),
                    *([("providers", watch.run)] if self._settings.provider_namespaces else []),
                    ("events", self.events.run),
                    ("release", release.run),
                    *((one.resource, one.run) for one in reflectors(cluster, self.followed)),
                ]
            )

    def _labelled(self, namespace: str) -> None:
        self.events.labelled(namespace, self.followed.enforced.get(namespace))


def following(
    settings: Settings,
    inventory: Inventory,
    supervisor: Supervisor,
    connect: Callable[[], Connect],
    count: Count,
    logins: Logins | None = None,
) -> Following | None:
    """What there is to follow; None outside any cluster."""
    if not clustered(settings):
        if not any(True for _ in inventory.vsphere()):
            _log.warning(
                "the settings name no vSphere provider, and there is no cluster to find one in"
            )
        return None
    return Following(settings, inventory, supervisor, connect(), count, logins)


def clustered(settings: Settings) -> bool:
    """Whether there is a cluster at all."""
    return settings.kubeconfig is not None or "KUBERNETES_SERVICE_HOST" in os.environ
