"""The sources that the settings name: what `serve` follows, and what `inventory` reads."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from webhook.engine.policy import NamespacePolicy, PastConversion, Policy
from webhook.errors import SettingsInvalid
from webhook.inventory.cluster import Followed
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.inventory.snapshot import load_snapshot
from webhook.model.objects import Provider
from webhook.settings import ProviderSettings, Settings

if TYPE_CHECKING:
    from webhook.cluster import FoundProvider
    from webhook.vsphere import LiveSource, VsphereAddress

_log = logging.getLogger("webhook")


Recall = Callable[[ProviderInventory], None]
"""Lets a provider know what an earlier run knew."""


Count = Callable[[Literal["sent", "spared", "failed"]], None]
"""Hears what became of each Event."""


def nothing(_: object) -> None:
    """There is no cache, or nobody counts."""


def known(settings: Settings, recall: Recall = nothing) -> tuple[Inventory, list["LiveSource"]]:
    """What the settings name, and the live ones among it: to be started and stopped."""
    inventory = Inventory()
    for path in settings.snapshots:
        for provider in load_snapshot(path, wall=datetime.now(UTC), monotonic=time.monotonic()):
            inventory.put(provider)
    live = []
    for entry in settings.providers:
        provider = ProviderInventory(Provider(entry.namespace, entry.name, entry.type))
        inventory.put(provider)
        if entry.type == "vsphere":
            live.append(_live(entry, provider, settings))
            recall(provider)
    return inventory, live


class Following:
    """What is found in the cluster and followed, once `run` runs."""

    def __init__(
        self, settings: Settings, inventory: Inventory, recall: Recall, count: Count
    ) -> None:
        # Here, not above: the kubernetes client is slow to import, and many need none of it.
        from webhook.cluster import LiveReader, PlanEvents

        self._settings, self._inventory, self._recall = settings, inventory, recall
        self.reader = LiveReader()
        self.events = PlanEvents(count)
        self.followed = Followed()
        for namespace in settings.provider_namespaces:
            inventory.unlisted[namespace] = lambda: "the cluster has not been asked"

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await self._run()
        except Exception:  # noqa: BLE001  without it, verdicts are undecided and the log must say why
            _log.exception("the cluster can't be followed")

    async def _run(self) -> None:
        from webhook.cluster import Cluster, ProviderWatch, reflectors

        settings = self._settings
        async with Cluster.open(settings.kubeconfig) as cluster, asyncio.TaskGroup() as group:
            self.reader.cluster = self.events.cluster = cluster
            connect = connector(settings, self._recall)
            watch = ProviderWatch(cluster, settings.provider_namespaces, self._inventory, connect)
            group.create_task(watch.run())
            group.create_task(self.events.run())
            for reflector in reflectors(cluster, self.followed):
                group.create_task(reflector.run())


def connector(
    settings: Settings, recall: Recall = nothing
) -> Callable[["FoundProvider", ProviderInventory], "LiveSource"]:
    """What gives a Provider that is found its source, to be started."""
    from webhook.vsphere import LiveSource

    def connect(found: "FoundProvider", provider: ProviderInventory) -> "LiveSource":
        provider.url = found.url
        recall(provider)
        return LiveSource(address(settings, found), provider)

    return connect


def address(settings: Settings, found: "FoundProvider") -> "VsphereAddress":
    """Where a Provider's vSphere is, and as whom to log in."""
    from webhook.vsphere import VsphereAddress

    return VsphereAddress(
        url=found.url,
        user=found.user,
        password=lambda: found.password,
        ca=found.ca,
        insecure=found.insecure,
        denied=settings.denied_networks,
    )


def policy(settings: Settings) -> Policy:
    """What the settings choose."""
    past = settings.past_conversion
    return Policy(
        actions=settings.rules,
        defaults=settings.defaults,
        undecided=settings.undecided,
        max_age=settings.max_age,
        trust_network=settings.trust_network,
        ignore_providers=settings.ignore_providers,
        namespaces={
            name: NamespacePolicy(chosen.enforce, chosen.rules)
            for name, chosen in settings.namespaces.items()
        },
        allow_namespace_opt_out=settings.allow_namespace_opt_out,
        past_conversion=PastConversion(past.owner_kinds, past.annotations, past.labels),
        importers=settings.importers,
    )


def following(
    settings: Settings,
    inventory: Inventory,
    recall: Recall = nothing,
    count: Count = nothing,
) -> Following | None:
    """What there is to follow; None outside any cluster."""
    if settings.kubeconfig is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
        if not any(True for _ in inventory.vsphere()):
            _log.warning("no vSphere provider is set, and there is no cluster to find one in")
        return None
    return Following(settings, inventory, recall, count)


def _live(entry: ProviderSettings, provider: ProviderInventory, settings: Settings) -> "LiveSource":
    # Here, not above: pyVmomi is slow to import, and a snapshot needs none of it.
    from webhook.vsphere import LiveSource, VsphereAddress, password_of

    if entry.url is None or entry.user is None or entry.password_file is None:
        raise SettingsInvalid(f"provider {entry.namespace}/{entry.name} is incomplete")
    address = VsphereAddress(
        url=entry.url,
        user=entry.user,
        password=password_of(entry.password_file),
        ca_file=entry.ca_file,
        insecure=entry.insecure_skip_verify,
        denied=settings.denied_networks,
    )
    provider.url = entry.url
    return LiveSource(address, provider)
