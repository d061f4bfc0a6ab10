"""The sources that the settings name: what `serve` follows, and what `inventory` reads."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from webhook.engine.policy import NamespacePolicy, PastConversion, Policy
from webhook.errors import SettingsInvalid
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.inventory.snapshot import load_snapshot
from webhook.model.objects import Provider
from webhook.settings import ProviderSettings, Settings

if TYPE_CHECKING:
    from webhook.cluster import FoundProvider
    from webhook.vsphere import LiveSource, VsphereAddress
    from webhook.vsphere.refusals import Turn

Recall = Callable[[ProviderInventory], None]
"""Lets a provider know what an earlier run knew."""


def nothing(_: object = None) -> None:
    """There is no cache, or nobody counts."""


def known(
    settings: Settings,
    recall: Recall = nothing,
    failed: Callable[[], None] = nothing,
    turn: "Turn | None" = None,
) -> tuple[Inventory, list["LiveSource"]]:
    """What the settings name, and the live ones among it: to be started and stopped.

    `failed` hears of each fault that a live one's thread did not expect; it goes on all the same.
    `turn` says which of several replicas may try to log in.
    Raises SettingsInvalid, or SnapshotInvalid.
    """
    inventory = Inventory()
    for path in settings.snapshots:
        for provider in load_snapshot(path, wall=datetime.now(UTC), monotonic=time.monotonic()):
            _put(inventory, provider, f"snapshots: {path}")
    live = []
    for entry in settings.providers:
        provider = ProviderInventory(Provider(entry.namespace, entry.name, entry.type))
        _put(inventory, provider, "providers")
        if entry.type == "vsphere":
            live.append(_live(entry, provider, settings, failed, turn))
            recall(provider)
    return inventory, live


def _put(inventory: Inventory, provider: ProviderInventory, where: str) -> None:
    """The second of a name would hide the first. Raises SettingsInvalid."""
    if inventory.get(provider.provider.namespace, provider.provider.name) is not None:
        raise SettingsInvalid(f"{where}: {provider.name} is there already: name each Provider once")
    inventory.put(provider)


def connector(
    settings: Settings,
    recall: Recall = nothing,
    failed: Callable[[], None] = nothing,
    turn: "Turn | None" = None,
) -> Callable[["FoundProvider", ProviderInventory], "LiveSource"]:
    """What gives a Provider that is found its source, to be started. The rest: see `known`."""
    from webhook.vsphere import LiveSource

    def connect(found: "FoundProvider", provider: ProviderInventory) -> "LiveSource":
        provider.url = found.url
        recall(provider)
        where = address(settings, found)
        return LiveSource(where, provider, failed, silence=settings.silence, turn=turn)

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
        stale=settings.silence,
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


def _live(
    entry: ProviderSettings,
    provider: ProviderInventory,
    settings: Settings,
    failed: Callable[[], None],
    turn: "Turn | None",
) -> "LiveSource":
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
    provider.url, provider.secret = entry.url, f"file {entry.password_file}"
    return LiveSource(address, provider, failed, silence=settings.silence, turn=turn)
