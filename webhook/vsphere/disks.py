"""A VM's devices as vSphere lists them: its disks, and the buses that they are on."""

from typing import Any

from webhook.model.vms import Disk

# Forklift: vsphere/model.go, the controllers by which it knows a disk's bus.
BUSES = {
    "ParaVirtualSCSIController": "scsi",
    "VirtualBusLogicController": "scsi",
    "VirtualLsiLogicController": "scsi",
    "VirtualLsiLogicSASController": "scsi",
    "VirtualSCSIController": "scsi",
    "VirtualAHCIController": "sata",
    "VirtualSATAController": "sata",
    "VirtualIDEController": "ide",
    "VirtualNVMEController": "nvme",
    "VirtualUSBController": "usb",
    "VirtualUSBXHCIController": "usb",
}

_VIM = "{urn:vim25}"
_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"


def disks_of(devices: Any) -> tuple[Disk, ...]:
    """The disks of a config.hardware.device."""
    buses: dict[str, str] = {}
    disks = []
    for device in devices:
        kind = device.get(_TYPE, "").rpartition(":")[2]
        if kind == "VirtualDisk":
            disks.append(device)
        elif (bus := BUSES.get(kind)) is not None:
            buses[device.findtext(f"{_VIM}key")] = bus
    return tuple(_disk(device, buses) for device in disks)


def _disk(device: Any, buses: dict[str, str]) -> Disk:
    texts: dict[str, str] = {}
    backing = None
    for child in device:
        tag = child.tag.removeprefix(_VIM)
        if tag == "backing":
            backing = child
        else:
            texts[tag] = child.text or ""
    kind, of_backing = "", dict[str, str]()
    if backing is not None:
        kind = backing.get(_TYPE, "").rpartition(":")[2]
        of_backing = {child.tag.removeprefix(_VIM): child.text or "" for child in backing}
    controller = texts.get("controllerKey", "0")
    return Disk(
        # A raw disk of the second kind has no file of its own: Forklift takes its descriptor's.
        file=of_backing.get("descriptorFileName") or of_backing.get("fileName", ""),
        capacity=int(texts.get("capacityInBytes") or 0)
        or int(texts.get("capacityInKB") or 0) * 1024,
        key=int(texts.get("key") or 0),
        unit_number=int(texts.get("unitNumber") or 0),
        controller_key=int(controller),
        bus=buses.get(controller, ""),
        backing=kind.removeprefix("VirtualDisk").removesuffix("BackingInfo"),
        shared=of_backing.get("sharing", "") not in ("", "sharingNone"),
        mode=of_backing.get("diskMode", ""),
    )
