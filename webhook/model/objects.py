"""What Kubernetes says: PVCs, storage classes, users, references to Providers."""

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

import msgspec

from webhook.model.keys import (
    DISK_SOURCE,
    DISK_SOURCE_FIELD,
    DISK_SOURCE_LABEL_FIELD,
    PRIME,
    VM_ID,
    VM_ID_FIELD,
    VM_UUID,
    VM_UUID_FIELD,
    echoed,
    is_blank,
)
from webhook.model.shape import mapping
from webhook.model.vms import trim_backing_file


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
    generation: Any


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
        spec = mapping(obj.get("spec"))
        storage = mapping(mapping(spec.get("resources")).get("requests")).get("storage")
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
            owners=frozenset(str(mapping(owner).get("kind")) for owner in owners)
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


PROVIDERS = "providers.forklift.konveyor.io"
"""As ClusterReader.may has it."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a PVC that carries vmID and vmUUID: some 500 bytes."""

    namespace: str
    name: str
    vm_id: str
    vm_uuid: str
    disk_source: str = ""
    """As it is written; empty where there is none."""
    phase: str = ""
    """status.phase: Pending, Bound or Lost."""
    capacity: str = ""
    """status.capacity.storage, else what is requested: a Kubernetes quantity."""
    volume_mode: str = "Filesystem"
    storage_class: str = ""
    one_pod: bool = False
    """Its access mode is ReadWriteOncePod."""
    not_ready: str | None = None
    """The vendor's reason why its copy isn't whole; None where it is."""
    populated: bool = False
    """It has a dataSource or dataSourceRef: a populator may fill it when its first pod comes."""
    terminating: bool = False
    read_only: bool = False
    """ReadOnlyMany is its only access mode: a conversion writes."""
    owned: bool = False
    """A VirtualMachine owns it: its conversion is over."""
    in_sync: bool = False
    """The vendor says that it follows its disk until the VM is off."""
    shareable: bool = False
    """It has Forklift's label for the PVC of a shared disk."""

    @property
    def matchable(self) -> bool:
        """Whether Forklift looks at its disk-source at all; it counts the PVC in any case.

        Source: Forklift's kubevirt.go, listDiskPVCsByUUID and hasDiskIdentity.
        """
        return not self.name.startswith(PRIME) and not is_blank(self.disk_source)

    @property
    def pending(self) -> bool:
        """Whether a volume may still come. Of one that is Lost it is gone."""
        return self.phase in ("", "Pending")

    @property
    def exclusive(self) -> bool:
        """Whether a second writer damages it, or waits for ever."""
        return self.volume_mode == "Block" or self.one_pod

    @property
    def source(self) -> str:
        """The disk-source as Forklift compares it."""
        return trim_backing_file(self.disk_source)

    @property
    def vm(self) -> tuple[str, str, str]:
        """What the PVCs of one VM have in common."""
        return self.namespace, self.vm_id, self.vm_uuid


def follows(in_sync: object) -> bool:
    """Whether the annotation conversion-guard.io/in-sync says that a PVC follows its disk."""
    return isinstance(in_sync, str) and in_sync.lower() not in ("", "false")


def released(namespace: str, name: str) -> str:
    """The command that takes a PVC out of its VM's disk set."""
    return f"kubectl label pvc {name} -n {namespace} {VM_ID}- {VM_UUID}-"


class StorageClass(msgspec.Struct, frozen=True):
    """What is kept of a storage class."""

    name: str
    default: bool = False
    waits: bool = False
    """volumeBindingMode is WaitForFirstConsumer: a PVC stays unbound until a pod comes."""


Standing = Literal["there", "ending", "absent", "unknown"]
"""How something stands that is named. `ending`: it is being deleted. `unknown`: the guard may not
look."""


def to_follow(named: Provider) -> str:
    """What to do about a Provider in a namespace whose Providers the guard may not list."""
    place = echoed(named.namespace)
    return (
        f"correct it, or ask the operator of conversion-guard to add {place} to providerNamespaces"
    )


def untold(destination: Provider) -> str:
    """What there is to say where nobody knows whether this is another cluster."""
    there = f"provider {echoed(destination)} is not known, and may be another cluster"
    return f"{there}: try again, {to_follow(destination)}"


class Surroundings(msgspec.Struct, frozen=True):
    """What else is in a namespace and counts for a pod there; without what may not be listed."""

    quotas: tuple[KubeObject, ...] = ()
    limits: tuple[KubeObject, ...] = ()
    policies: tuple[KubeObject, ...] = ()


class User(msgspec.Struct, frozen=True):
    """Who sent a request, as its userInfo says."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = {}
    proven: bool = False
    """Whether the API server said so, which showed its certificate: userInfo is text in a POST that
    anybody could send."""
