"""Every vCenter that the guard should read: can it be reached, and is what the guard needs seen?"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from webhook.cli.doctor import rights
from webhook.cli.doctor.finding import Observation, unseen
from webhook.cluster import Cluster, ClusterForbidden, FoundProvider, found_in, reach
from webhook.errors import ClusterUnreachable, VsphereUnreachable
from webhook.model.objects import Provider
from webhook.runtime import sources
from webhook.settings import Settings

_ROLE = "give it the role Read-only on the root folder, propagated to its children"


async def looked(
    cluster: Cluster,
    settings: Settings,
    shipped: Mapping[str, Sequence[Mapping[str, Any]]],
    guards: str,
) -> AsyncIterator[Observation]:
    """A finding for each. `guards` is the guard's own namespace. Raises ClusterForbidden."""
    used = settings.provider_namespaces
    try:
        found = await found_in(cluster)
    except ClusterForbidden:
        found = {}
        for place in used:
            found |= await found_in(cluster, place)
    for place in sorted({p.namespace for p in found if p.type == "vsphere"} - set(used)):
        what = f"the vSphere Providers of namespace {place} are not used"
        role = rights.for_namespace(shipped["providers"], place, guards)
        fix = f"to use them, add {place} to the setting providerNamespaces, and\n{role}"
        yield Observation("vcenters", "note", what, fix)
    mine = [p for p in found if p.type == "vsphere" and p.namespace in used]
    for provider in mine:
        secret = found[provider].secret.name
        try:
            there = await reach(cluster, provider.namespace, found[provider])
        except ClusterForbidden as error:
            what = f"Secret {provider.namespace}/{secret} of Provider {provider}: {error}"
            yield unseen("vcenters", what)
        except ClusterUnreachable as error:
            what = f"Provider {provider}: {error}"
            yield Observation("vcenters", "wrong", what, _edit(provider, secret))
        else:
            fix = _edit(provider, secret)
            yield await asyncio.to_thread(_probed, str(provider), settings, there, fix)
    for entry in settings.providers:
        if entry.type == "vsphere":
            what = f"provider {entry.namespace}/{entry.name} is from the settings"
            yield Observation("vcenters", "note", f"{what}: the guard's log shows its state")
    if not mine and not settings.providers:
        what = f"there is no vSphere Provider in {', '.join(used)}: every PVC is undecided"
        fix = "create a Provider there, or add its namespace to the setting providerNamespaces"
        yield Observation("vcenters", "wrong", what, fix)


def _edit(provider: Provider, secret: str) -> str:
    place = f"-n {provider.namespace}"
    address = f"kubectl edit provider {provider.name} {place}"
    return f"kubectl edit secret {secret} {place} # login and CA; its address: {address}"


def _probed(name: str, settings: Settings, found: FoundProvider, edit: str) -> Observation:
    # Here, not above: pyVmomi is slow to import, and the rest is said without it.
    from webhook.vsphere import probe

    where = f"Provider {name}: {found.url}"
    try:
        seen = probe(sources.address(settings, found))
    except VsphereUnreachable as error:
        return Observation(
            "vcenters", "wrong", f"{where}: {error}", f"{edit}, or the network to it"
        )
    if seen.missing:
        what = f"{where}: {found.user} has no {', '.join(seen.missing)} on the root folder"
        return Observation("vcenters", "wrong", what, _ROLE)
    if not seen.vms:
        return Observation("vcenters", "wrong", f"{where}: {found.user} sees no VM at all", _ROLE)
    if found.insecure:
        what = f"{where}: its certificate is not verified (insecureSkipVerify)"
        fix = f"put its CA into ca.crt, and remove insecureSkipVerify: {edit}"
        return Observation("vcenters", "note", what, fix)
    return Observation("vcenters", "good", f"{where}: {seen.product}, {seen.vms} VMs can be read")
