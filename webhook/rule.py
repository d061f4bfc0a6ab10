"""What a rule sees, and what it says: frozen facts in, findings out.

A rule is a pure function; so is a default, which yields patch operations.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Generic, Literal, TypeVar

import msgspec

from webhook.claims import Claim
from webhook.model import Action, Disk, Plan, PlanVm, Provider, Pvc, VirtualMachine

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
    claimed_by: tuple[Claim, ...] = ()
    """Other PVCs of the namespace that claim the same disk, and aren't being deleted."""
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


class PlanFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A conversion Plan and its source provider, with every entry of spec.vms looked up there."""

    plan: Plan
    old: Plan | None = None
    provider: Provider | None = None
    """The source provider, with its type; None where it isn't known."""
    vms: tuple[PlanVmFacts, ...] = ()
    claims: tuple[Claim, ...] | None = None
    """The target namespace's PVCs that carry both labels, as they are now; None where nobody can
    be asked for them, and where they are in another cluster."""
    trusted: bool = False


class MigrationFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A Migration, and the Plan that it starts with everything that a Plan's rules see."""

    plan: PlanFacts


F = TypeVar("F", PvcFacts, PlanFacts, MigrationFacts)


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


class Default(msgspec.Struct, Generic[F], frozen=True, kw_only=True):
    """`fill` yields what to write where only one answer is right and isn't there yet."""

    id: str
    facts: type[F]
    reads: frozenset[str]
    """As for a rule: a default acts on what this request adds or changes, and on nothing else."""
    fill: Callable[[F], Iterator[PatchOp]]
    asks_vsphere: bool = False
    on: bool = True
