"""Objects as they stand on the cluster, read whole: a kind page by page, or one by its name."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import msgspec

from webhook.cluster.client import Cluster, decoded
from webhook.cluster.paths import FORKLIFT, ApiPath
from webhook.errors import ClusterUnreachable, NameInvalid
from webhook.model.keys import VM_ID, VM_UUID
from webhook.model.objects import KubeObject


class FoundObject(msgspec.Struct, frozen=True):
    """One object, and what no review keeps of it."""

    kind: str
    namespace: str
    name: str
    uid: str
    object: KubeObject
    leaving: bool = False
    """It has a deletionTimestamp."""


class _Meta(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    uid: str = ""
    deletion_timestamp: str | None = None


class _Any(msgspec.Struct):
    metadata: _Meta


class Waiting(msgspec.Struct, frozen=True):
    """A pod that is Pending."""

    name: str
    created: datetime
    claims: frozenset[str]
    """The PVCs that it mounts, of its own namespace."""
    why: str = ""
    """Why it isn't scheduled, in the scheduler's words."""


class _ClaimName(msgspec.Struct, rename="camel"):
    claim_name: str = ""


class _Volume(msgspec.Struct, rename="camel"):
    persistent_volume_claim: _ClaimName | None = None


class _PodSpec(msgspec.Struct):
    volumes: tuple[_Volume, ...] = ()


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""
    message: str = ""


class _PodStatus(msgspec.Struct):
    conditions: tuple[_Condition, ...] = ()


class _PodMeta(msgspec.Struct, rename="camel"):
    name: str
    creation_timestamp: datetime


class _Pod(msgspec.Struct):
    metadata: _PodMeta
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)


class _Pods(msgspec.Struct):
    items: list[_Pod] = []


class _List(msgspec.Struct):
    items: list[msgspec.Raw] = []


_any = msgspec.json.Decoder(_Any)
_object = msgspec.json.Decoder(KubeObject)
_pods = msgspec.json.Decoder(_Pods)
_list = msgspec.json.Decoder(_List)

SOME = 64
"""Objects that are judged together."""
_BREATH = 8
"""Objects that are decoded in one go: others on the same event loop wait for no more."""
_KINDS = {
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims", f"{VM_ID},{VM_UUID}"),
    "Plan": (FORKLIFT, "plans", ""),
    "Migration": (FORKLIFT, "migrations", ""),
}
"""Version, resource, and the labels without which it is nobody's concern here."""


async def everything(cluster: Cluster, kind: str) -> AsyncIterator[list[FoundObject]]:
    """All of `kind` in the cluster, some at a time. Raises ClusterUnreachable."""
    version, plural, labels = _KINDS[kind]
    query = {"labelSelector": labels} if labels else {}
    async for page in cluster.pages(ApiPath(version, plural), **query):
        for at in range(0, len(page.items), SOME):
            some = []
            for raw in page.items[at : at + SOME]:
                some.append(decoded_as(kind, raw))
                if len(some) % _BREATH == 0:
                    await asyncio.sleep(0)
            yield some


async def one(cluster: Cluster, kind: str, namespace: str, name: str) -> FoundObject | None:
    """The object of that name; None where there is none. Raises ClusterUnreachable.

    Listed, not got: whoever follows a kind may list it already.
    """
    version, plural, labels = _KINDS[kind]
    query = {"fieldSelector": f"metadata.name={name}"}
    if labels:
        query["labelSelector"] = labels
    try:
        path = ApiPath(version, plural, namespace=namespace)
    except NameInvalid:
        return None
    found = decoded(_list, await cluster.get(path, **query)).items
    return decoded_as(kind, found[0]) if found else None


async def waiting(cluster: Cluster, namespace: str) -> tuple[Waiting, ...]:
    """The pods of a namespace that are Pending. Raises ClusterUnreachable, NameInvalid."""
    path = ApiPath("v1", "pods", namespace=namespace)
    raw = await cluster.get(path, fieldSelector="status.phase=Pending")
    return tuple(map(_waiting, decoded(_pods, raw).items))


def _waiting(pod: _Pod) -> Waiting:
    volumes = (volume.persistent_volume_claim for volume in pod.spec.volumes)
    said = (one for one in pod.status.conditions if one.type == "PodScheduled")
    return Waiting(
        pod.metadata.name,
        pod.metadata.creation_timestamp,
        frozenset(volume.claim_name for volume in volumes if volume is not None),
        next((one.message for one in said if one.status == "False"), ""),
    )


def decoded_as(kind: str, raw: msgspec.Raw) -> FoundObject:
    """An object's JSON, as a list has it. Raises ClusterUnreachable."""
    metadata = decoded(_any, raw).metadata
    try:
        obj = decoded(_object, raw)
    except ClusterUnreachable:  # of a shape that no rule reads: whoever applies it is told
        obj = KubeObject(metadata={"name": metadata.name, "namespace": metadata.namespace})
    obj["apiVersion"], obj["kind"] = _KINDS[kind][0], kind  # a list's items don't say what they are
    leaving = metadata.deletion_timestamp is not None
    return FoundObject(kind, metadata.namespace, metadata.name, metadata.uid, obj, leaving)
