"""Questions to the API server whose answers must be current."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from webhook.cluster.client import Cluster, ClusterMissing
from webhook.cluster.objects import claim
from webhook.errors import ClusterUnreachable
from webhook.model.keys import VM_ID, VM_UUID
from webhook.model.objects import Claim, KubeObject, User

_FORKLIFT = "/apis/forklift.konveyor.io/v1beta1"
_ACCESS_SECONDS = 10.0
_ACCESSES = 10_000


class _List(msgspec.Struct):
    items: list[msgspec.Raw] = []


class _Reference(msgspec.Struct):
    namespace: str = ""
    name: str = ""


class _Meta(msgspec.Struct):
    name: str = ""
    namespace: str = ""


class _MigrationSpec(msgspec.Struct):
    plan: _Reference = msgspec.field(default_factory=_Reference)


class _MigrationStatus(msgspec.Struct):
    completed: str | None = None


class _Migration(msgspec.Struct):
    metadata: _Meta
    spec: _MigrationSpec = msgspec.field(default_factory=_MigrationSpec)
    status: _MigrationStatus = msgspec.field(default_factory=_MigrationStatus)


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


class _Migrations(msgspec.Struct):
    items: list[_Migration] = []


class _Access(msgspec.Struct):
    allowed: bool = False


class _AccessReview(msgspec.Struct):
    status: _Access = msgspec.field(default_factory=_Access)


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
_object = msgspec.json.Decoder(KubeObject)
_migrations = msgspec.json.Decoder(_Migrations)
_pods = msgspec.json.Decoder(_Pods)
_access = msgspec.json.Decoder(_AccessReview)
_token = msgspec.json.Decoder(_TokenReview)

_Asked = tuple[User, str, str, str, str]


class LiveReader:
    """A ClusterReader and TokenReader. Without `cluster` it can't be asked yet."""

    def __init__(self) -> None:
        self.cluster: Cluster | None = None
        self._accesses: dict[bytes, tuple[float, asyncio.Future[bool]]] = {}

    async def claims(self, namespace: str) -> tuple[Claim, ...]:
        """See ClusterReader. In one piece, and from the API server itself, not from its cache."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/persistentvolumeclaims"
        raw = await self._asked().get(path, labelSelector=f"{VM_ID},{VM_UUID}")
        return tuple(claim(item)[1] for item in _list.decode(raw).items)

    async def plan(self, namespace: str, name: str) -> KubeObject | None:
        """See ClusterReader."""
        place = f"namespaces/{quote(namespace, safe='')}/plans/{quote(name, safe='')}"
        try:
            return _object.decode(await self._asked().get(f"{_FORKLIFT}/{place}"))
        except ClusterMissing:
            return None

    async def started(self, namespace: str, name: str) -> bool:
        """See ClusterReader. A Migration may be in another namespace than its Plan."""
        raw = await self._asked().get(f"{_FORKLIFT}/migrations")
        return any(
            migration.status.completed is None
            and migration.spec.plan.name == name
            and (migration.spec.plan.namespace or migration.metadata.namespace) == namespace
            for migration in _migrations.decode(raw).items
        )

    async def mounted(self, namespace: str) -> Mapping[str, str]:
        """See ClusterReader."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods"
        raw = await self._asked().get(path, fieldSelector="status.phase=Running")
        return {
            volume.persistent_volume_claim.claim_name: pod.metadata.name
            for pod in _pods.decode(raw).items
            for volume in pod.spec.volumes
            if volume.persistent_volume_claim
        }

    async def may(self, user: User, verb: str, resource: str, namespace: str, name: str) -> bool:
        """See ClusterReader. An answer serves for ten seconds, and all who ask meanwhile."""
        key = msgspec.json.encode((user, verb, resource, namespace, name))
        now = time.monotonic()
        at, answer = self._accesses.get(key, (0.0, None))
        if answer is None or now - at > _ACCESS_SECONDS or _failed(answer):
            if len(self._accesses) >= _ACCESSES:
                self._accesses.clear()
            answer = asyncio.ensure_future(self._may(user, verb, resource, namespace, name))
            self._accesses[key] = now, answer
        # A caller that gives up must not take the answer from the others.
        return await asyncio.shield(answer)

    async def user(self, token: str, audience: str) -> User | None:
        """See TokenReader. A token of no audience, which the API server takes as its own, is of no
        other: a stolen one is of no use here, nor one of ours there."""
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
        spec = {"token": token, "audiences": [audience]}
        raw = await self._asked().post(path, review | {"spec": spec})
        status = _token.decode(raw).status
        if not status.authenticated or audience not in status.audiences:
            return None
        who = status.user
        return User(who.username, who.uid, who.groups, who.extra, proven=True)

    async def _may(self, user: User, verb: str, resource: str, namespace: str, name: str) -> bool:
        plural, _, group = resource.partition(".")
        attributes = {"verb": verb, "group": group, "resource": plural}
        spec: dict[str, Any] = {
            "user": user.username,
            "uid": user.uid,
            "groups": user.groups,
            "extra": user.extra,
            "resourceAttributes": attributes | {"namespace": namespace, "name": name},
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
        raw = await self._asked().post(path, review | {"spec": spec})
        return _access.decode(raw).status.allowed

    def _asked(self) -> Cluster:
        if self.cluster is None:
            raise ClusterUnreachable("the cluster has not been reached yet")
        return self.cluster


def _failed(answer: asyncio.Future[bool]) -> bool:
    return answer.done() and (answer.cancelled() or answer.exception() is not None)
