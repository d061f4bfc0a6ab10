"""What a rule sees, and what it says: frozen facts in, findings out.

A rule is a pure function; so is a default, which yields patch operations.
"""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Generic, Literal, TypeVar

import msgspec

from webhook.kube import Claim, StorageClass
from webhook.model import (
    Action,
    Conversion,
    ConversionDisk,
    Disk,
    Plan,
    PlanVm,
    Provider,
    Pvc,
    VirtualMachine,
)

Reason = Literal[
    "FieldValueInvalid", "FieldValueRequired", "FieldValueDuplicate", "FieldValueForbidden"
]


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong: a field path, and a sentence that says what would be right.

    `at_most` caps the rule's action, where a case is milder than the rule.
    """

    field: str
    message: str
    reason: Reason = "FieldValueInvalid"
    at_most: Action = "deny"
    certain: bool = False
    """Whether it holds whatever vSphere says, though its rule asks vSphere."""
    expected: str | None = None
    """The one right value, where there is one; never more than the message tells."""


class Unknown(msgspec.Struct, frozen=True):
    """One thing that can't be told now, and why: it makes the verdict undecided, never a denial."""

    field: str
    message: str


class PatchOp(msgspec.Struct, frozen=True):
    """One change at a leaf: `path` is of keys and indexes, as in ("metadata", "labels", "vmID")."""

    op: Literal["add", "remove"]
    path: tuple[str | int, ...]
    value: Any = None


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


class Rule(msgspec.Struct, Generic[F], frozen=True, kw_only=True):
    """`check`, and what the engine must know to run it."""

    id: str
    facts: type[F]
    reads: frozenset[str]
    """Field paths: on an UPDATE that changes none of them the rule doesn't run."""
    check: Callable[[F], Iterator[Finding | Unknown]]
    asks_vsphere: bool = True
    """Whether its findings rest on the inventory, so that a denial needs a fresh read."""
    action: Action = "deny"
    gate: bool = False
    """Whether it proves a whole disk set: a namespace's label doesn't lower it by itself."""


AnyRule = Rule[PvcFacts] | Rule[PlanFacts] | Rule[MigrationFacts] | Rule[ConversionFacts]


class Default(msgspec.Struct, Generic[F], frozen=True, kw_only=True):
    """`fill` yields what to write where only one answer is right and isn't there yet."""

    id: str
    facts: type[F]
    reads: frozenset[str]
    """As for a rule: a default acts on what this request adds or changes, and on nothing else."""
    fill: Callable[[F], Iterator[PatchOp]]
    asks_vsphere: bool = False
    on: bool = True
