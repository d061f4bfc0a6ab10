"""What a review asks: which providers it concerns, and the facts that each of them has for it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol

import msgspec

from webhook import quantity
from webhook.claims import Claim, Claims, ClusterReader
from webhook.errors import ClusterUnreachable
from webhook.inventory import Inventory, ProviderInventory, Vms
from webhook.model import (
    MIGRATION_FIELDS,
    MIGRATION_PLAN_FIELD,
    MOREF,
    PLAN_FIELDS,
    PLAN_TYPE_FIELD,
    PVC_FIELDS,
    SOURCE_PROVIDER_FIELD,
    TARGET_NAMESPACE_FIELD,
    UUID,
    KubeObject,
    Migration,
    Plan,
    PlanVm,
    Pvc,
    quoted,
)
from webhook.rule import F, MigrationFacts, PlanFacts, PlanVmFacts, PvcFacts

_NEAR_MISSES = 3


class Wanted(NamedTuple):
    """What to read afresh before a denial; each has passed its strict pattern."""

    morefs: Collection[str]
    uuids: Collection[str] = ()
    names: Collection[str] = ()


class Question(Protocol, Generic[F]):
    """One object under review, with what it was before."""

    gate: bool
    """Whether an admission, too, must rest on a fresh read."""

    async def fetch(self, cluster: ClusterReader | None) -> None:
        """Ask the cluster for what the rest needs. Raises ClusterUnreachable, ObjectMalformed."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What an admission should say of what could not be judged."""
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


class Sources(Protocol):
    """Where a question's answers come from (webhook.decide.Sources)."""

    @property
    def inventory(self) -> Inventory: ...

    @property
    def claims(self) -> Claims | None: ...

    @property
    def trusted(self) -> bool: ...


class PvcQuestion:
    """Is this claim one disk of one VM, of any provider?"""

    gate = False
    warnings = ()

    def __init__(self, obj: KubeObject, old: KubeObject | None, sources: Sources) -> None:
        self._trusted = sources.trusted
        self._claims = sources.claims
        inventory = sources.inventory
        self._providers = tuple(inventory.vsphere())
        self.created = old is None
        self.pvc = Pvc.of(obj)
        self.old = Pvc.of(old) if old else None
        self.changed = _changed(self.pvc.fields, self.old.fields) if self.old else PVC_FIELDS
        self._storage = quantity.parse(self.pvc.storage) if self.pvc.storage else None

    async def fetch(self, cluster: ClusterReader | None) -> None:
        """Nothing: PVCs are frequent, and what must be known of others is followed."""

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
        pvc = self.pvc
        uuid = (pvc.vm_uuid or "").strip()
        vm = vms.by_moref(pvc.vm_id) if vms and pvc.vm_id else None
        proven = vm is not None and vm.proven_by(uuid)
        visible = vm if proven or self._trusted else None
        others = [other for other in asked if other is not source] if uuid else ()
        return PvcFacts(
            pvc=pvc,
            old=self.old,
            provider=source.provider if source else None,
            vm=vm,
            proven=proven,
            visible_vm=visible,
            matching=visible.matching(pvc.disk_source) if visible and pvc.disk_source else (),
            # Whose uuid it is matters only where it isn't the VM's own.
            same_uuid=vms.by_uuid(uuid) if vms and uuid and not proven else (),
            elsewhere=tuple((o.provider, other) for o in others for other in o.vms.by_uuid(uuid)),
            claimed_by=self._claimed_by(),
            storage=self._storage,
            trusted=self._trusted,
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

    def _claimed_by(self) -> tuple[Claim, ...]:
        pvc = self.pvc
        if self._claims is None or not (pvc.vm_id and pvc.vm_uuid and pvc.disk_source):
            return ()
        same = self._claims.of(pvc.namespace, pvc.vm_id, pvc.vm_uuid, pvc.disk_source)
        return tuple(one for one in same if one.name != pvc.name and not one.terminating)


class PlanQuestion:
    """Is each entry of this Plan one VM of its source provider?"""

    gate = False
    warnings = ()

    def __init__(self, obj: KubeObject, old: KubeObject | None, sources: Sources) -> None:
        self._trusted = sources.trusted
        self._inventory = inventory = sources.inventory
        self._pvcs: tuple[Claim, ...] | None = None
        self.created = old is None
        self.plan = Plan.of(obj)
        self.old = Plan.of(old) if old else None
        self.changed = _changed(self.plan.fields, self.old.fields) if self.old else PLAN_FIELDS
        self._source = inventory.get(self.plan.source.namespace, self.plan.source.name)
        self._entries = tuple(self._judged_entries())

    @property
    def remote(self) -> bool:
        """Whether the PVCs are in another cluster, where nobody can be asked."""
        destination = self.plan.destination
        known = self._inventory.get(destination.namespace, destination.name)
        return known is not None and known.remote

    async def fetch(self, cluster: ClusterReader | None) -> None:
        """The target namespace's PVCs: rare enough to be asked for, and they must be current."""
        namespace = self.plan.target_namespace
        if cluster is not None and namespace and self.judged and not self.remote:
            self._pvcs = await cluster.claims(namespace)

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
        entries = [self._look_up(entry, vms) for entry in self._entries]
        if vms is not None and self._trusted:
            # A near miss is worth a look at every name, but not for each of a thousand entries.
            lost = [entry for entry in entries if entry.entry.judged and not entry.found]
            for miss in lost[:_NEAR_MISSES]:
                name = miss.entry.name
                near = (vms.by_name(name) or vms.like_name(name)) if name else ()
                entries[miss.entry.index] = msgspec.structs.replace(miss, near=near)
        return PlanFacts(
            plan=self.plan,
            old=self.old,
            provider=self._source.provider if self._source else None,
            vms=tuple(entries),
            claims=self._pvcs,
            trusted=self._trusted,
        )

    def rank(self, facts: PlanFacts) -> int:
        return 0

    def wanted(self, facts: PlanFacts, fields: Collection[str]) -> Wanted:
        flagged = [
            vm
            for vm in facts.vms
            if any(f"{field}.".startswith(f"{vm.entry.field}.") for field in fields)
        ]
        known = {found.moref for vm in flagged for found in vm.found}
        ids = {vm.entry.id for vm in flagged if MOREF.fullmatch(vm.entry.id)}
        names = {vm.entry.name for vm in flagged if not vm.entry.id and vm.entry.name}
        return Wanted(known | ids, (), names)

    def _look_up(self, entry: PlanVm, vms: Vms | None) -> PlanVmFacts:
        if vms is None:
            return PlanVmFacts(entry, ())
        if entry.id:  # the id wins, whatever the name says (Forklift: web/vsphere/client.go)
            vm = vms.by_moref(entry.id)
            return PlanVmFacts(entry, (vm,) if vm else ())
        return PlanVmFacts(entry, vms.by_name(entry.name) if entry.name else ())

    def _judged_entries(self) -> Sequence[PlanVm]:
        everything = self.old is None or self.changed & {
            PLAN_TYPE_FIELD,
            SOURCE_PROVIDER_FIELD,
            TARGET_NAMESPACE_FIELD,
        }
        known = {(vm.id, vm.name) for vm in self.old.vms} if self.old and not everything else ()
        return [
            PlanVm(
                vm.index,
                vm.id,
                vm.name,
                judged=(vm.id, vm.name) not in known and vm.id not in self.plan.succeeded,
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
        self.warnings: Sequence[str] = ()

    async def fetch(self, cluster: ClusterReader | None) -> None:
        """The Plan, and the PVCs of its target namespace. Warm and cold ones must not suffer."""
        self.judged = False
        named, field = self._migration.plan, MIGRATION_PLAN_FIELD
        if not self.changed or self._migration.resumes or not named.name:
            return
        if cluster is None:
            self.warnings = (f"{field}: not checked: the guard has no access to the cluster",)
            return
        try:
            obj = await cluster.plan(named.namespace, named.name)
        except ClusterUnreachable as error:
            self.warnings = (f"{field}: not checked: {error}",)
            return
        if obj is None:
            self.warnings = (f"{field}: not checked: there is no Plan {quoted(named)}",)
            return
        plan = PlanQuestion(obj, None, self._sources)
        if plan.remote and plan.judged:
            self.warnings = (
                f"{field}: not checked: the PVCs of {quoted(named)} are in another cluster",
            )
        elif plan.judged:
            await plan.fetch(cluster)
            self._planned, self.judged = plan, True

    @property
    def providers(self) -> Sequence[ProviderInventory]:
        return self._planned.providers

    def facts(
        self, source: ProviderInventory | None, vms: Vms | None, asked: Sequence[ProviderInventory]
    ) -> MigrationFacts:
        return MigrationFacts(plan=self._planned.facts(source, vms, asked))

    def rank(self, facts: MigrationFacts) -> int:
        return 0

    def wanted(self, facts: MigrationFacts, fields: Collection[str]) -> Wanted:
        """Every VM that will run, in one read."""
        run = {vm.entry.field for vm in facts.plan.vms if vm.entry.judged}
        return self._planned.wanted(facts.plan, run)


def _changed(now: Mapping[str, Any], before: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(field for field, value in now.items() if before[field] != value)
