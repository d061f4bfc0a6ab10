"""A cluster as it stands, listed once: what an audit judges, and what it judges by."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any, TypeVar

import msgspec

from webhook.cluster.client import Cluster, decoded
from webhook.cluster.errors import ClusterForbidden, ClusterMissing
from webhook.cluster.objects import (
    CLASSES,
    NAMESPACES,
    claim,
    enforced,
    kept_plan,
    storage_class,
)
from webhook.cluster.paths import FORKLIFT, ApiPath
from webhook.cluster.reader import LiveReader
from webhook.errors import ObjectMalformed
from webhook.inventory.cluster import Followed, Referent, Table
from webhook.model.forklift import Migration, Plan
from webhook.model.keys import DISK_SOURCE, ENFORCE, VM_ID, VM_UUID
from webhook.model.objects import Claim, KubeObject, Standing, Surroundings, User
from webhook.shared import once

_log = logging.getLogger("webhook.cluster")

_KEYS = VM_ID.encode(), VM_UUID.encode(), DISK_SOURCE.encode()

T = TypeVar("T")


class _Meta(msgspec.Struct, rename="camel"):
    uid: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None


class _Any(msgspec.Struct):
    metadata: _Meta


_any = msgspec.json.Decoder(_Any)
_object = msgspec.json.Decoder(KubeObject)


class Picture:
    """A webhook.inventory.cluster.ClusterReader that asks once for each namespace. Use `take`.

    Whoever may take it may know all that is in it.
    """

    def __init__(self, cluster: Cluster, namespaces: Collection[str]) -> None:
        self._cluster, self._namespaces = cluster, tuple(sorted(set(namespaces)))
        self._live = LiveReader()
        self._live.cluster = cluster
        self._asked: dict[tuple[str, str], asyncio.Future[Any]] = {}
        self._claims: dict[str, list[Claim]] = {}
        self._started: set[str] = set()
        self._plans: dict[tuple[str, str], KubeObject] = {}
        self.followed = Followed()
        self.pvcs: list[KubeObject] = []
        """Every PVC with one of the three keys that isn't on its way out."""
        self.plans: list[KubeObject] = []
        """Every conversion Plan that isn't archived."""
        self.migrations: list[KubeObject] = []
        """Every Migration of such a Plan that hasn't ended."""
        self.conversions: list[KubeObject] = []
        """Every Conversion that hasn't ended and has no owner."""
        self.claim_uids: set[str] = set()
        """Of all PVCs, for a populator's own is named after one."""
        self.migration_uids: set[str] | None = set()
        """Of all Migrations; None where not all can be listed."""

    @classmethod
    async def take(
        cls,
        cluster: Cluster,
        namespaces: Collection[str] = (),
        heard: Callable[[int], None] = lambda count: None,
    ) -> "Picture":
        """List what is there. `heard` is told of every page how many objects it had.

        `namespaces` are those whose PVCs count, with every Plan that converts into one of them;
        without any: all. Raises ClusterUnreachable.
        """
        picture = cls(cluster, namespaces)
        followed = picture.followed
        await picture._side(CLASSES, storage_class, followed.classes)
        await picture._side(NAMESPACES, enforced, followed.enforced, labelSelector=ENFORCE)
        await picture._list_pvcs(heard)
        await picture._list_forklifts(heard)
        return picture

    @property
    def judged(self) -> list[KubeObject]:
        """All of these, kind by kind, each by namespace and name."""
        kinds = self.pvcs, self.plans, self.migrations, self.conversions
        return [obj for kind in kinds for obj in sorted(kind, key=_name)]

    async def claims(self, namespace: str) -> tuple[Claim, ...]:
        """See ClusterReader."""
        if not self._namespaces or namespace in self._namespaces:
            return tuple(self._claims.get(namespace, ()))
        return await self._once("claims", namespace, self._live.claims)

    async def siblings(self, namespace: str, vm_id: str, vm_uuid: str) -> tuple[Claim, ...]:
        """See ClusterReader."""
        there = await self.claims(namespace)
        return tuple(claim for claim in there if claim.vm == (namespace, vm_id, vm_uuid))

    async def plan(self, namespace: str, name: str) -> KubeObject | None:
        """See ClusterReader."""
        found = self._plans.get((namespace, name))
        return found if found is not None else await self._live.plan(namespace, name)

    async def provider(self, namespace: str, name: str) -> Standing | None:
        """See ClusterReader."""
        return await self._live.provider(namespace, name)

    async def started(self) -> frozenset[str]:
        """See ClusterReader."""
        return frozenset(self._started)

    async def standing(self, kind: Referent, namespace: str, name: str) -> Standing:
        """See ClusterReader."""
        return await self._live.standing(kind, namespace, name)

    async def surroundings(self, namespace: str) -> Surroundings:
        """See ClusterReader."""
        return await self._once("surroundings", namespace, self._live.surroundings)

    async def mounted(self, namespace: str) -> Mapping[str, str]:
        """See ClusterReader."""
        return await self._once("mounted", namespace, self._live.mounted)

    async def may(self, user: User, verb: str, resource: str, namespace: str, name: str) -> bool:
        """See ClusterReader."""
        return True

    async def _once(self, what: str, place: str, ask: Callable[[str], Awaitable[T]]) -> T:
        return await once(self._asked, (what, place), lambda: ask(place))

    async def _side(
        self, path: ApiPath, decode: Callable[[Any], tuple[str, T]], kept: Table[T], **query: str
    ) -> None:
        """What rules look at beside PVCs: a tenant may have no right to it, and do without."""
        try:
            async for page in self._cluster.pages(path, **query):
                for raw in page.items:
                    kept.put(*decode(raw))
        except ClusterForbidden as error:
            if not self._namespaces:
                raise
            _log.warning("checked without it: %s", error)
        kept.heard(None)

    async def _list_pvcs(self, heard: Callable[[int], None]) -> None:
        for path in _places("v1", "persistentvolumeclaims", self._namespaces):
            async for page in self._cluster.pages(path):
                for raw in page.items:
                    self._put_pvc(bytes(raw))
                heard(len(page.items))
        self.followed.claims.heard(None)

    def _put_pvc(self, raw: bytes) -> None:
        metadata = decoded(_any, raw).metadata
        self.claim_uids.add(metadata.uid)
        if not any(key in raw for key in _KEYS):
            return
        labels = metadata.labels
        if VM_ID in labels and VM_UUID in labels:
            key, kept = claim(raw)
            self.followed.claims.put(key, kept)
            self._claims.setdefault(kept.namespace, []).append(kept)
        keyed = VM_ID in labels or VM_UUID in labels or DISK_SOURCE in labels
        if (keyed or DISK_SOURCE in metadata.annotations) and metadata.deletion_timestamp is None:
            self.pvcs.append(_whole(raw, "v1", "PersistentVolumeClaim"))

    async def _list_forklifts(self, heard: Callable[[int], None]) -> None:
        async for raw in self._everywhere("plans", heard):
            plan = _whole(raw, FORKLIFT, "Plan")
            self._plans[_name(plan)] = plan
            self.followed.plans.put(*kept_plan(raw))
        self.followed.plans.heard(None)
        self.plans = [plan for plan in self._plans.values() if self._counts(plan)]
        counted = {_name(plan) for plan in self.plans}
        async for raw in self._everywhere("migrations", heard):
            if self.migration_uids is not None:
                self.migration_uids.add(decoded(_any, raw).metadata.uid)
            migration = _whole(raw, FORKLIFT, "Migration")
            if not (migration.get("status") or {}).get("completed"):
                named = Migration.of(migration).plan
                self._started.add(str(named))
                if (named.namespace, named.name) in counted:
                    self.migrations.append(migration)
        try:
            async for raw in self._everywhere("conversions", heard):
                conversion = _whole(raw, FORKLIFT, "Conversion")
                if _by_hand(conversion) and self._in(_name(conversion)[0]):
                    self.conversions.append(conversion)
        except ClusterMissing:
            pass  # an older Forklift has none

    async def _everywhere(
        self, plural: str, heard: Callable[[int], None]
    ) -> AsyncIterator[msgspec.Raw]:
        """All of the cluster, or of the namespaces that count where no more may be listed."""
        paths = _places(FORKLIFT, plural)
        try:
            await self._cluster.get(paths[0], limit="1")
        except ClusterForbidden:
            if not self._namespaces:
                raise
            paths = _places(FORKLIFT, plural, self._namespaces)
            if plural == "migrations":
                self.migration_uids = None
        for path in paths:
            async for page in self._cluster.pages(path):
                for raw in page.items:
                    yield raw
                heard(len(page.items))

    def _in(self, *places: str) -> bool:
        return not self._namespaces or not set(self._namespaces).isdisjoint(places)

    def _counts(self, obj: KubeObject) -> bool:
        try:
            plan = Plan.of(obj)
        except ObjectMalformed:
            return True  # that is what there is to be said of it
        return plan.judged and self._in(plan.namespace, plan.target_namespace)


def _places(api: str, plural: str, namespaces: Collection[str] = ()) -> list[ApiPath]:
    """In each of these namespaces; without any, in the whole cluster."""
    return [ApiPath(api, plural, namespace=place) for place in namespaces] or [ApiPath(api, plural)]


def _whole(raw: bytes | msgspec.Raw, version: str, kind: str) -> KubeObject:
    """A list's items don't say what they are."""
    obj = decoded(_object, raw)
    obj["apiVersion"], obj["kind"] = version, kind
    return obj


def _name(obj: KubeObject) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata.get("name") or ""


def _by_hand(conversion: KubeObject) -> bool:
    status = conversion.get("status") or {}
    ended = status.get("completionTime") or status.get("phase") in ("Succeeded", "Failed")
    return not ended and not conversion["metadata"].get("ownerReferences")
