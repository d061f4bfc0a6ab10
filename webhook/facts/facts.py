"""What a rule sees of each kind of object."""

from collections.abc import Mapping
from decimal import Decimal
from typing import TypeVar

import msgspec

from webhook.model.forklift import Conversion, ConversionDisk, Plan, PlanVm
from webhook.model.objects import Claim, Provider, Pvc, StorageClass
from webhook.model.vms import Disk, VirtualMachine


class PvcFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A claim, and what one vSphere provider says of the VM that it names."""

    pvc: Pvc
    old: Pvc | None = None
    provider: Provider | None = None
    """The provider that was asked; None while none is known."""
    vm: VirtualMachine | None = None
    """The VM whose moref the claim's vmID is."""
    proven: bool = False
    """The claim names that VM and one of its uuids: to its author the VM is no secret."""
    visible_vm: VirtualMachine | None = None
    """That VM, if its disks may be spoken of."""
    same_uuid: tuple[VirtualMachine, ...] = ()
    """The provider's VMs that have the claim's vmUUID as their config.uuid or instanceUuid."""
    elsewhere: tuple[tuple[Provider, VirtualMachine], ...] = ()
    """The same, of the other providers."""
    matching: tuple[Disk, ...] = ()
    """The disks of `visible_vm` that Forklift would match with the claim's disk-source."""
    twins: tuple[VirtualMachine, ...] = ()
    """Other VMs of the provider with the same config.uuid, such as clones."""
    siblings: tuple[Claim, ...] = ()
    """Other PVCs of the namespace that name the same VM, and aren't being deleted."""
    classes: Mapping[str, StorageClass] | None = None
    """The cluster's storage classes; None where they aren't known."""
    storage: Decimal | None = None
    """spec.resources.requests.storage in bytes; None where it is no quantity."""
    trusted: bool = False
    """Whether this caller may be told what the object itself doesn't prove."""
    complete: bool = True
    """Whether every provider was asked, so that "the only one" means it."""

    @property
    def disk(self) -> Disk | None:
        """The one disk of the VM that Forklift would match with the claim."""
        return self.matching[0] if len(self.matching) == 1 else None


class PlanVmFacts(msgspec.Struct, frozen=True):
    """One entry of spec.vms, and the VMs that it may mean: several only where it goes by name."""

    entry: PlanVm
    found: tuple[VirtualMachine, ...]
    near: tuple[VirtualMachine, ...] = ()
    """VMs that may be meant where none was found; empty unless the caller may know them."""
    namesakes: tuple[VirtualMachine, ...] = ()
    """Other VMs of that name in the same datacenter."""

    @property
    def vm(self) -> VirtualMachine | None:
        """The one VM that is meant, where it is to be judged and can be read."""
        if not self.entry.judged or len(self.found) != 1:
            return None
        vm = self.found[0]
        return None if vm.template or vm.trouble else vm


class PlanFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A conversion Plan and its source provider, with every entry of spec.vms looked up there."""

    plan: Plan
    old: Plan | None = None
    provider: Provider | None = None
    """The source provider, with its type; None where it isn't known."""
    vms: tuple[PlanVmFacts, ...] = ()
    claims: Mapping[tuple[str, str], tuple[Claim, ...]] | None = None
    """The target namespace's PVCs that carry both labels, as they are now, by vmID and vmUUID; None
    where nobody can be asked for them, and where they are in another cluster."""
    classes: Mapping[str, StorageClass] | None = None
    remote: bool = False
    """Whether the destination is another cluster: the PVCs are there."""
    started: bool = False
    """Whether a Migration that hasn't ended names the Plan."""
    trusted: bool = False
    may_list: bool = False
    """Whether this caller may know the names of the target namespace's PVCs."""

    def claims_of(self, vm: VirtualMachine) -> tuple[Claim, ...]:
        """Those that name this VM, as Forklift selects them: both labels, byte for byte."""
        return (self.claims or {}).get((vm.moref, vm.uuid), ())


class MigrationFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A Migration, and the Plan that it starts with everything that a Plan's rules see."""

    plan: PlanFacts
    mounted: Mapping[str, str] = {}
    """PVCs of the target namespace that running pods mount: claim name to pod name."""


class ConversionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A Conversion, the PVCs that it names, and the VM that these name."""

    conversion: Conversion
    named: tuple[tuple[ConversionDisk, Claim | None], ...] | None = None
    """Each of spec.disks; None for one that carries no labels or isn't there. All None where
    nobody can be asked."""
    provider: Provider | None = None
    vm: VirtualMachine | None = None
    proven: bool = False
    classes: Mapping[str, StorageClass] | None = None
    trusted: bool = False
    may_list: bool = False


Facts = PvcFacts | PlanFacts | MigrationFacts | ConversionFacts
F = TypeVar("F", PvcFacts, PlanFacts, MigrationFacts, ConversionFacts)
