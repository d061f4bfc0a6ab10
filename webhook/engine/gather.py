"""What a review asks: which providers it concerns, and the facts that each of them has for it."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol

import msgspec

from webhook import quantity
from webhook.errors import ClusterUnreachable
from webhook.facts.facts import ConversionFacts, F, MigrationFacts, PlanFacts, PlanVmFacts, PvcFacts
from webhook.inventory.cluster import ClusterReader, Followed
from webhook.inventory.index import Vms
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.model.forklift import Conversion, ConversionDisk, Migration, Plan, PlanVm
from webhook.model.keys import (
    CONVERSION_FIELDS,
    MIGRATION_FIELDS,
    MIGRATION_PLAN_FIELD,
    MOREF,
    PLAN_FIELDS,
    PLAN_VM_FIELDS,
    PLAN_VMS_FIELD,
    PVC_FIELDS,
    UUID,
    quoted,
)
from webhook.model.objects import Claim, KubeObject, Pvc, User

_NEAR_MISSES = 3


class Wanted(NamedTuple):
    """What to read afresh before a denial; each has passed its strict pattern."""

    morefs: Collection[str]
    uuids: Collection[str] = ()
    names: Collection[str] = ()


class Sources(Protocol):
    """Where a question's answers come from (webhook.engine.decide.Sources)."""

    @property
    def inventory(self) -> Inventory: ...

    @property
    def followed(self) -> Followed | None: ...

    @property
    def cluster(self) -> ClusterReader | None: ...

    async def may(self, user: User, verb: str, resource: str, namespace: str, name: str) -> bool:
        """Whether that may be told to `user` which one needs this right to see."""
        ...


class Question(Protocol, Generic[F]):
    """One object under review, with what it was before."""

    gate: bool
    """Whether an admission, too, must rest on a fresh read."""
    trusted: Collection[str]
    """The providers of which this caller may be told what the object itself doesn't prove."""

    async def fetch(self, user: User) -> None:
        """Ask the cluster for what the rest needs. Raises ClusterUnreachable, ObjectMalformed."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What an admission should say of what could not be judged."""
        ...

    @property
    def namespace(self) -> str:
        """Whose enforcement counts: where the PVCs are."""
        ...

    @property
    def vms(self) -> Iterable[str]:
        """The ids of the VMs that it is about, as they are written."""
        ...

    @property
    def judged(self) -> bool:
        """Whether there is anything to ask at all."""
        ...

    @property
    def created(self) -> bool:
        """Whether the object is new, so that every rule concerns it."""
        ...

    @property
    def changed(self) -> frozenset[str]:
        """The fields that this request sets or changes: all of them on CREATE."""
        ...

    @property
    def providers(self) -> Sequence[ProviderInventory]:
        """The vSphere providers that may answer: every one for a PVC, a Plan's own for a Plan."""
        ...

    def facts(
        self, source: ProviderInventory | None, vms: Vms | None, asked: Sequence[ProviderInventory]
    ) -> F:
        """What `source` says, with its VMs as `vms` shows them; `asked` are all that can be."""
        ...

    def rank(self, facts: F) -> int:
        """How well the provider of these facts fits: the best one's word counts."""
        ...

    def wanted(self, facts: F, fields: Collection[str]) -> Wanted:
        """What to read afresh, where the findings are on `fields`."""
        ...


class PvcQuestion:
    """Is this claim one disk of one VM, of any provider?"""

    gate = False
    warnings = ()

    def __init__(self, obj: KubeObject, old: KubeObject | None, sources: Sources) -> None:
        self.trusted: Collection[str] = ()
        self._followed = sources.followed
        self._providers = tuple(sources.inventory.vsphere())
        self.created = old is None
        self.pvc = Pvc.of(obj)
        self.old = Pvc.of(old) if old else None
        self.changed = _changed(self.pvc.fields, self.old.fields) if self.old else PVC_FIELDS
        self._storage = quantity.parse(self.pvc.storage) if self.pvc.storage else None

    async def fetch(self, user: User) -> None:
        """Nothing: PVCs are frequent, and what must be known of others is followed."""

    @property
    def namespace(self) -> str:
        return self.pvc.namespace

    @property
    def vms(self) -> Iterable[str]:
        return (self.pvc.vm_id,) if self.pvc.vm_id else ()

    @property
    def judged(self) -> bool:
        # Taking keys away is how a PVC is released: always right.
        fields = self.pvc.fields
        return self.old is None or any(fields[field] is not None for field in self.changed)

    @property
    def providers(self) -> Sequence[ProviderInventory]:
        return self._providers

    def facts(
        self, source: ProviderInventory | None, vms: Vms | None, asked: Sequence[ProviderInventory]
    ) -> PvcFacts:
        pvc, followed = self.pvc, self._followed
        uuid = (pvc.vm_uuid or "").strip()
        vm = vms.by_moref(pvc.vm_id) if vms and pvc.vm_id else None
        proven = vm is not None and vm.proven_by(uuid)
        trusted = source is not None and source.name in self.trusted
        visible = vm if proven or trusted else None
        same_uuid = vms.by_uuid(uuid) if vms and uuid else ()
        # Of another provider's VMs only those may hear who may see that provider.
        others = [o for o in asked if o is not source and o.name in self.trusted] if uuid else ()
        return PvcFacts(
            pvc=pvc,
            old=self.old,
            provider=source.provider if source else None,
            vm=vm,
            proven=proven,
            visible_vm=visible,
            matching=visible.matching(pvc.disk_source) if visible and pvc.disk_source else (),
            # Whose uuid it is matters only where it isn't the VM's own.
            same_uuid=() if proven else same_uuid,
            elsewhere=tuple((o.provider, other) for o in others for other in o.vms.by_uuid(uuid)),
            twins=tuple(
                other for other in same_uuid if other is not vm and vm and other.uuid == vm.uuid
            )
            if proven and len(same_uuid) > 1
            else (),
            siblings=self._siblings() if followed else (),
            classes=followed.classes.known() if followed else None,
            storage=self._storage,
            trusted=trusted,
            complete=len(asked) == len(self._providers),
        )

    def rank(self, facts: PvcFacts) -> int:
        if facts.vm is not None:
            return 3 if facts.proven else 2
        return 1 if facts.same_uuid else 0

    def wanted(self, facts: PvcFacts, fields: Collection[str]) -> Wanted:
        vm_id, vm_uuid = self.pvc.vm_id or "", self.pvc.vm_uuid or ""
        morefs = {vm.moref for vm in facts.same_uuid}
        if MOREF.fullmatch(vm_id):
            morefs.add(vm_id)
        return Wanted(morefs, {vm_uuid} if UUID.fullmatch(vm_uuid) else ())

    def _siblings(self) -> tuple[Claim, ...]:
        pvc = self.pvc
        if self._followed is None or not (pvc.vm_id and pvc.vm_uuid):
            return ()
        same = self._followed.claims.of(pvc.namespace, pvc.vm_id, pvc.vm_uuid)
        return tuple(one for one in same if one.name != pvc.name and not one.terminating)


class PlanQuestion:
    """Is each entry of this Plan one VM of its source provider?"""

    gate = False
    warnings = ()

    def __init__(self, obj: KubeObject, old: KubeObject | None, sources: Sources) -> None:
        self.trusted: Collection[str] = ()
        self._sources = sources
        self._claims: Mapping[tuple[str, str], tuple[Claim, ...]] | None = None
        self._may_list = self._started = False
        self.created = old is None
        self.plan = Plan.of(obj)
        self.old = Plan.of(old) if old else None
        self.changed = _changed(self.plan.fields, self.old.fields) if self.old else PLAN_FIELDS
        self._source = sources.inventory.get(self.plan.source.namespace, self.plan.source.name)
        self._entries = tuple(self._judged_entries())

    @property
    def remote(self) -> bool:
        """Whether the PVCs are in another cluster, where nobody can be asked."""
        destination = self.plan.destination
        known = self._sources.inventory.get(destination.namespace, destination.name)
        return known is not None and known.remote

    async def fetch(self, user: User) -> None:
        """The target namespace's PVCs: rare enough to be asked for, and they must be current."""
        plan, cluster = self.plan, self._sources.cluster
        if cluster is None or not self.judged or not plan.target_namespace or self.remote:
            return
        claims, self._started, self._may_list = await asyncio.gather(
            cluster.claims(plan.target_namespace),
            cluster.started(plan.namespace, plan.name),
            _may_list(self._sources, user, plan.target_namespace),
        )
        self._claims = _by_vm(claims)

    @property
    def namespace(self) -> str:
        return self.plan.target_namespace

    @property
    def vms(self) -> Iterable[str]:
        return [entry.id or entry.name for entry in self._entries if entry.judged]

    @property
    def judged(self) -> bool:
        return self.plan.type == "conversion" and not self.plan.archived

    @property
    def providers(self) -> Sequence[ProviderInventory]:
        source = self._source
        return (source,) if source and source.provider.type == "vsphere" else ()

    def facts(
        self, source: ProviderInventory | None, vms: Vms | None, asked: Sequence[ProviderInventory]
    ) -> PlanFacts:
        trusted = source is not None and source.name in self.trusted
        entries = [self._look_up(entry, vms) for entry in self._entries]
        if vms is not None and trusted:
            # A near miss is worth a look at every name, but not for each of a thousand entries.
            lost = [entry for entry in entries if entry.entry.judged and not entry.found]
            for miss in lost[:_NEAR_MISSES]:
                name = miss.entry.name
                near = (vms.by_name(name) or vms.like_name(name)) if name else ()
                entries[miss.entry.index] = msgspec.structs.replace(miss, near=near)
        followed = self._sources.followed
        return PlanFacts(
            plan=self.plan,
            old=self.old,
            provider=self._source.provider if self._source else None,
            vms=tuple(entries),
            claims=self._claims,
            classes=followed.classes.known() if followed else None,
            remote=self.remote,
            started=self._started,
            trusted=trusted,
            may_list=self._may_list,
        )

    def rank(self, facts: PlanFacts) -> int:
        return 0

    def wanted(self, facts: PlanFacts, fields: Collection[str]) -> Wanted:
        flagged = [
            vm
            for vm in facts.vms
            if any(f"{field}.".startswith(f"{vm.entry.field}.") for field in fields)
        ]
        return self.wanted_of(flagged)

    @staticmethod
    def wanted_of(vms: Iterable[PlanVmFacts]) -> Wanted:
        """What to read afresh to know these entries."""
        entries = tuple(vms)
        known = {found.moref for vm in entries for found in vm.found}
        ids = {vm.entry.id for vm in entries if MOREF.fullmatch(vm.entry.id)}
        names = {vm.entry.name for vm in entries if not vm.entry.id and vm.entry.name}
        return Wanted(known | ids, (), names)

    def _look_up(self, entry: PlanVm, vms: Vms | None) -> PlanVmFacts:
        if vms is None:
            return PlanVmFacts(entry, ())
        if not entry.id:
            return PlanVmFacts(entry, vms.by_name(entry.name) if entry.name else ())
        vm = vms.by_moref(entry.id)  # the id wins, whatever the name says (web/vsphere/client.go)
        if vm is None:
            return PlanVmFacts(entry, ())
        namesakes = [other for other in vms.by_name(vm.name) if other.moref != vm.moref]
        if namesakes:
            place = vms.datacenter(vm)
            namesakes = [other for other in namesakes if vms.datacenter(other) == place]
        return PlanVmFacts(entry, (vm,), namesakes=tuple(namesakes))

    def _judged_entries(self) -> Sequence[PlanVm]:
        everything = self.old is None or self.changed & (PLAN_VM_FIELDS - {PLAN_VMS_FIELD})
        known = {vm.meant for vm in self.old.vms} if self.old and not everything else ()
        return [
            msgspec.structs.replace(
                vm, judged=vm.meant not in known and vm.id not in self.plan.succeeded
            )
            for vm in self.plan.vms
        ]


class MigrationQuestion:
    """Has every VM that this Migration will shut down all of its disks?"""

    gate = True
    judged = True

    def __init__(self, obj: KubeObject, old: KubeObject | None, sources: Sources) -> None:
        self._sources = sources
        self._migration = Migration.of(obj)
        before = Migration.of(old) if old else None
        self.created = before is None
        self.changed = (
            _changed(self._migration.fields, before.fields) if before else MIGRATION_FIELDS
        )
        self._planned = PlanQuestion({}, None, sources)
        """The Plan's own question, once it has been fetched."""
        self._mounted: Mapping[str, str] = {}
        self.warnings: Sequence[str] = ()

    @property
    def trusted(self) -> Collection[str]:
        return self._planned.trusted

    @trusted.setter
    def trusted(self, providers: Collection[str]) -> None:
        self._planned.trusted = providers

    async def fetch(self, user: User) -> None:
        """The Plan, and the PVCs of its target namespace. Warm and cold ones must not suffer."""
        self.judged = False
        named, cluster = self._migration.plan, self._sources.cluster
        if not self.changed or self._migration.resumes or not named.name:
            return
        try:
            if cluster is None:
                raise ClusterUnreachable("the guard has no access to the cluster")
            obj = await cluster.plan(named.namespace, named.name)
            if obj is None:
                raise ClusterUnreachable(f"there is no Plan {quoted(named)}")
        except ClusterUnreachable as error:
            self.warnings = (f"{MIGRATION_PLAN_FIELD}: not checked: {error}",)
            return
        plan = PlanQuestion(obj, None, self._sources)
        if plan.remote and plan.judged:
            why = f"the PVCs of {quoted(named)} are in another cluster"
            self.warnings = (f"{MIGRATION_PLAN_FIELD}: not checked: {why}",)
        elif plan.judged:
            _, self._mounted = await asyncio.gather(
                plan.fetch(user), cluster.mounted(plan.namespace)
            )
            self._planned, self.judged = plan, True

    @property
    def namespace(self) -> str:
        return self._planned.namespace

    @property
    def vms(self) -> Iterable[str]:
        return self._planned.vms

    @property
    def providers(self) -> Sequence[ProviderInventory]:
        return self._planned.providers

    def facts(
        self, source: ProviderInventory | None, vms: Vms | None, asked: Sequence[ProviderInventory]
    ) -> MigrationFacts:
        planned = self._planned.facts(source, vms, asked)
        return MigrationFacts(plan=planned, mounted=self._mounted)

    def rank(self, facts: MigrationFacts) -> int:
        return 0

    def wanted(self, facts: MigrationFacts, fields: Collection[str]) -> Wanted:
        """Every VM that will run, in one read."""
        return self._planned.wanted_of(vm for vm in facts.plan.vms if vm.entry.judged)


class ConversionQuestion:
    """Are the PVCs that this Conversion names the whole disk set of the VM that they name?"""

    gate = True

    def __init__(self, obj: KubeObject, old: KubeObject | None, sources: Sources) -> None:
        self.trusted: Collection[str] = ()
        self.warnings: Sequence[str] = ()
        self._sources = sources
        self._conversion = Conversion.of(obj)
        before = Conversion.of(old) if old else None
        self.created = before is None
        self.changed = (
            _changed(self._conversion.fields, before.fields) if before else CONVERSION_FIELDS
        )
        self._named: tuple[tuple[ConversionDisk, Claim | None], ...] | None = None
        self._may_list = False

    @property
    def judged(self) -> bool:
        return bool(self.changed) and self._conversion.type in ("InPlace", "Remote")

    async def fetch(self, user: User) -> None:
        """The PVCs that it names, as they are now."""
        conversion, cluster = self._conversion, self._sources.cluster
        if not self.judged or cluster is None:
            return
        places = sorted({disk.namespace for disk in conversion.disks})
        lists = await asyncio.gather(*(cluster.claims(place) for place in places))
        known = {(claim.namespace, claim.name): claim for claims in lists for claim in claims}
        self._named = tuple(
            (disk, known.get((disk.namespace, disk.name))) for disk in conversion.disks
        )
        rights = [_may_list(self._sources, user, place) for place in places]
        self._may_list = all(await asyncio.gather(*rights))

    @property
    def namespace(self) -> str:
        return self._conversion.namespace

    @property
    def vms(self) -> Iterable[str]:
        return (self._conversion.vm_id,)

    @property
    def providers(self) -> Sequence[ProviderInventory]:
        return tuple(self._sources.inventory.vsphere())

    def facts(
        self, source: ProviderInventory | None, vms: Vms | None, asked: Sequence[ProviderInventory]
    ) -> ConversionFacts:
        first = self._first
        vm = vms.by_moref(first.vm_id) if first and vms else None
        followed = self._sources.followed
        return ConversionFacts(
            conversion=self._conversion,
            named=self._named,
            provider=source.provider if source else None,
            vm=vm,
            proven=bool(vm and first and vm.uuid == first.vm_uuid),
            classes=followed.classes.known() if followed else None,
            trusted=source is not None and source.name in self.trusted,
            may_list=self._may_list,
        )

    def rank(self, facts: ConversionFacts) -> int:
        return (2 if facts.proven else 1) if facts.vm else 0

    def wanted(self, facts: ConversionFacts, fields: Collection[str]) -> Wanted:
        first = self._first
        return Wanted({first.vm_id} if first and MOREF.fullmatch(first.vm_id) else ())

    @property
    def _first(self) -> Claim | None:
        return next((claim for _, claim in self._named or () if claim), None)


def _by_vm(claims: Iterable[Claim]) -> Mapping[tuple[str, str], tuple[Claim, ...]]:
    found: dict[tuple[str, str], tuple[Claim, ...]] = {}
    for claim in claims:
        key = claim.vm_id, claim.vm_uuid
        found[key] = (*found.get(key, ()), claim)
    return found


async def _may_list(sources: Sources, user: User, namespace: str) -> bool:
    return await sources.may(user, "list", "persistentvolumeclaims", namespace, "")


def _changed(now: Mapping[str, Any], before: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(field for field, value in now.items() if before[field] != value)
