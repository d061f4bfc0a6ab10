"""The keys, and the frozen values that everything speaks of."""

import re
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

import msgspec

from webhook.errors import ObjectMalformed

# The three keys that tie a PVC to its source disk (Forklift: kubevirt.go, kVM and AnnDiskSource).
VM_ID = "vmID"
VM_UUID = "vmUUID"
DISK_SOURCE = "forklift.konveyor.io/disk-source"
MARK = "migration"
"""A label: Forklift puts its Migration's uid there on each PVC of its own."""
PRIME = "prime-"
"""How the name of a populator's own PVC begins; the uid of the PVC that it fills follows."""
NOT_READY = "conversion-guard.io/not-ready"
"""An annotation that a vendor sets when it creates a PVC, and removes when its copy is whole."""
ENFORCE = "conversion-guard.io/enforce"
"""A namespace's label: deny, warn or audit, the most that is done about a finding there."""

# The same, as a reader of a denial sees them.
VM_ID_FIELD = f"metadata.labels[{VM_ID}]"
VM_UUID_FIELD = f"metadata.labels[{VM_UUID}]"
DISK_SOURCE_FIELD = f"metadata.annotations[{DISK_SOURCE}]"
DISK_SOURCE_LABEL_FIELD = f"metadata.labels[{DISK_SOURCE}]"
THREE_KEYS = frozenset({VM_ID_FIELD, VM_UUID_FIELD, DISK_SOURCE_FIELD})
PVC_FIELDS = THREE_KEYS | {DISK_SOURCE_LABEL_FIELD}
STORAGE_FIELD = "spec.resources.requests.storage"
SOURCE_PROVIDER_FIELD = "spec.provider.source"
DESTINATION_PROVIDER_FIELD = "spec.provider.destination"
MIGRATION_PLAN_FIELD = "spec.plan"
MIGRATION_FIELDS = frozenset({MIGRATION_PLAN_FIELD})
PLAN_TYPE_FIELD = "spec.type"
TARGET_NAMESPACE_FIELD = "spec.targetNamespace"
PLAN_VMS_FIELD = "spec.vms"
STORAGE_MAP_FIELD = "spec.map"
POWER_STATE_FIELD = "spec.targetPowerState"
NETWORK_MAP_FIELD = "spec.map.network"
WARM_FIELD = "spec.warm"
STATIC_IPS_FIELD = "spec.preserveStaticIPs"
VOLUME_MODE_FIELD = "spec.volumeMode"
STORAGE_CLASS_FIELD = "spec.storageClassName"
ACCESS_MODES_FIELD = "spec.accessModes"
CONVERSION_VM_FIELD = "spec.vm"
CONVERSION_DISKS_FIELD = "spec.disks"
CONVERSION_FIELDS = frozenset({"spec.type", CONVERSION_VM_FIELD, CONVERSION_DISKS_FIELD})
PLAN_FIELDS = frozenset(
    {
        PLAN_TYPE_FIELD,
        SOURCE_PROVIDER_FIELD,
        DESTINATION_PROVIDER_FIELD,
        TARGET_NAMESPACE_FIELD,
        PLAN_VMS_FIELD,
        STORAGE_MAP_FIELD,
        NETWORK_MAP_FIELD,
        POWER_STATE_FIELD,
        WARM_FIELD,
        STATIC_IPS_FIELD,
    }
)
PLAN_VM_FIELDS = frozenset(
    {PLAN_TYPE_FIELD, SOURCE_PROVIDER_FIELD, TARGET_NAMESPACE_FIELD, PLAN_VMS_FIELD}
)
"""What a rule reads that judges each entry of spec.vms."""

# pyVmomi writes a managed object reference into its SOAP unescaped: nothing else may pass for one.
MOREF = re.compile(r"[A-Za-z0-9-]{1,63}", re.ASCII)
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)

# Forklift: vsphere/builder.go, backingFilePattern. Unanchored, and the dot is any character.
_SNAPSHOT_SUFFIX = re.compile(r"-\d\d\d\d\d\d.vmdk", re.ASCII)

Action = Literal["deny", "warn", "audit", "off"]
"""What is done about a finding."""
MILDEST_FIRST: tuple[Action, ...] = ("off", "audit", "warn", "deny")

_GO_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)

# Forklift: vsphere/model.go, updateDisks. Any other backing is left out of the VM's disks there.
LISTED_BACKINGS = frozenset({"FlatVer1", "FlatVer2", "RawDiskMappingVer1", "RawDiskVer2"})


def trim_backing_file(file: str) -> str:
    """`[ds] vm/disk-000003.vmdk` -> `[ds] vm/disk.vmdk`, as Forklift does before it compares.

    Source: Forklift's vsphere/utils.go, trimBackingFileName.
    """
    return _SNAPSHOT_SUFFIX.sub(".vmdk", file)


def is_blank(text: str | None) -> bool:
    """Whether Forklift takes `text` for absent: Go's strings.TrimSpace leaves nothing of it.

    Source: Forklift's kubevirt.go, hasDiskIdentity. Python's strip() takes \\x1c to \\x1f besides.
    """
    return text is None or not text.strip(_GO_SPACE)


def quoted(text: object, limit: int = 120) -> str:
    """`text` for a message: in double quotes, printable, and short, whatever somebody wrote there.

    >>> quoted("vm-178")
    '"vm-178"'
    """
    plain = "".join(c if c.isprintable() and c not in '"<>&' else "?" for c in str(text)[:limit])
    return f'"{plain}…"' if len(str(text)) > limit else f'"{plain}"'


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
    def disk_source(self) -> str:
        """What a PVC's disk-source should say.

        It is trimmed, too, before it is compared: of `x-123456-000001.vmdk` only the whole name
        comes out as `x-123456.vmdk` again.
        """
        source = self.source
        return source if trim_backing_file(source) == source else self.file

    @property
    def listed(self) -> bool:
        """Whether Forklift counts this disk at all."""
        return self.backing in LISTED_BACKINGS


class VirtualMachine(
    msgspec.Struct,
    frozen=True,
    rename="camel",
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
):
    """What vSphere says of one VM: the ten fields that any rule needs."""

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
    ip_address: str = ""
    disks: tuple[Disk, ...] = ()

    @property
    def trouble(self) -> str | None:
        """Why nothing can be said of this VM's disks now, or None."""
        if not self.uuid:
            return "has no configuration yet (it is being created, or can't be read)"
        if self.connection_state != "connected":
            return f"is {self.connection_state} in vSphere"
        return None

    def matching(self, source: str) -> tuple[Disk, ...]:
        """The disks that Forklift would match with a PVC's disk-source.

        Source: Forklift's vsphere/builder.go, mapDisks: both sides trimmed, then compared.
        """
        wanted = trim_backing_file(source)
        return tuple(disk for disk in self.disks if disk.listed and disk.source == wanted)

    def proven_by(self, uuid: str) -> bool:
        """Whether `uuid` is one that only somebody who knows this VM can know."""
        if uuid == self.uuid:
            return uuid != ""
        return uuid != "" and uuid.lower() in (self.uuid.lower(), self.instance_uuid.lower())

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


class Provider(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A Forklift Provider, by the name that Plans use (Forklift: provider.go, ProviderSpec)."""

    namespace: str
    name: str
    type: str = "vsphere"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Metadata(TypedDict, total=False):
    """The part of an object's metadata that is looked at; a key's value may be of any type."""

    name: str | None
    generateName: str | None
    namespace: str | None
    labels: dict[str, Any] | None
    annotations: dict[str, Any] | None
    ownerReferences: Any


class KubeObject(TypedDict, total=False):
    """An object under review, as plain as it came: only the declared fields are decoded."""

    apiVersion: str
    kind: str
    metadata: Metadata
    spec: Any
    status: Any


class Pvc(msgspec.Struct, frozen=True):
    """A PersistentVolumeClaim, as far as it concerns a conversion; what is absent is None."""

    vm_id: str | None = None
    vm_uuid: str | None = None
    disk_source: str | None = None
    disk_source_label: str | None = None
    """disk-source put under labels, where nothing looks for it."""
    storage: str | None = None
    """spec.resources.requests.storage, a Kubernetes quantity."""
    volume_mode: str = "Filesystem"
    volume_name: str | None = None
    storage_class: str | None = None
    access_modes: tuple[str, ...] = ()
    namespace: str = ""
    name: str = ""
    """Empty while the API server has not made one of generateName."""
    labels: Mapping[str, Any] = {}
    annotations: Mapping[str, Any] = {}
    owners: frozenset[str] = frozenset()
    """The kinds of its ownerReferences."""

    @classmethod
    def of(cls, obj: KubeObject) -> "Pvc":
        """The claim in `obj`: none where a key isn't a string, for the API server refuses it."""
        metadata = obj.get("metadata") or Metadata()
        labels = metadata.get("labels") or {}
        annotations = metadata.get("annotations") or {}
        spec = _mapping(obj.get("spec"))
        storage = _mapping(_mapping(spec.get("resources")).get("requests")).get("storage")
        keys = (
            labels.get(VM_ID),
            labels.get(VM_UUID),
            annotations.get(DISK_SOURCE),
            labels.get(DISK_SOURCE),
        )
        if not all(key is None or isinstance(key, str) for key in keys):
            return cls()
        volume_mode, volume_name = spec.get("volumeMode"), spec.get("volumeName")
        storage_class, access_modes = spec.get("storageClassName"), spec.get("accessModes")
        owners = metadata.get("ownerReferences")
        return cls(
            *keys,
            storage=None if storage is None else str(storage),
            volume_mode=volume_mode if isinstance(volume_mode, str) else "Filesystem",
            volume_name=volume_name if isinstance(volume_name, str) else None,
            storage_class=storage_class if isinstance(storage_class, str) else None,
            access_modes=tuple(access_modes) if isinstance(access_modes, list) else (),
            namespace=metadata.get("namespace") or "",
            name=metadata.get("name") or "",
            labels=labels,
            annotations=annotations,
            owners=frozenset(str(_mapping(owner).get("kind")) for owner in owners)
            if isinstance(owners, list)
            else frozenset(),
        )

    @property
    def fields(self) -> Mapping[str, str | None]:
        """Each of PVC_FIELDS: what a rule says that it reads."""
        return {
            VM_ID_FIELD: self.vm_id,
            VM_UUID_FIELD: self.vm_uuid,
            DISK_SOURCE_FIELD: self.disk_source,
            DISK_SOURCE_LABEL_FIELD: self.disk_source_label,
        }

    @property
    def of_conversion(self) -> bool:
        """Whether any of the three keys is there."""
        return not (self.vm_id is None and self.vm_uuid is None and self.disk_source is None)


class PlanVm(msgspec.Struct, frozen=True):
    """One entry of spec.vms, and where it stands."""

    index: int
    id: str = ""
    name: str = ""
    root_disk: str = ""
    """rootDisk, such as `/dev/sdb`."""
    judged: bool = True
    """False for an entry that this UPDATE left alone, and for a VM that is already migrated."""

    @property
    def field(self) -> str:
        return f"{PLAN_VMS_FIELD}[{self.index}]"

    @property
    def meant(self) -> tuple[str, str, str]:
        """What two entries must have in common to be the same."""
        return self.id, self.name, self.root_disk


class Plan(msgspec.Struct, frozen=True):
    """A Forklift Plan, as far as it concerns a conversion (Forklift: plan.go, PlanSpec)."""

    type: str = ""
    archived: bool = False
    source: Provider = Provider("", "", "")
    """spec.provider.source; its type isn't in the Plan."""
    destination: Provider = Provider("", "", "")
    """spec.provider.destination, likewise."""
    target_namespace: str = ""
    namespace: str = ""
    name: str = ""
    warm: bool = False
    preserves_ips: bool = True
    """spec.preserveStaticIPs, which is true where it isn't given."""
    has_network_map: bool = False
    vms: tuple[PlanVm, ...] = ()
    succeeded: frozenset[str] = frozenset()
    """The morefs whose migration is done: status.migration.vms[] with condition Succeeded."""
    executing: bool = False
    """status.conditions[] has Executing: what its VMs lack now, they lack when it counts."""
    spec: Mapping[str, Any] = {}
    """The spec as it came, for the defaults: they repair what has the wrong type."""

    @classmethod
    def of(cls, obj: KubeObject) -> "Plan":
        """The Plan in `obj`. Raises ObjectMalformed where a needed field has another type."""
        spec = _mapping(obj.get("spec"), "spec")
        provider = _mapping(spec.get("provider"), "spec.provider")
        source = _mapping(provider.get("source"), SOURCE_PROVIDER_FIELD)
        destination = _mapping(provider.get("destination"), DESTINATION_PROVIDER_FIELD)
        metadata = obj.get("metadata") or Metadata()
        return cls(
            type=_text(spec.get("type"), "spec.type") or "",
            archived=spec.get("archived") is True,
            source=_reference(source, SOURCE_PROVIDER_FIELD),
            destination=_reference(destination, DESTINATION_PROVIDER_FIELD),
            target_namespace=_text(spec.get("targetNamespace"), "spec.targetNamespace") or "",
            namespace=metadata.get("namespace") or "",
            name=metadata.get("name") or "",
            warm=spec.get("warm") is True,
            preserves_ips=spec.get("preserveStaticIPs") is not False,
            has_network_map=bool(_mapping(_mapping(spec.get("map")).get("network")).get("name")),
            vms=tuple(
                _plan_vm(index, entry) for index, entry in enumerate(_list(spec, PLAN_VMS_FIELD))
            ),
            succeeded=frozenset(_succeeded(obj.get("status"))),
            executing=_has(_mapping(obj.get("status")), "Executing"),
            spec=spec,
        )

    @property
    def fields(self) -> Mapping[str, Any]:
        """Each of PLAN_FIELDS: what a rule says that it reads."""
        return {
            PLAN_TYPE_FIELD: self.type,
            SOURCE_PROVIDER_FIELD: self.source,
            DESTINATION_PROVIDER_FIELD: self.destination,
            TARGET_NAMESPACE_FIELD: self.target_namespace,
            PLAN_VMS_FIELD: self.spec.get("vms"),
            STORAGE_MAP_FIELD: self.spec.get("map"),
            NETWORK_MAP_FIELD: self.has_network_map,
            POWER_STATE_FIELD: self.spec.get("targetPowerState"),
            WARM_FIELD: self.warm,
            STATIC_IPS_FIELD: self.preserves_ips,
        }


class Migration(msgspec.Struct, frozen=True):
    """A Forklift Migration: the start of its Plan (Forklift: migration.go, MigrationSpec)."""

    plan: Provider = Provider("", "", "")
    """spec.plan, a namespace and a name."""
    resumes: bool = False
    """spec.resumeConversion: disks are in place, and Forklift checks them itself."""

    @classmethod
    def of(cls, obj: KubeObject) -> "Migration":
        """The Migration in `obj`. Raises ObjectMalformed where a needed field has another type."""
        spec = _mapping(obj.get("spec"), "spec")
        plan = _reference(_mapping(spec.get("plan"), MIGRATION_PLAN_FIELD), MIGRATION_PLAN_FIELD)
        if not plan.namespace:
            own = (obj.get("metadata") or Metadata()).get("namespace") or ""
            plan = msgspec.structs.replace(plan, namespace=own)
        return cls(plan, spec.get("resumeConversion") is True)

    @property
    def fields(self) -> Mapping[str, Any]:
        """Each of MIGRATION_FIELDS: what a rule says that it reads."""
        return {MIGRATION_PLAN_FIELD: self.plan}


class ConversionDisk(msgspec.Struct, frozen=True):
    """One entry of a Conversion's spec.disks: a PVC."""

    index: int
    namespace: str
    name: str

    @property
    def field(self) -> str:
        return f"{CONVERSION_DISKS_FIELD}[{self.index}]"


class Conversion(msgspec.Struct, frozen=True):
    """A Forklift Conversion: one VM's conversion pod (Forklift: conversion.go, ConversionSpec)."""

    type: str = ""
    vm_id: str = ""
    """spec.vm.id. It names no provider: the VM is known by what its PVCs say."""
    namespace: str = ""
    """spec.targetNamespace, else its own."""
    disks: tuple[ConversionDisk, ...] = ()

    @classmethod
    def of(cls, obj: KubeObject) -> "Conversion":
        """The Conversion in `obj`. Raises ObjectMalformed where a needed field has another type."""
        spec = _mapping(obj.get("spec"), "spec")
        own = (obj.get("metadata") or Metadata()).get("namespace") or ""
        namespace = _text(spec.get("targetNamespace"), TARGET_NAMESPACE_FIELD) or own
        disks = []
        for index, entry in enumerate(_list(spec, CONVERSION_DISKS_FIELD)):
            field = f"{CONVERSION_DISKS_FIELD}[{index}]"
            disk = _mapping(entry, field)
            place = _text(disk.get("namespace"), f"{field}.namespace") or namespace
            name = _text(disk.get("name"), f"{field}.name") or ""
            disks.append(ConversionDisk(index, place, name))
        return cls(
            type=_text(spec.get("type"), "spec.type") or "",
            vm_id=_text(_mapping(spec.get("vm"), CONVERSION_VM_FIELD).get("id"), "spec.vm.id")
            or "",
            namespace=namespace,
            disks=tuple(disks),
        )

    @property
    def fields(self) -> Mapping[str, Any]:
        """Each of CONVERSION_FIELDS: what a rule says that it reads."""
        return {
            "spec.type": self.type,
            CONVERSION_VM_FIELD: self.vm_id,
            CONVERSION_DISKS_FIELD: self.disks,
        }


def _reference(value: Mapping[str, Any], field: str) -> Provider:
    namespace = _text(value.get("namespace"), f"{field}.namespace") or ""
    return Provider(namespace, _text(value.get("name"), f"{field}.name") or "", "")


def _plan_vm(index: int, entry: object) -> PlanVm:
    field = f"{PLAN_VMS_FIELD}[{index}]"
    vm = _mapping(entry, field)
    return PlanVm(
        index,
        _text(vm.get("id"), f"{field}.id") or "",
        _text(vm.get("name"), f"{field}.name") or "",
        _text(vm.get("rootDisk"), f"{field}.rootDisk") or "",
    )


def _succeeded(status: object) -> list[str]:
    # The status is Forklift's own and lenient reading is right: it only ever spares an entry.
    done = []
    vms = _mapping(_mapping(status).get("migration")).get("vms")
    for vm in map(_mapping, vms if isinstance(vms, list) else ()):
        if _has(vm, "Succeeded"):
            done.append(str(vm.get("id")))
    return done


def _has(status: Mapping[str, Any], kind: str) -> bool:
    conditions = status.get("conditions")
    return any(
        condition.get("type") == kind and condition.get("status") == "True"
        for condition in map(_mapping, conditions if isinstance(conditions, list) else ())
    )


def _mapping(value: object, field: str | None = None) -> Mapping[str, Any]:
    """`value` if it is an object; else an empty one, or ObjectMalformed where `field` is given."""
    if isinstance(value, dict):
        return value
    if value is not None and field is not None:
        raise ObjectMalformed(field, f"must be an object, not {_kind(value)}")
    return {}


def _list(spec: Mapping[str, Any], field: str) -> list[Any]:
    value = spec.get(field.rpartition(".")[2])
    if value is not None and not isinstance(value, list):
        raise ObjectMalformed(field, f"must be a list, not {_kind(value)}")
    return value or []


def _text(value: object, field: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ObjectMalformed(field, f"must be a string, not {_kind(value)}: write it in quotes")
    return value


def _kind(value: object) -> str:
    match value:
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return f"the string {quoted(value)}"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "null"
