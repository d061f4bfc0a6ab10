"""Questions to the API server whose answers must be current."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from cachetools import TTLCache

from webhook.cluster.client import Cluster, decoded
from webhook.cluster.errors import ClusterForbidden, ClusterMissing
from webhook.cluster.objects import claim, migration_plan
from webhook.cluster.paths import FORKLIFT, ApiPath, labelled
from webhook.errors import ClusterUnreachable, NameInvalid
from webhook.inventory.cluster import Referent
from webhook.model.keys import VM_ID, VM_UUID
from webhook.model.objects import Claim, KubeObject, Standing, Surroundings, User
from webhook.shared import once

_ACCESS_SECONDS = 10.0
_ACCESS_PATIENCE = 1.0  # seconds: who isn't known by then isn't trusted
_ACCESSES = 2_000  # of 1.5 KiB each: what more than 200 new callers a second ask is asked again
_AUTHENTICATION = "authentication.k8s.io/v1"
_NETWORKING = "networking.k8s.io/v1"
_AUTHORIZATION = "authorization.k8s.io/v1"


_REFERENTS: Mapping[Referent, str] = {
    "namespaces": "v1",
    "secrets": "v1",
    # As Forklift asks for them.
    "virtualmachineinstancetypes": "instancetype.kubevirt.io/v1beta1",
    "virtualmachineclusterinstancetypes": "instancetype.kubevirt.io/v1beta1",
}
_WITHOUT_NAMESPACE = frozenset({"namespaces", "virtualmachineclusterinstancetypes"})

_log = logging.getLogger("webhook.cluster")


class _List(msgspec.Struct):
    items: list[msgspec.Raw] = []


class _Objects(msgspec.Struct):
    items: tuple[KubeObject, ...] = ()


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    deletion_timestamp: str | None = None


class _Named(msgspec.Struct):
    metadata: _Meta


class _ClaimReference(msgspec.Struct, rename="camel"):
    claim_name: str = ""


class _Volume(msgspec.Struct, rename="camel"):
    persistent_volume_claim: _ClaimReference | None = None


class _PodSpec(msgspec.Struct):
    volumes: tuple[_Volume, ...] = ()


class _Pod(msgspec.Struct):
    metadata: _Meta
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)


class _Pods(msgspec.Struct):
    items: list[_Pod] = []


class _Allowed(msgspec.Struct):
    allowed: bool = False


class _AccessReview(msgspec.Struct):
    status: _Allowed = msgspec.field(default_factory=_Allowed)


class _UserInfo(msgspec.Struct):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class _Authenticated(msgspec.Struct):
    authenticated: bool = False
    audiences: tuple[str, ...] = ()
    user: _UserInfo = msgspec.field(default_factory=_UserInfo)


class _TokenReview(msgspec.Struct):
    status: _Authenticated = msgspec.field(default_factory=_Authenticated)


_list = msgspec.json.Decoder(_List)
_objects = msgspec.json.Decoder(_Objects)
_object = msgspec.json.Decoder(KubeObject)
_named = msgspec.json.Decoder(_Named)
_pods = msgspec.json.Decoder(_Pods)
_access = msgspec.json.Decoder(_AccessReview)
_token = msgspec.json.Decoder(_TokenReview)

_Access = tuple[User, str, str, str, str]


class LiveReader:
    """A ClusterReader and TokenReader. Without `cluster` it can't be asked yet."""

    def __init__(
        self, why: Callable[[], str] = lambda: "the cluster has not been read yet"
    ) -> None:
        """`why` tells why it can't be asked, until then."""
        self.cluster: Cluster | None = None
        self._why = why
        self._unseen: set[tuple[Referent, str]] = set()
        """What the guard may not look at, and has said so: by kind and namespace."""
        self._accesses: TTLCache[bytes, asyncio.Future[bool]] = TTLCache(_ACCESSES, _ACCESS_SECONDS)

    async def claims(self, namespace: str) -> tuple[Claim, ...]:
        """See ClusterReader. In one piece, and from the API server itself, not from its cache."""
        return await self._claims(namespace, f"{VM_ID},{VM_UUID}")

    async def siblings(self, namespace: str, vm_id: str, vm_uuid: str) -> tuple[Claim, ...]:
        """See ClusterReader."""
        selector = labelled(**{VM_ID: vm_id, VM_UUID: vm_uuid})
        return await self._claims(namespace, selector) if selector else ()

    async def plan(self, namespace: str, name: str) -> KubeObject | None:
        """See ClusterReader."""
        try:
            path = ApiPath(FORKLIFT, "plans", namespace=namespace, name=name)
            return decoded(_object, await self._asked().get(path))
        except (ClusterMissing, NameInvalid):
            return None

    async def provider(self, namespace: str, name: str) -> Standing:
        """See ClusterReader. The guard may only list Providers, and in some namespaces."""
        try:
            ApiPath(FORKLIFT, "providers", namespace=namespace, name=name)  # no other has a comma
            path = ApiPath(FORKLIFT, "providers", namespace=namespace)
            raw = await self._asked().get(path, fieldSelector=f"metadata.name={name}")
            return "there" if decoded(_list, raw).items else "absent"
        except (ClusterMissing, NameInvalid):
            return "absent"
        except ClusterForbidden:
            return "unknown"

    async def started(self) -> frozenset[str]:
        """See ClusterReader. A Migration may be in another namespace than its Plan."""
        raw = await self._asked().get(ApiPath(FORKLIFT, "migrations"))
        plans = (migration_plan(item)[1] for item in decoded(_list, raw).items)
        return frozenset(plan for plan in plans if plan)

    async def standing(self, kind: Referent, namespace: str, name: str) -> Standing:
        """See ClusterReader. Only the metadata comes: never what a Secret holds."""
        try:
            place = None if kind in _WITHOUT_NAMESPACE else namespace
            path = ApiPath(_REFERENTS[kind], kind, namespace=place, name=name)
            found = decoded(_named, await self._asked().metadata(path)).metadata
        except (ClusterMissing, NameInvalid):
            return "absent"
        except ClusterForbidden as error:
            if (kind, namespace) not in self._unseen:
                self._unseen.add((kind, namespace))
                _log.warning("what a Plan names is not looked up: %s", error)
            return "unknown"
        return "ending" if found.deletion_timestamp else "there"

    async def surroundings(self, namespace: str) -> Surroundings:
        """See ClusterReader."""
        kinds = ("v1", "resourcequotas"), ("v1", "limitranges"), (_NETWORKING, "networkpolicies")
        listed = (self._listed(*kind, namespace) for kind in kinds)
        return Surroundings(*await asyncio.gather(*listed))

    async def _listed(self, api: str, plural: str, namespace: str) -> tuple[KubeObject, ...]:
        """All there is; none where the guard has no right to it, which not every one is given."""
        try:
            path = ApiPath(api, plural, namespace=namespace)
            return decoded(_objects, await self._asked().get(path)).items
        except (ClusterForbidden, NameInvalid):
            return ()

    async def mounted(self, namespace: str) -> Mapping[str, str]:
        """See ClusterReader."""
        try:
            path = ApiPath("v1", "pods", namespace=namespace)
        except NameInvalid:
            return {}
        raw = await self._asked().get(path, fieldSelector="status.phase=Running")
        return {
            volume.persistent_volume_claim.claim_name: pod.metadata.name
            for pod in decoded(_pods, raw).items
            for volume in pod.spec.volumes
            if volume.persistent_volume_claim
        }

    async def may(self, user: User, verb: str, resource: str, namespace: str, name: str) -> bool:
        """See ClusterReader. An answer serves for ten seconds, and all who ask meanwhile."""
        key = user, verb, resource, namespace, name
        known = msgspec.json.encode(key)
        return await once(self._accesses, known, lambda: self._may(known, key))

    async def allowed(
        self, user: User, verb: str, resource: str, namespace: str, name: str
    ) -> bool:
        """What `may` asks for. Raises ClusterUnreachable: for those who would rather know."""
        plural, _, group = resource.partition(".")
        attributes = {"verb": verb, "group": group, "resource": plural}
        spec: dict[str, Any] = {
            "user": user.username,
            "uid": user.uid,
            "groups": user.groups,
            "extra": user.extra,
            "resourceAttributes": attributes | {"namespace": namespace, "name": name},
        }
        review = {"apiVersion": _AUTHORIZATION, "kind": "SubjectAccessReview"}
        path = ApiPath(_AUTHORIZATION, "subjectaccessreviews")
        raw = await self._asked().post(path, review | {"spec": spec})
        return decoded(_access, raw).status.allowed

    async def user(self, token: str, audience: str) -> User | None:
        """See TokenReader. A token of no audience, which the API server takes as its own, is of no
        other: a stolen one is of no use here, nor one of ours there."""
        path = ApiPath(_AUTHENTICATION, "tokenreviews")
        review = {"apiVersion": _AUTHENTICATION, "kind": "TokenReview"}
        spec = {"token": token, "audiences": [audience]}
        raw = await self._asked().post(path, review | {"spec": spec})
        status = decoded(_token, raw).status
        if not status.authenticated or audience not in status.audiences:
            return None
        who = status.user
        return User(who.username, who.uid, who.groups, who.extra, proven=True)

    async def _may(self, known: bytes, key: _Access) -> bool:
        try:
            async with asyncio.timeout(_ACCESS_PATIENCE):
                return await self.allowed(*key)
        except (ClusterUnreachable, TimeoutError):
            self._accesses.pop(known, None)  # no answer: the next one asks again
            return False

    async def _claims(self, namespace: str, selector: str) -> tuple[Claim, ...]:
        try:
            path = ApiPath("v1", "persistentvolumeclaims", namespace=namespace)
        except NameInvalid:
            return ()
        raw = await self._asked().get(path, labelSelector=selector)
        return tuple(claim(item)[1] for item in decoded(_list, raw).items)

    def _asked(self) -> Cluster:
        if self.cluster is None:
            raise ClusterUnreachable(self._why())
        return self.cluster
