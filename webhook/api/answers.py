"""What the calls answer, beside what check and repair answer, too (Results, DiskView, Rendered)."""

import hashlib
import heapq
from collections.abc import Iterator

import msgspec

from webhook.errors import GuardError
from webhook.facts.lookup import meant
from webhook.inventory.index import Index
from webhook.inventory.provider import ProviderInventory, ProviderState
from webhook.manifests.render import DiskView
from webhook.model.vms import VirtualMachine


class ProviderView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A Forklift Provider, and the state of its inventory."""

    namespace: str
    name: str
    type: str
    state: ProviderState | None
    """Null for one that isn't vSphere: of such only name and type are known."""
    age_seconds: float | None
    """Since vSphere last said that it is so; null where it never did, or is a snapshot for good."""
    vms: int
    message: str = ""
    """Why it can't be read now."""


class Providers(msgspec.Struct, frozen=True):
    """The Providers that the caller may get."""

    providers: tuple[ProviderView, ...]


class VmView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A VM, without its disks."""

    moref: str
    """What vmID must say."""
    uuid: str
    """config.uuid: what vmUUID must say."""
    instance_uuid: str
    name: str
    path: str
    power_state: str
    template: bool
    disks: int
    trouble: str | None
    """Why nothing can be said of its disks now."""


class VmPage(msgspec.Struct, frozen=True, rename={"age_seconds": "ageSeconds", "more": "continue"}):
    """A page of VMs."""

    age_seconds: float | None
    vms: tuple[VmView, ...]
    more: str | msgspec.UnsetType = msgspec.UNSET
    """What the next page is asked for by; absent on the last one."""


class VmDisks(msgspec.Struct, frozen=True, rename="camel"):
    """A VM and its disks, in vSphere's order."""

    age_seconds: float | None
    vm: VmView
    disks: tuple[DiskView, ...]


def provider_view(one: ProviderInventory, now: float) -> ProviderView:
    """`now` is by the monotonic clock."""
    vsphere = one.provider.type == "vsphere"
    return ProviderView(
        namespace=one.provider.namespace,
        name=one.provider.name,
        type=one.provider.type,
        state=one.state if vsphere else None,
        age_seconds=age(one, now),
        vms=len(one.vms),
        message=one.trouble if vsphere and one.state != "known" else "",
    )


def age(one: ProviderInventory, now: float) -> float | None:
    """Seconds, to a tenth."""
    return None if one.heard_at is None else round(one.age(now), 1)


def vm_view(one: ProviderInventory, vm: VirtualMachine) -> VmView:
    return VmView(
        moref=vm.moref,
        uuid=vm.uuid,
        instance_uuid=vm.instance_uuid,
        name=vm.name,
        path=one.vms.path(vm),
        power_state=vm.power_state,
        template=vm.template,
        disks=len(vm.disks),
        trouble=vm.trouble,
    )


class Search(msgspec.Struct, frozen=True):
    """Which VMs are asked for: those that are all of this; what is empty is any."""

    name: str = ""
    """A name, a path or a moref, exactly."""
    contains: str = ""
    """A part of the name, in any case of letters."""
    uuid: str = ""
    """config.uuid or config.instanceUuid, in any case of letters."""
    disk_source: str = ""
    """The file of a disk, as Forklift compares it."""

    def among(self, vms: Index) -> Iterator[VirtualMachine]:
        """Those of `vms`."""
        of_name = meant(self.name, vms) if self.name else None
        of_uuid = vms.by_uuid(self.uuid) if self.uuid else None
        part = self.contains.lower()
        for vm in of_name if of_name is not None else of_uuid if of_uuid is not None else vms:
            fits = of_uuid is None or vm in of_uuid
            if fits and part in vm.name.lower() and self._has_disk(vm):
                yield vm

    def _has_disk(self, vm: VirtualMachine) -> bool:
        return not self.disk_source or bool(vm.matching(self.disk_source))


class NoSuchPage(GuardError):
    """What a page is asked for by is not what this list has told."""


def page(one: ProviderInventory, search: Search, limit: int, after: str, now: float) -> VmPage:
    """The next `limit` VMs after the page that told `after`, in the order of their morefs.

    That order is theirs whatever comes and goes, so no VM that stays is left out or told twice.
    Raises NoSuchPage.
    """
    moref = after.rpartition(".")[0]
    if after and after != _more(one, search, moref):
        raise NoSuchPage(after)
    last = _place(moref)
    rest = (vm for vm in search.among(one.vms) if _place(vm.moref) > last)
    found = heapq.nsmallest(limit + 1, rest, key=lambda vm: _place(vm.moref))
    more = _more(one, search, found[limit - 1].moref) if len(found) > limit else msgspec.UNSET
    return VmPage(age(one, now), tuple(vm_view(one, vm) for vm in found[:limit]), more)


def _more(one: ProviderInventory, search: Search, moref: str) -> str:
    """What asks for the VMs after `moref`, of this list only. Every replica makes the same."""
    whole = msgspec.json.encode((one.name, search, moref))
    return f"{moref}.{hashlib.blake2b(whole, digest_size=4).hexdigest()}"


def _place(moref: str) -> tuple[int, str]:
    """`vm-9` before `vm-10`."""
    return len(moref), moref
