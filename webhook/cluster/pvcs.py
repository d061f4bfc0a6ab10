"""PVCs that carry both of Forklift's labels, followed in all namespaces as slim records."""

import sys

import msgspec

from webhook.claims import Claim, Claims
from webhook.cluster.client import Cluster
from webhook.cluster.reflector import Reflector
from webhook.model import DISK_SOURCE, VM_ID, VM_UUID, trim_backing_file


class _Labels(msgspec.Struct):
    vm_id: str = msgspec.field(default="", name=VM_ID)
    vm_uuid: str = msgspec.field(default="", name=VM_UUID)


class _Annotations(msgspec.Struct):
    disk_source: str = msgspec.field(default="", name=DISK_SOURCE)


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    labels: _Labels = msgspec.field(default_factory=_Labels)
    annotations: _Annotations = msgspec.field(default_factory=_Annotations)
    deletion_timestamp: str | None = None


class _Pvc(msgspec.Struct):
    metadata: _Metadata


_pvc = msgspec.json.Decoder(_Pvc)


def decode(raw: bytes | msgspec.Raw) -> tuple[str, Claim]:
    """`namespace/name` and what is kept of a PVC's JSON. Raises msgspec.DecodeError."""
    metadata = _pvc.decode(raw).metadata
    claim = Claim(
        # Thousands of PVCs share a namespace, and a VM's PVCs its moref and uuid.
        namespace=sys.intern(metadata.namespace),
        name=metadata.name,
        vm_id=sys.intern(metadata.labels.vm_id),
        vm_uuid=sys.intern(metadata.labels.vm_uuid),
        disk_source=trim_backing_file(metadata.annotations.disk_source),
        terminating=metadata.deletion_timestamp is not None,
    )
    return f"{claim.namespace}/{claim.name}", claim


def pvcs(cluster: Cluster, claims: Claims) -> Reflector[Claim]:
    """A reflector that keeps `claims`; run it."""
    path = "/api/v1/persistentvolumeclaims"
    return Reflector(cluster, path, decode, claims, labelSelector=f"{VM_ID},{VM_UUID}")
