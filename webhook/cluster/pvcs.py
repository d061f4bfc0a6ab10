"""PVCs that carry both of Forklift's labels, followed or asked for now; and Plans."""

import sys
from typing import Any
from urllib.parse import quote

import msgspec

from webhook.claims import Claim, Claims
from webhook.cluster.client import Cluster, ClusterMissing
from webhook.cluster.reflector import Reflector
from webhook.errors import ClusterUnreachable
from webhook.model import DISK_SOURCE, NOT_READY, VM_ID, VM_UUID, KubeObject


class _Labels(msgspec.Struct):
    vm_id: str = msgspec.field(default="", name=VM_ID)
    vm_uuid: str = msgspec.field(default="", name=VM_UUID)


class _Annotations(msgspec.Struct):
    disk_source: str = msgspec.field(default="", name=DISK_SOURCE)
    not_ready: str | None = msgspec.field(default=None, name=NOT_READY)


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    labels: _Labels = msgspec.field(default_factory=_Labels)
    annotations: _Annotations = msgspec.field(default_factory=_Annotations)
    deletion_timestamp: str | None = None


class _Storage(msgspec.Struct):
    storage: str = ""


class _Resources(msgspec.Struct):
    requests: _Storage = msgspec.field(default_factory=_Storage)


class _Spec(msgspec.Struct, rename="camel"):
    resources: _Resources = msgspec.field(default_factory=_Resources)
    data_source: Any = None
    data_source_ref: Any = None


class _Status(msgspec.Struct):
    phase: str = ""
    capacity: _Storage = msgspec.field(default_factory=_Storage)


class _Pvc(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


_pvc = msgspec.json.Decoder(_Pvc)


def decode(raw: bytes | msgspec.Raw) -> tuple[str, Claim]:
    """`namespace/name` and what is kept of a PVC's JSON. Raises msgspec.DecodeError."""
    pvc = _pvc.decode(raw)
    metadata, spec, status = pvc.metadata, pvc.spec, pvc.status
    claim = Claim(
        # Thousands of PVCs share a namespace, and a VM's PVCs its moref and uuid.
        namespace=sys.intern(metadata.namespace),
        name=metadata.name,
        vm_id=sys.intern(metadata.labels.vm_id),
        vm_uuid=sys.intern(metadata.labels.vm_uuid),
        disk_source=metadata.annotations.disk_source,
        phase=sys.intern(status.phase),
        capacity=sys.intern(status.capacity.storage or spec.resources.requests.storage),
        not_ready=metadata.annotations.not_ready,
        populated=spec.data_source is not None or spec.data_source_ref is not None,
        terminating=metadata.deletion_timestamp is not None,
    )
    return f"{claim.namespace}/{claim.name}", claim


class LiveReader:
    """A webhook.claims.ClusterReader. Without `cluster` it can't be asked yet."""

    def __init__(self) -> None:
        self.cluster: Cluster | None = None

    async def claims(self, namespace: str) -> tuple[Claim, ...]:
        """See ClusterReader. In one piece, and from the API server itself, not from its cache."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/persistentvolumeclaims"
        raw = await self._asked().get(path, labelSelector=f"{VM_ID},{VM_UUID}")
        return tuple(decode(item)[1] for item in _list.decode(raw).items)

    async def plan(self, namespace: str, name: str) -> KubeObject | None:
        """See ClusterReader."""
        place = f"namespaces/{quote(namespace, safe='')}/plans/{quote(name, safe='')}"
        try:
            raw = await self._asked().get(f"/apis/forklift.konveyor.io/v1beta1/{place}")
        except ClusterMissing:
            return None
        return _plan.decode(raw)

    def _asked(self) -> Cluster:
        if self.cluster is None:
            raise ClusterUnreachable("the cluster has not been reached yet")
        return self.cluster


class _List(msgspec.Struct):
    items: list[msgspec.Raw] = []


_list = msgspec.json.Decoder(_List)
_plan = msgspec.json.Decoder(KubeObject)


def pvcs(cluster: Cluster, claims: Claims) -> Reflector[Claim]:
    """A reflector that keeps `claims`; run it."""
    path = "/api/v1/persistentvolumeclaims"
    return Reflector(cluster, path, decode, claims, labelSelector=f"{VM_ID},{VM_UUID}")
