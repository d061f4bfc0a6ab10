"""The sources that the settings name: what `serve` follows, and what `inventory` reads."""

import logging
import os
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from webhook.errors import SettingsInvalid
from webhook.inventory import Inventory, ProviderInventory, load_snapshot
from webhook.model import Provider
from webhook.settings import ProviderSettings, Settings

if TYPE_CHECKING:
    from webhook.vsphere import LiveSource

Discovery = Coroutine[Any, Any, None]

_log = logging.getLogger("webhook")


def known(settings: Settings) -> tuple[Inventory, list["LiveSource"]]:
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
    return inventory, live


def discovery(settings: Settings, inventory: Inventory) -> Callable[[], Discovery] | None:
    """A coroutine that finds and follows the cluster's Providers; None outside any cluster."""
    if settings.kubeconfig is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
        if not any(True for _ in inventory.vsphere()):
            _log.warning("no vSphere provider is set, and there is no cluster to find one in")
        return None
    for namespace in settings.provider_namespaces:
        inventory.unlisted[namespace] = lambda: "the cluster has not been asked"

    async def follow() -> None:
        # Here, not above: the kubernetes client is slow to import, and many need none of it.
        from webhook.cluster import Cluster, FoundProvider, ProviderWatch
        from webhook.vsphere import LiveSource, VsphereAddress

        def connect(found: FoundProvider, provider: ProviderInventory) -> LiveSource:
            address = VsphereAddress(
                url=found.url,
                user=found.user,
                password=lambda: found.password,
                ca=found.ca,
                insecure=found.insecure,
                denied=settings.denied_networks,
            )
            return LiveSource(address, provider)

        async with Cluster.open(settings.kubeconfig) as cluster:
            await ProviderWatch(cluster, settings.provider_namespaces, inventory, connect).run()

    async def guarded() -> None:
        try:
            await follow()
        except Exception:  # noqa: BLE001  without it, verdicts are undecided and the log must say why
            _log.exception("the cluster's Providers can't be followed")

    return guarded


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
    return LiveSource(address, provider)
