"""A Plan under review, and everything that has been asked for it."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from webhook.engine.ask import Seen, ToRead, Views, changed, everything, judged_before
from webhook.engine.ask.elsewhere import Converted
from webhook.engine.ask.named import Named
from webhook.engine.sources import Sources
from webhook.facts import labels
from webhook.facts.audience import Audience
from webhook.facts.diskset import DiskSet
from webhook.facts.facts import PlanFacts, PlanVmFacts
from webhook.facts.lookup import Meant, alike, look_up
from webhook.inventory.index import Index, Vms
from webhook.inventory.provider import ProviderInventory
from webhook.model.forklift import Plan, PlanVm, Release
from webhook.model.keys import MOREF, PLAN_FIELDS, PLAN_VMS_FIELD, Action, quoted
from webhook.model.objects import Claim, KubeObject, Provider, Standing, StorageClass, Surroundings
from webhook.model.review import Cause
from webhook.model.vms import VirtualMachine

_ENTRY = re.compile(rf"{re.escape(PLAN_VMS_FIELD)}\[(\d+)\]", re.ASCII)
_NOTHING = Index()


class PlanSubject(msgspec.Struct, frozen=True):
    """A Plan, and what it was before."""

    plan: Plan
    old: Plan | None
    changed: frozenset[str]
    new: tuple[bool, ...]
    """Of each entry of spec.vms, whether this request adds or changes it."""

    @property
    def judged(self) -> bool:
        return self.plan.judged


def subject(obj: KubeObject, old: KubeObject | None) -> PlanSubject:
    """See webhook.engine.ask.Asking."""
    plan, before = Plan.of(obj), judged_before(Plan.of, old)
    fields = changed(plan.fields, before.fields) if before else PLAN_FIELDS
    return PlanSubject(plan, before, fields, tuple(_new(plan, before)))


def _new(plan: Plan, before: Plan | None) -> Iterable[bool]:
    """An entry is as it was only as often as it was there: one that is added twice is new."""
    there = Counter(vm.meant for vm in before.vms) if before else Counter[PlanVm]()
    for vm in plan.vms:
        there[vm.meant] -= 1
        yield there[vm.meant] < 0


class AskedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """See webhook.engine.ask.Asked."""

    subject: PlanSubject
    source: ProviderInventory | None
    """The source Provider, of whatever type; None where it isn't known."""
    remote: bool | None = False
    """See webhook.engine.ask.destination."""
    classes: Mapping[str, StorageClass] | None
    release: Release | None = None
    audience: Audience = Audience()
    claims: Mapping[tuple[str, str], tuple[Claim, ...]] | None = None
    """The target namespace's PVCs that carry both labels, by vmID and vmUUID; None where the
    cluster can't be asked for them."""
    started: bool = False
    standing: Standing | None = None
    """How the source provider stands where it isn't known; None where nobody could be asked."""
    alike: tuple[Provider, ...] = ()
    """Providers that may be meant by one that isn't known."""
    near: Mapping[str, tuple[VirtualMachine, ...]] = {}
    mounted: Mapping[str, str] = {}
    """Those of them that running pods mount."""
    elsewhere: Converted = {}
    named: Named = Named()
    surroundings: Surroundings = Surroundings()

    at_most: Action = "deny"
    any_provider = False
    veil: Cause | None = None
    warnings: tuple[str, ...] = ()
    names_plan: tuple[str, str] | None = None

    @property
    def judged(self) -> bool:
        return self.subject.judged

    @property
    def gate(self) -> bool:
        """See Asked. A Plan that has been started needs no other start. One that executes, and is
        no request, is audited: its own pods and VMs have the PVCs by now."""
        plan = self.subject.plan
        if plan.executing:
            return self.subject.old is not None and bool(self.changed)
        return self.started and bool(self.changed)

    @property
    def changed(self) -> frozenset[str]:
        return self.subject.changed

    @property
    def namespace(self) -> str:
        return self.subject.plan.target_namespace

    @property
    def vms(self) -> Iterable[str]:
        new = zip(self.subject.plan.vms, self.subject.new, strict=True)
        return [entry.id or entry.name for entry, is_new in new if is_new]

    @property
    def providers(self) -> Sequence[ProviderInventory]:
        source = self.source
        return (source,) if source and source.provider.type == "vsphere" else ()

    def about(self, subject: PlanSubject) -> "AskedPlan":
        """The same for the Plan as a default has left it."""
        return msgspec.structs.replace(self, subject=subject)

    async def confirmed(self, sources: Sources) -> "AskedPlan":
        """See Asked: it was asked live."""
        return self

    def facts_for(self, reads: frozenset[str], facts: PlanFacts) -> PlanFacts | None:
        """See Asked."""
        if self.subject.old is None:
            return facts
        if not reads & self.changed:
            return None
        return facts.judging(everything=everything(reads, self.changed))

    def rank(self, source: ProviderInventory, views: Views) -> int:
        """See Asked: the Plan names its provider."""
        return 0

    def seen(self, source: ProviderInventory | None, views: Views) -> Seen[PlanFacts]:
        """See Asked."""
        vms = views.get(source.name) if source else None
        plan = self.subject.plan
        return Seen(
            PlanFacts(
                plan=plan,
                old=self.subject.old,
                changed=self.changed,
                provider=self.source.provider if self.source else None,
                standing=self.standing,
                near=self.alike,
                vms=tuple(self._entries(vms)),
                remote=self.remote,
                started=self.started,
                begins=self.gate,
                target=self.named.target(plan),
                release=self.release,
                surroundings=self.surroundings if self.audience.claims else Surroundings(),
            ),
            told=True,  # the Plan names it
        )

    def _entries(self, vms: Vms | None) -> Iterable[PlanVmFacts]:
        """Each entry; nothing is found where no word counts, and the verdict is in doubt."""
        plan, new, vms = self.subject.plan, self.subject.new, vms if vms is not None else _NOTHING
        meant = [look_up(vm.id, vm.name, vms, plan.succeeded) for vm in plan.vms]
        first: dict[str, int] = {}
        for of_new in (False, True):  # what was there before has its place, wherever it stands
            for index, one in enumerate(meant):
                if one.outcome == "one" and new[index] is of_new:
                    first.setdefault(one.vms[0].moref, index)
        for index, (entry, one) in enumerate(zip(plan.vms, meant, strict=True)):
            twin = first.get(one.vms[0].moref, index) if one.outcome == "one" else index
            yield self._entry(entry, one, vms, new[index], twin if twin != index else None)

    def _entry(
        self, entry: PlanVm, meant: Meant, vms: Vms, is_new: bool, twin: int | None
    ) -> PlanVmFacts:
        source = self.source
        told = source is not None and self.audience.knows(source.name)
        vm = meant.vms[0] if meant.outcome == "one" else None
        label = str(vm) if vm and told else quoted(entry.id or entry.name)
        outcome = meant.outcome
        if not told and outcome in ("several", "template"):
            outcome = "none"
        readable = vm is not None and not vm.trouble
        plan = self.subject.plan
        begun = vm is not None and vm.moref in plan.begun
        copied = vm is not None and vm.moref in plan.copied
        return PlanVmFacts(
            entry=entry,
            outcome=outcome,
            told=told,
            judged=outcome != "done",
            is_new=is_new,
            label=label,
            twin=twin,
            vm=vm if told and readable else None,
            begun=begun,
            copied=copied,
            back_on=copied and vm is not None and vm.power_state == "poweredOn",
            name_of_another=vm is not None and _is_another(entry, vm, vms),
            unread=vm is not None and not readable and not begun,
            trouble=(vm.trouble or "") if vm and told else "",
            candidates=meant.vms if told and outcome == "several" else (),
            near=self.near.get(entry.name, ()) if told and outcome == "none" else (),
            namesakes=_namesakes(vm, vms) if vm and told else (),
            disks=self._disks(vm, label, entry) if vm and readable and not begun else None,
            long_name=vm is not None and not entry.target_name and labels.is_long_name(vm.name),
            no_instance_type=self.named.no_instance_type(plan, entry),
            no_luks=self.audience.secrets and self.named.no_luks(plan, entry),
        )

    def _disks(self, vm: VirtualMachine, label: str, entry: PlanVm) -> DiskSet | None:
        if self.claims is None:
            return None
        own = entry.migrates_shared
        return DiskSet(
            vm,
            self.claims.get((vm.moref, vm.uuid), ()),
            provider=self.source.name if self.source else "",
            audience=self.audience,
            label=label,
            namespace=self.namespace,
            keeps_shared=self.subject.plan.migrates_shared if own is None else own,
            classes=self.classes,
            mounted=self.mounted,
            elsewhere=self.elsewhere.get((vm.moref, vm.uuid)),
        )

    def wanted(self, facts: PlanFacts, fields: Collection[str]) -> ToRead:
        """See Asked."""
        if self.gate:
            return self.wanted_of(vm.entry for vm in facts.vms if vm.judged)
        flagged = {int(found[1]) for field in fields if (found := _ENTRY.match(field))}
        return self.wanted_of(vm.entry for vm in facts.vms if vm.entry.index in flagged)

    def wanted_of(self, entries: Iterable[PlanVm]) -> ToRead:
        """What to read afresh to know these entries: the VMs that count for what they mean now,
        and whatever has their names meanwhile."""
        vms = self.source.vms if self.source else _NOTHING
        morefs: set[str] = set()
        names: set[str] = set()
        for entry in entries:
            if MOREF.fullmatch(entry.id):
                morefs.add(entry.id)
            elif not entry.id and entry.name:
                names.add(entry.name)
            if entry.name:
                morefs.update(vm.moref for vm in alike(entry.name, vms))
        return ToRead(morefs, (), names)


def _is_another(entry: PlanVm, vm: VirtualMachine, vms: Vms) -> bool:
    """Whether the name beside an id is another VM's: Forklift shuts down the one of the id."""
    if not (entry.id and entry.name) or entry.name == vm.name:
        return False
    named = look_up("", entry.name, vms)
    return bool(named.vms) and vm not in named.vms


def _namesakes(vm: VirtualMachine, vms: Vms) -> tuple[VirtualMachine, ...]:
    others = [other for other in vms.named(vm.name) if other.moref != vm.moref]
    if not others:
        return ()
    place = vms.datacenter(vm)
    return tuple(other for other in others if vms.datacenter(other) == place)
