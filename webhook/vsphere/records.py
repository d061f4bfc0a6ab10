"""What vSphere's property collector says, as the inventory's records."""

from collections.abc import Iterable, Mapping
from typing import Any

from pyVmomi import vim

from webhook.model import Disk, VirtualMachine

VM_FIELDS = {
    "name": "name",
    "parent": "parent",
    "config.uuid": "uuid",
    "config.instanceUuid": "instance_uuid",
    "config.template": "template",
    "runtime.powerState": "power_state",
    "runtime.connectionState": "connection_state",
    "guest.toolsRunningStatus": "tools",
    "guest.ipAddress": "ip_address",
    "config.hardware.device": "disks",
}
"""vSphere's property paths, and the fields of a VirtualMachine that they fill."""

FOLDER_FIELDS = ("name", "parent")

# Forklift: vsphere/model.go, the controllers by which it knows a disk's bus.
_BUSES: tuple[tuple[type, str], ...] = (
    (vim.vm.device.VirtualSCSIController, "scsi"),
    (vim.vm.device.VirtualSATAController, "sata"),
    (vim.vm.device.VirtualIDEController, "ide"),
    (vim.vm.device.VirtualNVMEController, "nvme"),
    (vim.vm.device.VirtualUSBController, "usb"),
    (vim.vm.device.VirtualUSBXHCIController, "usb"),
)


def fields_of(properties: Mapping[str, Any]) -> dict[str, Any]:
    """A VirtualMachine's fields, of those property paths that are given; an unset one is blank."""
    return {
        field: _value(path, properties[path])
        for path, field in VM_FIELDS.items()
        if path in properties
    }


def vm_of(moref: str, properties: Mapping[str, Any]) -> VirtualMachine:
    """A whole record. What is missing (a VM that is being created has no config) is blank."""
    unset = dict.fromkeys(VM_FIELDS.values(), "") | {"template": False, "disks": ()}
    return VirtualMachine(moref=moref, **{**unset, **fields_of(properties)})


def moref_of(reference: Any) -> str:
    """The id of a managed object, or nothing."""
    return str(reference._moId) if reference is not None else ""


def _value(path: str, value: Any) -> Any:
    match path:
        case "config.hardware.device":
            return disks_of(value or ())
        case "config.template":
            return bool(value)
        case "parent":
            return moref_of(value)
    return "" if value is None else str(value)


def disks_of(devices: Iterable[Any]) -> tuple[Disk, ...]:
    """The virtual disks among a VM's devices, in their order."""
    devices = tuple(devices)
    buses = {
        device.key: next((bus for kind, bus in _BUSES if isinstance(device, kind)), "")
        for device in devices
    }
    return tuple(
        _disk(device, buses.get(device.controllerKey, ""))
        for device in devices
        if isinstance(device, vim.vm.device.VirtualDisk)
    )


def _disk(device: Any, bus: str) -> Disk:
    backing = device.backing
    sharing = getattr(backing, "sharing", None)
    # A raw disk of the second kind has no file of its own: Forklift takes its descriptor's.
    file = getattr(backing, "descriptorFileName", None) or getattr(backing, "fileName", None)
    return Disk(
        file=file or "",
        capacity=device.capacityInBytes or (device.capacityInKB or 0) * 1024,
        key=device.key,
        unit_number=device.unitNumber or 0,
        controller_key=device.controllerKey or 0,
        bus=bus,
        backing=_backing(backing),
        shared=bool(sharing) and sharing != "sharingNone",
        mode=getattr(backing, "diskMode", None) or "",
    )


def _backing(backing: Any) -> str:
    """`vim.vm.device.VirtualDisk.FlatVer2BackingInfo` -> `FlatVer2`."""
    return type(backing).__name__.rpartition(".")[2].removesuffix("BackingInfo")
