"""What a rule sees of each kind of object: frozen, and without what the caller may not know.

`told` in a docstring means: there only where the audience may know it (webhook.facts.audience).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import ClassVar, Literal, TypeVar

import msgspec

from webhook.facts import forms
from webhook.facts.diskset import DiskSet
from webhook.facts.finding import Finding
from webhook.facts.lookup import Outcome
from webhook.model.forklift import Conversion, ConversionDisk, Plan, PlanVm, Release
from webhook.model.keys import CONVERSION_DISKS_FIELD, MIGRATION_PLAN_FIELD, PLAN_FIELDS, quoted
from webhook.model.objects import (
    Claim,
    Provider,
    Pvc,
    Standing,
    StorageClass,
    Surroundings,
    to_follow,
)
from webhook.model.vms import Disk, VirtualMachine

Identity = Literal["incomplete", "unknown", "unread", "differs", "form", "case", "instance", "same"]
"""How vmID and vmUUID fit one provider's VM of that moref. `incomplete`: not both are there.
`unknown`: no VM has that moref; to a caller who may not know the provider that is `differs`, too.
`unread`: vSphere can't tell now. `form`: the uuid in another form. With it, `case`, `instance` and
`same` the VM is proven."""

_SHOWN = 3

Owner = tuple[Provider, VirtualMachine]


class PvcFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A claim, and what one vSphere provider says of the VM that it names."""

    pvc: Pvc
    old: Pvc | None = None
    identity: Identity = "incomplete"
    provider: Provider | None = None
    """Told: the provider that was asked."""
    vm: VirtualMachine | None = None
    """Told: the VM whose moref the claim's vmID is, in whatever form."""
    matching: tuple[Disk, ...] = ()
    """The disks of `vm` that Forklift would match with the claim's disk-source."""
    twins: tuple[VirtualMachine, ...] = ()
    """Told: other VMs of the provider with the same config.uuid, such as clones."""
    same_moref: tuple[Owner, ...] = ()
    """Told, and then complete: the VMs of all providers that have the claim's vmID."""
    same_uuid: tuple[Owner, ...] = ()
    """Told, and then complete: those that have its vmUUID as config.uuid or instanceUuid."""
    siblings: tuple[Claim, ...] = ()
    """Other PVCs of the namespace that name the same VM, and aren't being deleted."""
    classes: Mapping[str, StorageClass] | None = None
    """The cluster's storage classes; None where they aren't known."""
    storage: Decimal | None = None
    """spec.resources.requests.storage in bytes; None where it is no quantity."""

    @property
    def disk(self) -> Disk | None:
        """The one disk of the VM that Forklift would match with the claim."""
        return self.matching[0] if len(self.matching) == 1 else None

    def unclaimed(self, disks: Sequence[Disk]) -> Sequence[Disk]:
        """Those that no other claim names; where none is left, all of them."""
        named = {claim.source for claim in self.siblings}
        return [disk for disk in disks if disk.source not in named] or disks

    @property
    def proven(self) -> bool:
        """Whether the claim names that VM and one of its uuids: to its author it is no secret."""
        return self.identity in ("form", "case", "instance", "same")

    @property
    def meant_uuid(self) -> str:
        """The uuid of `vm` that the claim's vmUUID is, in whatever form; empty where it is none."""
        return forms.meant(self.vm, (self.pvc.vm_uuid or "").strip()) if self.vm else ""

    @property
    def other_form(self) -> tuple[str, Disk | None]:
        """The form of a disk-source that is no disk's, and the one disk that it means, if any."""
        source, vm = self.pvc.disk_source, self.vm
        if not source or self.matching or vm is None or not self.certain:
            return "", None
        reading = forms.file(source.strip(), vm.disks)
        return (reading.form, forms.only(vm.disks, reading.value)) if reading else ("", None)

    @property
    def certain(self) -> bool:
        """Whether the claim can mean no other VM than `vm`, of whatever provider."""
        return self.proven or (self.vm is not None and len(self.same_moref) == 1)


class PlanVmFacts(msgspec.Struct, frozen=True):
    """One entry of spec.vms, looked up (webhook.facts.lookup)."""

    entry: PlanVm
    outcome: Outcome
    """To a caller who may not know the provider `none` stands for `several` and `template`, too."""
    told: bool = True
    """Whether the caller may know what the provider has."""
    judged: bool = True
    """Whether this request sets or changes what a rule reads of it, and it will run."""
    is_new: bool = True
    """Whether this request adds or changes the entry itself."""
    label: str = ""
    """The entry in words: its own; or, told, the VM's moref and name."""
    twin: int | None = None
    """The index of an earlier entry, or one that was there before, which means the same VM."""
    vm: VirtualMachine | None = None
    """Told: the one VM that is meant, where it can be read."""
    begun: bool = False
    """Whether its conversion runs now, with the VM off: nothing can be proved of it."""
    copied: bool = False
    """Whether a conversion that is resumed runs it: its disks were in place."""
    back_on: bool = False
    """Whether it is one of these, and the VM is on again."""
    name_of_another: bool = False
    """Whether the entry's name is that of another VM than its id."""
    unread: bool = False
    """Whether vSphere can't tell the VM's disks now."""
    trouble: str = ""
    """Told: why."""
    candidates: tuple[VirtualMachine, ...] = ()
    """Told: the VMs that a name of several may mean."""
    near: tuple[VirtualMachine, ...] = ()
    """Told: VMs that may be meant where none was found."""
    namesakes: tuple[VirtualMachine, ...] = ()
    """Told: other VMs of that name in the same datacenter."""
    disks: DiskSet | None = None
    """The VM's disks against its PVCs; None where either can't be had, or `begun`."""
    long_name: bool = False
    """Whether the new VM keeps a name that is too long for a label."""
    no_instance_type: bool = False
    """Whether the entry names an instance type that isn't there."""
    no_luks: bool = False
    """Told: whether it names a LUKS Secret that isn't there."""

    def unproven(self, field: str, who: str) -> Iterator[Finding]:
        """Why the VM, called `who`, may not be shut down now: its disks and PVCs are no pairs."""
        if self.unread:
            yield Finding(field, f"{who} {self.trouble or _UNREAD}: fix that first")
        elif self.disks is not None:
            yield from self.disks.attached(field)
            yield from self.disks.findings(field, strict=True)


_UNREAD = "can't be read in vSphere now"


class PlanFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A conversion Plan and its source provider, with every entry of spec.vms looked up there."""

    plan: Plan
    old: Plan | None = None
    changed: frozenset[str] = PLAN_FIELDS
    """Those of PLAN_FIELDS that this request sets or changes."""
    provider: Provider | None = None
    """The source provider, with its type; None where it isn't known."""
    standing: Standing | None = None
    """How the source provider stands where it isn't known; None where nobody could be asked."""
    near: tuple[Provider, ...] = ()
    """Told: those that may be meant by a source provider that isn't known."""
    vms: tuple[PlanVmFacts, ...] = ()
    remote: bool | None = False
    """Whether the destination is another cluster, where the PVCs are; None where nobody knows."""
    started: bool = False
    """Whether a Migration that hasn't ended names the Plan."""
    begins: bool = False
    """Whether what this request adds begins at once, for the Plan has been started."""
    target: Standing = "unknown"
    """How the target namespace stands."""
    release: Release | None = None
    """The cluster's Forklift; None where nobody has looked."""
    surroundings: Surroundings = Surroundings()
    """Told: what counts for a pod in the target namespace."""

    def may_be_there(self, what: str) -> str:
        """Why the source provider that isn't known may be there all the same, to follow "is not
        known"; empty where it isn't there. `what` is to be corrected, if it is not."""
        if self.standing == "absent":
            return ""
        if self.standing == "unknown":
            return f": {to_follow(self.plan.source)}"
        return f" yet: try again, or correct {what}"

    def judging(self, *, everything: bool) -> "PlanFacts":
        """With all entries to be judged, or only those that this request adds or changes."""
        if everything:
            return self
        vms = tuple(
            vm if vm.is_new else msgspec.structs.replace(vm, judged=False) for vm in self.vms
        )
        return msgspec.structs.replace(self, vms=vms)

    @property
    def known(self) -> tuple[tuple[PlanVmFacts, VirtualMachine], ...]:
        """The entries to be judged whose VM may be told."""
        return tuple((one, one.vm) for one in self.vms if one.judged and one.vm is not None)


class ConvertingFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What converts whole disk sets: a Migration, or a Conversion made by hand. A rule of these
    judges both."""

    field: ClassVar[str]
    """Where a finding on a disk set belongs."""
    leave_out: ClassVar[str]
    """How a VM is left out of it."""

    @property
    def sets(self) -> Iterable[tuple[DiskSet, int | None]]:
        """Each with the index of its VM in the Plan's spec.vms."""
        raise NotImplementedError

    def found(self, ask: Callable[[DiskSet, str], Iterator[Finding]]) -> Iterator[Finding]:
        """What `ask` finds of each disk set, at a field."""
        for disks, entry in self.sets:
            for one in ask(disks, self.field):
                yield msgspec.structs.replace(one, entry=entry)


class MigrationFacts(ConvertingFacts, frozen=True, kw_only=True):
    """A Migration, and the Plan that it starts with everything that a Plan's rules see."""

    field = MIGRATION_PLAN_FIELD
    leave_out = "remove it from the Plan"

    plan: PlanFacts
    resumes: bool = False
    """spec.resumeConversion: Forklift itself proves the disks."""
    runs: bool = False
    """Whether Forklift has begun it: what has begun of the Plan is its own doing."""

    @property
    def sets(self) -> Iterable[tuple[DiskSet, int | None]]:
        return [(disks, one.entry.index) for one, disks in self.running]

    @property
    def running(self) -> tuple[tuple[PlanVmFacts, DiskSet], ...]:
        """The entries that will run, whose disks are to be held against their PVCs, and can be."""
        vms = (one for one in self.plan.vms if one.judged and (one.copied or not self.resumes))
        return tuple((one, one.disks) for one in vms if one.disks is not None)

    def counted(self, that: Callable[[VirtualMachine, DiskSet], bool]) -> str:
        """`2 of 5 VMs ("vm-7", "vm-9") are`: those `that` says so of, and may be told; or empty."""
        known = [(one.vm, disks) for one, disks in self.running if one.vm is not None]
        found = [vm.moref for vm, disks in known if that(vm, disks)]
        if not found:
            return ""
        shown = ", ".join(map(quoted, found[:_SHOWN])) + (", …" if len(found) > _SHOWN else "")
        are = "is" if len(found) == 1 else "are"
        return f"{len(found)} of {len(self.running)} VMs ({shown}) {are}"


class ConversionFacts(ConvertingFacts, frozen=True, kw_only=True):
    """A Conversion, the PVCs that it names, and the VM that these name."""

    field = CONVERSION_DISKS_FIELD
    leave_out = "it needs no Conversion"

    conversion: Conversion
    remote: bool | None = False
    """Whether the destination is another cluster; None where nobody knows."""
    named: tuple[tuple[ConversionDisk, Claim | None], ...] | None = None
    """Each of spec.disks; None for one that carries no labels or isn't there. All None where
    the cluster can't be asked."""
    provider: Provider | None = None
    """Told: the provider that was asked."""
    outcome: Literal["one", "none", "template", "unread"] = "none"
    """What the PVCs' labels mean: `one` VM whose moref and config.uuid they have."""
    trouble: str = ""
    disks: DiskSet | None = None
    """That VM's disks against the PVCs."""

    @property
    def sets(self) -> Iterable[tuple[DiskSet, int | None]]:
        return () if self.disks is None else [(self.disks, None)]


Facts = PvcFacts | PlanFacts | ConvertingFacts
F = TypeVar("F", bound=Facts)
