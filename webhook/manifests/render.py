"""A VM's PVC manifests and Plan, right by construction, and its disks as a vendor needs them."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec

from webhook.errors import RenderImpossible
from webhook.facts import forms
from webhook.model.keys import DISK_SOURCE, MARK, VM_ID, VM_UUID, echoed, quoted
from webhook.model.objects import Provider
from webhook.model.vms import Disk, VirtualMachine, needed, whole

VolumeMode = Literal["Block", "Filesystem"]
AccessMode = Literal["ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]
_WORDS = {"volumeMode": get_args(VolumeMode), "accessModes": get_args(AccessMode)}

NAME = "{vm}-disk-{index}"
_NAME_LIMIT = 63
"""A PVC's name may be longer; as a pod's volume or a label's value it may not."""
_NO_NAME = re.compile(r"[^a-z0-9]+", re.ASCII)
_FIELD = re.compile(r"\{([^{}]*)\}")


class DiskView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One disk, and whether it is converted."""

    disk_source: str
    """What the annotation forklift.konveyor.io/disk-source must say."""
    file: str
    """The file that is in use now: a snapshot's, where there is one."""
    capacity: int
    """Bytes."""
    bus: str
    backing: str
    mode: str
    shared: bool
    needs_pvc: bool
    """Whether Forklift counts it, so that it needs a PVC."""
    supported: bool
    """Whether the new VM gets it, and `why` not."""
    why: str | None = None


# A `$` of Python's also stands before a last newline.
_END = r"$(?!\n)"
DnsLabel = Annotated[
    str, msgspec.Meta(pattern=rf"^[a-z0-9]([-a-z0-9]*[a-z0-9])?{_END}", max_length=63)
]
DnsSubdomain = Annotated[
    str, msgspec.Meta(pattern=rf"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?{_END}", max_length=253)
]


class OwnerReference(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    """As Kubernetes has it."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class RenderRequest(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """How the manifests should be."""

    namespace: DnsLabel
    storage_class: DnsSubdomain | None = None
    """None: the cluster's default."""
    volume_mode: VolumeMode = "Block"
    access_modes: tuple[AccessMode, ...] = ()
    """Empty: ReadWriteMany for Block, ReadWriteOnce for Filesystem."""
    name: str = NAME
    """Of each PVC: {vm}, {moref} and {index} are filled in, the rest is text."""
    labels: dict[str, str] = {}
    """Further ones of each PVC."""
    annotations: dict[str, str] = {}
    """Further ones of each PVC, such as `conversion-guard.io/not-ready: copying`."""
    owner_references: tuple[OwnerReference, ...] = ()
    """Of each PVC: what is to be deleted with its owner."""


def fault(error: msgspec.ValidationError) -> tuple[str, str]:
    """The field that is not as it must be, such as `namespace` (empty: all of it), and what is
    wrong with it, in words. It is one of RenderRequest, or has a type of its fields."""
    what, _, where = str(error).partition(" - at `")
    field = where.rstrip("`").removeprefix("$").removeprefix(".")
    if "matching regex" in what:
        dot = "" if field == "namespace" else ", ."
        what = f"write a name of a-z, 0-9{dot} and -, with a letter or digit at both ends"
    if what.startswith("Invalid enum value ") and (words := _WORDS.get(field.partition("[")[0])):
        what = f"{what.removeprefix('Invalid enum value ')} is none of {', '.join(words)}"
    return field, what


class Rendered(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The PVCs of a VM, and the disks without one."""

    pvcs: tuple[dict[str, Any], ...]
    left_out: tuple[DiskView, ...] = ()


def disks(vm: VirtualMachine) -> tuple[DiskView, ...]:
    """Every disk of `vm`, in vSphere's order."""
    return tuple(
        DiskView(
            disk_source=disk.disk_source,
            file=disk.file,
            capacity=disk.capacity,
            bus=disk.bus,
            backing=disk.backing,
            mode=disk.mode,
            shared=disk.shared,
            needs_pvc=disk.listed,
            supported=not (why := _why_not(vm, disk)),
            why=why or None,
        )
        for disk in vm.disks
    )


def _why_not(vm: VirtualMachine, disk: Disk) -> str:
    if not disk.listed:
        return f"Forklift does not list a disk that is backed by {disk.backing}"
    if len(alike := vm.matching(disk.disk_source)) > 1:
        return f"Forklift can't tell its file from another disk's: {forms.apart(alike)}"
    if not disk.attached:
        bus = f"on {disk.bus.upper()}" if disk.bus else "on no known controller"
        return f"Forklift counts it, then drops it: it is {bus}"
    return "its capacity is not known" if disk.capacity <= 0 else ""


def _ambiguous(vm: VirtualMachine, source: str) -> bool:
    return len(vm.matching(source)) > 1


def _convertible(vm: VirtualMachine) -> None:
    if vm.template:
        raise RenderImpossible(f"{vm} is a template, which Forklift can't convert")
    if vm.trouble:
        raise RenderImpossible(f"{vm} {vm.trouble}")


def pvcs(vm: VirtualMachine, wanted: RenderRequest) -> Rendered:
    """A manifest for each disk of `vm` that Forklift counts. Raises RenderImpossible."""
    _convertible(vm)
    for field, given in (("labels", wanted.labels), ("annotations", wanted.annotations)):
        if own := sorted(given.keys() & {VM_ID, VM_UUID, DISK_SOURCE, MARK}):
            raise RenderImpossible(f"{field}: {own[0]} is not yours to choose: leave it out")
    made, left_out = [], []
    for index, view in enumerate(disks(vm)):
        if not view.needs_pvc or _ambiguous(vm, view.disk_source) or view.capacity <= 0:
            left_out.append(view)
        else:
            made.append(_pvc(vm, view, pvc_name(vm, index, wanted.name), wanted))
    names = [pvc["metadata"]["name"] for pvc in made]
    if len(set(names)) < len(names):
        raise RenderImpossible(
            f"the name {echoed(wanted.name)} is the same for several disks: add {{index}} to it"
        )
    return Rendered(pvcs=tuple(made), left_out=tuple(left_out))


def _pvc(vm: VirtualMachine, disk: DiskView, name: str, wanted: RenderRequest) -> dict[str, Any]:
    modes = wanted.access_modes or (
        ("ReadWriteMany",) if wanted.volume_mode == "Block" else ("ReadWriteOnce",)
    )
    spec: dict[str, Any] = {
        "accessModes": list(modes),
        "volumeMode": wanted.volume_mode,
        "resources": {"requests": {"storage": whole(needed(disk.capacity, wanted.volume_mode))}},
    }
    if wanted.storage_class is not None:
        spec["storageClassName"] = wanted.storage_class
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": wanted.namespace,
        "labels": {**wanted.labels, VM_ID: vm.moref, VM_UUID: vm.uuid},
        "annotations": {**wanted.annotations, DISK_SOURCE: disk.disk_source},
    }
    if wanted.owner_references:
        metadata["ownerReferences"] = msgspec.to_builtins(wanted.owner_references)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": spec,
    }


def plan(
    vm: VirtualMachine,
    provider: Provider,
    *,
    namespace: str,
    network_map: str,
    destination: str = "host",
) -> dict[str, Any]:
    """The conversion Plan of `vm` alone, in its provider's namespace; the PVCs are in `namespace`.

    `network_map` and `destination` name a NetworkMap and a Provider of the provider's namespace.
    Raises RenderImpossible.
    """
    _convertible(vm)
    counted = [disk for disk in vm.disks if disk.listed]
    if alike := [disk for disk in counted if _ambiguous(vm, disk.disk_source)]:
        files = " and ".join(quoted(disk.file) for disk in alike)
        fix = forms.apart(alike)
        raise RenderImpossible(f"Forklift can't tell {files} of {vm} apart: {fix}")
    return {
        "apiVersion": "forklift.konveyor.io/v1beta1",
        "kind": "Plan",
        "metadata": {"name": _named(vm, "{vm}", {}), "namespace": provider.namespace},
        "spec": {
            "type": "conversion",
            "targetNamespace": namespace,
            "provider": {
                "source": {"name": provider.name, "namespace": provider.namespace},
                "destination": {"name": destination, "namespace": provider.namespace},
            },
            "map": {
                "network": {"name": network_map, "namespace": provider.namespace},
                "storage": {},
            },
            "vms": [{"id": vm.moref, "name": vm.name}],
        },
    }


def pvc_name(vm: VirtualMachine, index: int, template: str = NAME) -> str:
    """The name of the PVC of the disk at `index`, a DNS-1123 label. Raises RenderImpossible."""
    return _named(vm, template, {"index": str(index)})


def _named(vm: VirtualMachine, template: str, more: Mapping[str, str]) -> str:
    """What is too long is cut in the VM's name, which then gives way to its moref in part."""
    fields = {"vm": dns_name(vm.name) or dns_name(vm.moref), "moref": vm.moref, **more}
    name = _filled(template, fields)
    if (excess := len(name) - _NAME_LIMIT) > 0:
        # Names that begin alike must not become one.
        short = f"{fields['vm'][: -excess - len(vm.moref) - 1]}-{vm.moref}"
        name = _filled(template, fields | {"vm": short})
    if not name:
        raise RenderImpossible(
            f"name: {echoed(template)} has no letter or digit: write {NAME}, for example"
        )
    if len(name) > _NAME_LIMIT:
        made = f"{echoed(template)} makes {echoed(name)}"
        raise RenderImpossible(
            f"name: {made}, which is longer than {_NAME_LIMIT} characters: shorten it"
        )
    return name


def dns_name(text: str) -> str:
    """`text` as a DNS-1123 label as far as it goes: `Büro [2]` -> `buro-2`. It may be empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return _NO_NAME.sub("-", plain.lower()).strip("-")


def _filled(template: str, fields: Mapping[str, str]) -> str:
    def fill(match: "re.Match[str]") -> str:
        if match[1] not in fields:
            known = ", ".join(f"{{{field}}}" for field in fields)
            raise RenderImpossible(f"{echoed(match[0])} in a name is not one of {known}")
        return fields[match[1]]

    return dns_name(_FIELD.sub(fill, template))
