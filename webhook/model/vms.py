"""What vSphere says: a VM, its disks, the folders that it is in."""

import re
from collections.abc import Collection

import msgspec

from webhook.model.keys import quoted

# Forklift: vsphere/builder.go, backingFilePattern. Unanchored, and the dot is any character.
_SNAPSHOT_SUFFIX = re.compile(r"-\d\d\d\d\d\d.vmdk", re.ASCII)

# Forklift: vsphere/model.go, updateDisks. Any other backing is left out of the VM's disks there.
_LIBVIRT_ORDER = ("scsi", "sata", "ide", "nvme")
_VMWARE_ORDER = ("sata", "ide", "scsi", "nvme")
_ATTACHED_BUSES = frozenset(_LIBVIRT_ORDER)
_LISTED_BACKINGS = frozenset({"FlatVer1", "FlatVer2", "RawDiskMappingVer1", "RawDiskVer2"})


def needed(capacity: int, volume_mode: str) -> int:
    """Bytes to request for a disk of `capacity` bytes: a Filesystem needs about 6 % for itself."""
    return capacity if volume_mode == "Block" else -(-capacity * 106 // 100)


def whole(size: int) -> str:
    """The shortest whole quantity of at least `size` bytes: 107374182400 -> `100Gi`."""
    mebibytes = -(-size // 2**20)
    return f"{mebibytes}Mi" if mebibytes % 1024 else f"{mebibytes // 1024}Gi"


def trim_backing_file(file: str) -> str:
    """`[ds] vm/disk-000003.vmdk` -> `[ds] vm/disk.vmdk`, as Forklift does before it compares.

    Source: Forklift's vsphere/utils.go, trimBackingFileName.
    """
    if file[-12:-11] != "-" and file.find("vmdk") == len(file) - 4:
        return file  # as nearly all are; the pattern takes several times as long
    return _SNAPSHOT_SUFFIX.sub(".vmdk", file)


class Disk(
    msgspec.Struct,
    frozen=True,
    rename="camel",
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
):
    """One virtual disk of a VM (vSphere: config.hardware.device[], VirtualDisk)."""

    file: str
    """backing.fileName (a raw disk's descriptorFileName), now: `[datastore] dir/file.vmdk`."""
    capacity: int
    """capacityInBytes."""
    key: int = 0
    unit_number: int = 0
    controller_key: int = 0
    bus: str = "scsi"
    """scsi, sata, ide, nvme, usb, or empty where the controller is of no known kind."""
    backing: str = "FlatVer2"
    """The backing's type, VirtualDisk…BackingInfo without its ends: FlatVer2, SeSparse."""
    shared: bool = False
    mode: str = "persistent"

    @property
    def source(self) -> str:
        """The file without a snapshot's suffix, as Forklift compares it."""
        return trim_backing_file(self.file)

    @property
    def is_delta(self) -> bool:
        """Whether its name is that of a snapshot's delta file: a copy of the base misses it."""
        return self.source != self.file

    @property
    def disk_source(self) -> str:
        """What a PVC's disk-source should say.

        It is trimmed, too, before it is compared: of `x-123456-000001.vmdk` only the whole name
        comes out as `x-123456.vmdk` again.
        """
        source = self.source
        return source if trim_backing_file(source) == source else self.file

    @property
    def attached(self) -> bool:
        """Whether Forklift gives it to the conversion: it orders disks by bus, and drops the rest.

        Source: Forklift's web/vsphere/vm.go.
        """
        return self.listed and self.bus in _ATTACHED_BUSES

    @property
    def listed(self) -> bool:
        """Whether Forklift counts this disk at all."""
        return self.backing in _LISTED_BACKINGS


class VirtualMachine(
    msgspec.Struct,
    frozen=True,
    rename="camel",
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
):
    """What vSphere says of one VM, as far as it is kept."""

    moref: str
    name: str = ""
    uuid: str = ""
    """config.uuid, the BIOS UUID: what vmUUID must say. Empty while the VM has no config."""
    instance_uuid: str = ""
    """config.instanceUuid: what vendors often take for the other."""
    parent: str = ""
    """The folder's managed object reference."""
    template: bool = False
    power_state: str = "poweredOn"
    connection_state: str = "connected"
    tools: str = ""
    """guest.toolsRunningStatus."""
    tools_status: str = ""
    """guest.toolsStatus, which vSphere deprecates and Forklift still reads."""
    encrypted: bool = False
    """Whether config.keyId is set."""
    ip_address: str = ""
    disks: tuple[Disk, ...] = ()

    @property
    def ghost(self) -> bool:
        """Whether Forklift leaves this VM out of its lists, as it does what has no identity.

        Source: Forklift's web/vsphere/vm.go, List.
        """
        return not self.uuid and not self.instance_uuid

    @property
    def trouble(self) -> str | None:
        """Why nothing can be said of this VM's disks now, or None."""
        if not self.uuid:
            return "has no configuration yet (it is being created, or can't be read)"
        if self.connection_state != "connected":
            return f"is {self.connection_state} in vSphere"
        return None

    @property
    def as_converted(self) -> tuple[Disk, ...]:
        """The disks that Forklift attaches, in the order in which virt-v2v counts them.

        Source: Forklift's web/vsphere/vm.go, SortedDisksAsLibvirt.
        """
        return self._attached(_LIBVIRT_ORDER)

    @property
    def as_booted(self) -> tuple[Disk, ...]:
        """The same in the order in which the new VM's boot disk is counted.

        Source: the same, SortedDisksAsVmware.
        """
        return self._attached(_VMWARE_ORDER)

    def _attached(self, buses: tuple[str, ...]) -> tuple[Disk, ...]:
        def place(disk: Disk) -> tuple[int, int, int, int]:
            return buses.index(disk.bus), disk.controller_key, disk.unit_number, disk.key

        return tuple(sorted((disk for disk in self.disks if disk.attached), key=place))

    def matching(self, source: str) -> tuple[Disk, ...]:
        """The disks that Forklift would match with a PVC's disk-source.

        Source: Forklift's vsphere/builder.go, mapDisks: both sides trimmed, then compared.
        """
        wanted = trim_backing_file(source)
        return tuple([disk for disk in self.disks if disk.source == wanted and disk.listed])

    def proven_by(self, uuids: Collection[str]) -> bool:
        """Whether one of `uuids`, in lower case, is one that only who knows this VM can know."""
        own, instance = self.uuid, self.instance_uuid
        return bool(own and own.lower() in uuids) or bool(instance and instance.lower() in uuids)

    def __str__(self) -> str:
        return f"{self.moref} ({quoted(self.name)})"


class Folder(
    msgspec.Struct,
    frozen=True,
    rename="camel",
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
):
    """A folder or datacenter: what a VM's path is made of."""

    moref: str
    name: str
    parent: str = ""
