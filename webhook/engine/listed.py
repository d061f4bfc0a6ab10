"""A cluster as it will be once the objects of a list are in it: what `check` judges a list by."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from webhook.errors import ClusterUnreachable, ObjectMalformed
from webhook.inventory.cluster import Claims, ClusterReader, Followed, Referent, Table
from webhook.model.forklift import KeptPlan, Migration, Plan
from webhook.model.keys import (
    IN_SYNC,
    MIGRATION_PLAN_FIELD,
    NOT_READY,
    PLAN_VMS_FIELD,
    SHAREABLE,
    echoed,
    quoted,
)
from webhook.model.objects import (
    Claim,
    KubeObject,
    Metadata,
    Pvc,
    Standing,
    Surroundings,
    User,
    follows,
)
from webhook.model.review import CONVERSION, MIGRATION, PLAN, PVC, Kind
from webhook.model.shape import mapping


class Listed:
    """The list's PVCs and Plans over `cluster` and `followed`; either may be None: no cluster.

    It is a webhook.inventory.cluster.ClusterReader itself.
    """

    def __init__(self, cluster: ClusterReader | None, followed: Followed | None) -> None:
        self._cluster = cluster
        self._known = followed.claims if followed else None
        self._claims: dict[str, dict[str, Claim]] = {}
        """By namespace and name."""
        self._assumed: set[str] = set()
        """Namespaces of PVCs that are taken as bound."""
        self._plans: dict[tuple[str, str], KubeObject] = {}
        self._started: set[str] = set()
        """The Plans that Migrations of the list name."""
        self._named: set[tuple[str, str, str]] = set()
        """What else there is, by the plural of its kind, namespace and name."""
        self.followed = Followed()
        self.followed.claims = _Over(self._known)
        self.followed.plans = _OverPlans(followed.plans if followed else None)
        if followed is not None:
            self.followed.classes, self.followed.enforced = followed.classes, followed.enforced
            self.followed.release = followed.release

    def add(self, kind: Kind, obj: KubeObject) -> None:
        """From now on it is there."""
        metadata = obj.get("metadata") or {}
        namespace = metadata.get("namespace") or ""
        if kind == PLAN:
            name = metadata.get("name") or ""
            self._plans[namespace, name] = obj
            if Plan.of(obj).judged:
                self.followed.plans.put(f"{namespace}/{name}", KeptPlan.of(obj))
        if kind == MIGRATION and not mapping(obj.get("status")).get("completed"):
            self._started.add(str(Migration.of(obj).plan))
        if kind == PVC and (claim := self._claim(obj)) is not None:
            self._claims.setdefault(claim.namespace, {})[claim.name] = claim
            self.followed.claims.put(f"{claim.namespace}/{claim.name}", claim)

    def name(self, kind: Kind, obj: Mapping[str, Any], namespace: str) -> None:
        """From now on it is there, an object of whatever kind; `namespace` is of one without."""
        metadata = mapping(obj.get("metadata"))
        for place in (metadata.get("namespace") or namespace, ""):  # a cluster's own has none
            self._named.add((f"{kind.kind.lower()}s", str(place), str(metadata.get("name"))))

    def reader(self, kind: Kind, obj: KubeObject) -> ClusterReader | None:
        """Whom to ask for an object of `kind`; None where nobody knows its PVCs."""
        return None if kind in (PLAN, CONVERSION) and self._blind(kind, obj) else self

    def notes(self, kind: Kind, obj: KubeObject) -> Iterator[tuple[str, str]]:
        """What a verdict on `obj` takes for granted or leaves out: field and message."""
        if kind == PLAN and self._blind(kind, obj):
            namespace = Plan.of(obj).target_namespace
            message = f"the list has no PVC of {echoed(namespace)}, and there is no cluster to ask"
            yield PLAN_VMS_FIELD, f"the disks are not checked: {message}"
        if kind == MIGRATION:
            named = Migration.of(obj).plan
            plan = self._plans.get((named.namespace, named.name))
            if plan is not None and Plan.of(plan).target_namespace in self._assumed:
                message = "the PVCs of the list count as bound and complete"
                yield MIGRATION_PLAN_FIELD, f"{message}: they are checked again when it is created"
            if plan is not None and not plan.get("status"):
                message = "the Plan of the list counts as Ready"
                yield MIGRATION_PLAN_FIELD, f"{message}: create the Migration once it is"

    async def claims(self, namespace: str) -> tuple[Claim, ...]:
        """See ClusterReader."""
        own = self._claims.get(namespace, {})
        if self._cluster is not None:
            there = await self._cluster.claims(namespace)
            return (*(claim for claim in there if claim.name not in own), *own.values())
        if not own:
            why = f"the list has none of namespace {echoed(namespace)}"
            raise ClusterUnreachable(f"{why}, and there is no cluster to ask")
        return tuple(own.values())

    async def siblings(self, namespace: str, vm_id: str, vm_uuid: str) -> tuple[Claim, ...]:
        """See ClusterReader."""
        there: tuple[Claim, ...] = ()
        if self._cluster is not None:
            there = await self._cluster.siblings(namespace, vm_id, vm_uuid)
        own = self._claims.get(namespace, {})
        same = (claim for claim in own.values() if claim.vm == (namespace, vm_id, vm_uuid))
        return (*(claim for claim in there if claim.name not in own), *same)

    async def plan(self, namespace: str, name: str) -> KubeObject | None:
        """See ClusterReader."""
        if (found := self._plans.get((namespace, name))) is not None:
            if found.get("status"):
                return found
            there = await self._cluster.plan(namespace, name) if self._cluster else None
            return _ready(found, mapping((there or {}).get("status")).get("migration"))
        if self._cluster is None:
            why = f"Plan {quoted(f'{namespace}/{name}')} is not in the list"
            raise ClusterUnreachable(f"{why}, and there is no cluster to ask")
        return await self._cluster.plan(namespace, name)

    async def provider(self, namespace: str, name: str) -> Standing | None:
        """See ClusterReader."""
        return await self._cluster.provider(namespace, name) if self._cluster else None

    async def started(self) -> frozenset[str]:
        """See ClusterReader."""
        there = await self._cluster.started() if self._cluster else frozenset()
        return there | self._started

    async def standing(self, kind: Referent, namespace: str, name: str) -> Standing:
        """See ClusterReader."""
        if (kind, namespace, name) in self._named:
            return "there"
        if self._cluster is None:
            return "unknown"
        return await self._cluster.standing(kind, namespace, name)

    async def surroundings(self, namespace: str) -> Surroundings:
        """See ClusterReader."""
        return await self._cluster.surroundings(namespace) if self._cluster else Surroundings()

    async def mounted(self, namespace: str) -> Mapping[str, str]:
        """See ClusterReader."""
        return await self._cluster.mounted(namespace) if self._cluster is not None else {}

    async def may(self, user: User, verb: str, resource: str, namespace: str, name: str) -> bool:
        """See ClusterReader. Where there is no cluster, whoever has the files may know them."""
        if self._cluster is None:
            return True
        return await self._cluster.may(user, verb, resource, namespace, name)

    def _blind(self, kind: Kind, obj: KubeObject) -> bool:
        if self._cluster is not None:
            return False
        if kind == CONVERSION:
            return not self._claims
        try:
            plan = Plan.of(obj)
        except ObjectMalformed:
            return False  # nothing is asked for it
        return plan.judged and plan.target_namespace not in self._claims

    def _claim(self, obj: KubeObject) -> Claim | None:
        """What is kept of a PVC with both labels. One that says nothing of its volume is as the
        cluster has it, or else taken as bound: it is judged as it is meant to become."""
        pvc = Pvc.of(obj)
        if not (pvc.vm_id and pvc.vm_uuid):
            return None
        name = pvc.name or f"{obj['metadata'].get('generateName')}{len(self.followed.claims)}"
        known = self._known.get(f"{pvc.namespace}/{name}") if self._known else None
        spec, status = mapping(obj.get("spec")), mapping(obj.get("status"))
        phase = status.get("phase") or (known.phase if known else "")
        if not phase:
            self._assumed.add(pvc.namespace)
        capacity = mapping(status.get("capacity")).get("storage")
        not_ready = pvc.annotations.get(NOT_READY)
        return Claim(
            namespace=pvc.namespace,
            name=name,
            vm_id=pvc.vm_id,
            vm_uuid=pvc.vm_uuid,
            disk_source=pvc.disk_source or "",
            phase=str(phase or "Bound"),
            capacity=str(capacity or (known.capacity if known else pvc.storage) or ""),
            volume_mode=pvc.volume_mode,
            storage_class=pvc.storage_class or "",
            one_pod="ReadWriteOncePod" in pvc.access_modes,
            not_ready=not_ready if isinstance(not_ready, str) else None,
            populated=spec.get("dataSource") is not None or spec.get("dataSourceRef") is not None,
            terminating=known is not None and known.terminating,
            read_only=pvc.access_modes == ("ReadOnlyMany",),
            owned="VirtualMachine" in pvc.owners,
            in_sync=follows(pvc.annotations.get(IN_SYNC)),
            shareable=pvc.labels.get(SHAREABLE) == "true",
        )


class _Over(Claims):
    """PVCs laid over those that are followed."""

    def __init__(self, base: Claims | None) -> None:
        super().__init__()
        self._base = base
        self.heard(None)

    def age(self, now: float) -> float:
        return super().age(now) if self._base is None else self._base.age(now)

    def of(self, namespace: str, vm_id: str, vm_uuid: str) -> tuple[Claim, ...]:
        own = super().of(namespace, vm_id, vm_uuid)
        if self._base is None:
            return own
        there = self._base.of(namespace, vm_id, vm_uuid)
        return (*(c for c in there if self.get(f"{namespace}/{c.name}") is None), *own)


class _OverPlans(Table[KeptPlan]):
    """Plans laid over those that are followed: what has become of their VMs stays."""

    def __init__(self, base: Table[KeptPlan] | None) -> None:
        super().__init__()
        self._base = base
        self.heard(None)

    def age(self, now: float) -> float:
        return super().age(now) if self._base is None else self._base.age(now)

    def get(self, key: str) -> KeptPlan | None:
        own, there = super().get(key), self._base.get(key) if self._base is not None else None
        if own is None or there is None:
            return own or there
        return replace(own, running=there.running, done=there.done)


def _ready(plan: KubeObject, migrated: object) -> KubeObject:
    """As Forklift will have it when all is well: it is judged as it is meant to become. `migrated`:
    what has been migrated of it before, its status.migration."""
    ready = {"type": "Ready", "status": "True"}
    status = {"observedGeneration": 1, "conditions": [ready], "migration": migrated}
    metadata: Metadata = {**plan["metadata"], "generation": 1}
    return {**plan, "metadata": metadata, "status": status}
