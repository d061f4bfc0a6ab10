"""What is kept of PVCs, storage classes, namespaces and Plans, and the reflectors that keep it."""

import sys
from typing import Any, TypedDict, cast

import msgspec

from webhook.cluster.client import Cluster, decoded
from webhook.cluster.paths import FORKLIFT, ApiPath
from webhook.cluster.reflector import Reflector
from webhook.errors import ClusterUnreachable
from webhook.inventory.cluster import Followed, Table
from webhook.model.forklift import ARCHIVED, KeptPlan
from webhook.model.keys import (
    DISK_SOURCE,
    ENFORCE,
    IN_SYNC,
    NOT_READY,
    SHAREABLE,
    VM_ID,
    VM_UUID,
)
from webhook.model.objects import Claim, KubeObject, StorageClass, follows

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


class _Labels(msgspec.Struct):
    vm_id: str = msgspec.field(default="", name=VM_ID)
    vm_uuid: str = msgspec.field(default="", name=VM_UUID)
    shareable: str = msgspec.field(default="", name=SHAREABLE)


class _Annotations(msgspec.Struct):
    disk_source: str = msgspec.field(default="", name=DISK_SOURCE)
    not_ready: str | None = msgspec.field(default=None, name=NOT_READY)
    in_sync: str = msgspec.field(default="", name=IN_SYNC)


class _Owner(msgspec.Struct):
    kind: str = ""


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    labels: _Labels = msgspec.field(default_factory=_Labels)
    annotations: _Annotations = msgspec.field(default_factory=_Annotations)
    deletion_timestamp: str | None = None
    owner_references: tuple[_Owner, ...] = ()


class _Storage(msgspec.Struct):
    storage: str = ""


class _Resources(msgspec.Struct):
    requests: _Storage = msgspec.field(default_factory=_Storage)


class _Spec(msgspec.Struct, rename="camel"):
    resources: _Resources = msgspec.field(default_factory=_Resources)
    access_modes: tuple[str, ...] = ()
    volume_mode: str = "Filesystem"
    storage_class_name: str = ""
    data_source: Any = None
    data_source_ref: Any = None


class _Status(msgspec.Struct):
    phase: str = ""
    capacity: _Storage = msgspec.field(default_factory=_Storage)


class _Pvc(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class _Plain(msgspec.Struct):
    name: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _StorageClass(msgspec.Struct, rename="camel"):
    metadata: _Plain
    volume_binding_mode: str = ""


class _Namespace(msgspec.Struct):
    metadata: _Plain


class _ObjectReference(msgspec.Struct):
    namespace: str = ""
    name: str = ""


class _PlanVm(TypedDict, total=False):
    id: Any
    name: Any
    completed: Any
    conditions: Any


class _PlanSpec(msgspec.Struct):
    type: str = ""
    archived: bool = False


class _Plan(msgspec.Struct):
    metadata: _Metadata
    spec: _PlanSpec = msgspec.field(default_factory=_PlanSpec)


class _LeanSpec(TypedDict, total=False):
    targetNamespace: Any
    provider: Any
    vms: list[_PlanVm] | None


class _LeanMigration(TypedDict, total=False):
    vms: list[_PlanVm] | None


class _LeanStatus(TypedDict, total=False):
    conditions: Any
    migration: _LeanMigration | None


class _LeanPlan(TypedDict, total=False):
    """Without nearly all that Forklift tells of each VM."""

    spec: _LeanSpec | None
    status: _LeanStatus | None


class _MigrationSpec(msgspec.Struct):
    plan: _ObjectReference = msgspec.field(default_factory=_ObjectReference)


class _MigrationStatus(msgspec.Struct):
    completed: str | None = None


class _Migration(msgspec.Struct):
    metadata: _Metadata
    spec: _MigrationSpec = msgspec.field(default_factory=_MigrationSpec)
    status: _MigrationStatus = msgspec.field(default_factory=_MigrationStatus)


_pvc = msgspec.json.Decoder(_Pvc)
_migration = msgspec.json.Decoder(_Migration)
_storage_class = msgspec.json.Decoder(_StorageClass)
_namespace = msgspec.json.Decoder(_Namespace)
_plan = msgspec.json.Decoder(_Plan)
_lean_plan = msgspec.json.Decoder(_LeanPlan)


def claim(raw: bytes | msgspec.Raw) -> tuple[str, Claim]:
    """`namespace/name` and what is kept of a PVC's JSON. Raises ClusterUnreachable."""
    pvc = decoded(_pvc, raw)
    metadata, spec, status = pvc.metadata, pvc.spec, pvc.status
    kept = Claim(
        # Thousands of PVCs share a namespace, and a VM's PVCs its moref and uuid.
        namespace=sys.intern(metadata.namespace),
        name=metadata.name,
        vm_id=sys.intern(metadata.labels.vm_id),
        vm_uuid=sys.intern(metadata.labels.vm_uuid),
        disk_source=metadata.annotations.disk_source,
        phase=sys.intern(status.phase),
        capacity=sys.intern(status.capacity.storage or spec.resources.requests.storage),
        volume_mode=sys.intern(spec.volume_mode),
        storage_class=sys.intern(spec.storage_class_name),
        one_pod="ReadWriteOncePod" in spec.access_modes,
        not_ready=metadata.annotations.not_ready,
        populated=spec.data_source is not None or spec.data_source_ref is not None,
        terminating=metadata.deletion_timestamp is not None,
        read_only=spec.access_modes == ("ReadOnlyMany",),
        owned=any(owner.kind == "VirtualMachine" for owner in metadata.owner_references),
        in_sync=follows(metadata.annotations.in_sync),
        shareable=metadata.labels.shareable == "true",
    )
    return f"{kept.namespace}/{kept.name}", kept


def storage_class(raw: bytes | msgspec.Raw) -> tuple[str, StorageClass]:
    """The name, and what is kept of a storage class's JSON. Raises ClusterUnreachable."""
    found = decoded(_storage_class, raw)
    return found.metadata.name, StorageClass(
        found.metadata.name,
        default=found.metadata.annotations.get(_DEFAULT_CLASS) == "true",
        waits=found.volume_binding_mode == "WaitForFirstConsumer",
    )


def enforced(raw: bytes | msgspec.Raw) -> tuple[str, str]:
    """A namespace's name, and its label conversion-guard.io/enforce. Raises ClusterUnreachable."""
    metadata = decoded(_namespace, raw).metadata
    return metadata.name, metadata.labels.get(ENFORCE, "")


def kept_plan(raw: bytes | msgspec.Raw) -> tuple[str, KeptPlan]:
    """`namespace/name` and what is kept of a Plan's JSON. Raises ClusterUnreachable."""
    found = decoded(_plan, raw)
    key = f"{found.metadata.namespace}/{found.metadata.name}"
    if found.spec.archived:
        return key, KeptPlan(ARCHIVED)
    if found.spec.type != "conversion":
        return key, KeptPlan(sys.intern(found.spec.type))
    try:
        return key, KeptPlan.of(cast(KubeObject, decoded(_lean_plan, raw)))
    except ClusterUnreachable:
        return key, KeptPlan("conversion")  # Forklift can't read it either


def migration_plan(raw: bytes | msgspec.Raw) -> tuple[str, str]:
    """`namespace/name` of a Migration's JSON, and of the Plan that it starts; empty where it has
    ended. Raises ClusterUnreachable."""
    found = decoded(_migration, raw)
    metadata, plan = found.metadata, found.spec.plan
    started = f"{plan.namespace or metadata.namespace}/{plan.name}"
    return f"{metadata.namespace}/{metadata.name}", "" if found.status.completed else started


PVCS = ApiPath("v1", "persistentvolumeclaims")
CLASSES = ApiPath("storage.k8s.io/v1", "storageclasses")
NAMESPACES = ApiPath("v1", "namespaces")


def reflectors(cluster: Cluster, followed: Followed) -> tuple[Reflector[Any], ...]:
    """What keeps `followed`; run each."""
    labels = f"{VM_ID},{VM_UUID}"
    return (
        Reflector(cluster, PVCS, claim, followed.claims, labelSelector=labels),
        Reflector(cluster, CLASSES, storage_class, followed.classes),
        Reflector(cluster, NAMESPACES, enforced, followed.enforced, labelSelector=ENFORCE),
        Reflector(cluster, ApiPath(FORKLIFT, "plans"), kept_plan, followed.plans, optional=True),
    )


def migrations(cluster: Cluster, kept: Table[str]) -> Reflector[str]:
    """What keeps every Migration in `kept`: see `migration_plan`."""
    return Reflector(cluster, ApiPath(FORKLIFT, "migrations"), migration_plan, kept)
