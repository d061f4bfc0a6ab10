"""The proof of a VM's whole disk set: its disks on one side, the PVCs with its labels on the other.

Forklift counts the PVCs, and looks for each disk's only when the VM is off. Here both are done at
once, under its own two filters.
"""

from collections import Counter
from collections.abc import Sequence

import msgspec

from webhook import quantity
from webhook.model.objects import Claim
from webhook.model.vms import Disk, VirtualMachine


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What fits, and everything that doesn't. A PVC may be in several of these."""

    matched: tuple[tuple[Disk, Claim], ...] = ()
    missing: tuple[Disk, ...] = ()
    """Disks that no PVC claims."""
    wrong: tuple[Claim, ...] = ()
    """PVCs whose disk-source is no disk of the VM."""
    duplicate: tuple[Claim, ...] = ()
    """PVCs that claim a disk which another one claims, too."""
    surplus: tuple[Claim, ...] = ()
    """PVCs that Forklift counts and then leaves out: `prime-*`, or without a disk-source."""
    ambiguous: tuple[Disk, ...] = ()
    """Disks whose files Forklift takes for one: it leaves `-000001` and the like out of both."""
    undersized: tuple[tuple[Disk, Claim], ...] = ()
    unbound: tuple[Claim, ...] = ()
    terminating: tuple[Claim, ...] = ()
    not_ready: tuple[Claim, ...] = ()
    claims: tuple[Claim, ...] = ()
    """All that Forklift counts."""


def prove(vm: VirtualMachine, claims: Sequence[Claim]) -> Proof:
    """Hold the disks that Forklift lists of `vm` against its PVCs among `claims`."""
    disks = [disk for disk in vm.disks if disk.listed]
    counted = [c for c in claims if c.vm_id == vm.moref and c.vm_uuid == vm.uuid]
    looked_at = [claim for claim in counted if claim.matchable]
    by_source = {claim.source: claim for claim in looked_at}
    times = Counter(claim.source for claim in looked_at)
    sources = Counter(disk.source for disk in disks)
    matched = tuple((disk, by_source[disk.source]) for disk in disks if disk.source in by_source)
    return Proof(
        matched=matched,
        claims=tuple(counted),
        missing=tuple(disk for disk in disks if disk.source not in by_source),
        wrong=tuple(claim for claim in looked_at if claim.source not in sources),
        duplicate=tuple(claim for claim in looked_at if times[claim.source] > 1),
        surplus=tuple(claim for claim in counted if not claim.matchable),
        ambiguous=tuple(disk for disk in disks if sources[disk.source] > 1),
        undersized=tuple(pair for pair in matched if _too_small(*pair)),
        unbound=tuple(claim for claim in counted if claim.phase != "Bound"),
        terminating=tuple(claim for claim in counted if claim.terminating),
        not_ready=tuple(claim for claim in counted if claim.not_ready is not None),
    )


def _too_small(disk: Disk, claim: Claim) -> bool:
    size = quantity.parse(claim.capacity) if claim.capacity else None
    return size is not None and size < disk.capacity
