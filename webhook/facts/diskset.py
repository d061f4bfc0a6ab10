"""A VM's whole disk set against its PVCs, in words that its audience may hear.

A rule gets findings from here, and neither the proof nor the VM: what it can't see it can't tell.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from webhook.facts import forms, names
from webhook.facts.audience import Audience
from webhook.facts.finding import Finding
from webhook.facts.proof import prove
from webhook.model.keys import SHAREABLE, Action, echoed, quoted
from webhook.model.objects import Claim, StorageClass
from webhook.model.vms import Disk, VirtualMachine

_SHOWN = 3
Pile = Literal["matched", "missing", "surplus", "wrong", "unbound", "copying"]


class Pair(msgspec.Struct, frozen=True):
    """A disk, a PVC, or both; each as far as it may be told."""

    pile: Pile
    disk_source: str | None = None
    """The disk's; of a wrong PVC what it says."""
    claim: str | None = None


class DiskSet:
    """Of `vm`, called `label`, and its PVCs among `claims` of `namespace`.

    Without `keeps_shared` Forklift drops shared disks whose PVCs are not labelled as one's.
    `classes` tell which PVCs bind only when a pod comes. `mounted` are those that running pods
    mount, each with a pod's name. `elsewhere`: the other Plan that converts the VM from the same
    PVCs; empty where it may not be told.
    """

    def __init__(
        self,
        vm: VirtualMachine,
        claims: Sequence[Claim],
        *,
        provider: str,
        audience: Audience,
        label: str,
        namespace: str,
        keeps_shared: bool = True,
        classes: Mapping[str, StorageClass] | None = None,
        mounted: Mapping[str, str] | None = None,
        elsewhere: str | None = None,
    ) -> None:
        self._proof, self._who, self._namespace = prove(vm, claims), label, echoed(namespace)
        self._vms, self._names = audience.knows(provider), audience.claims
        self._dropped = [] if keeps_shared else list(_not_shareable(self._proof.matched))
        dropped = [disk for disk, _ in self._dropped]
        attached = [disk for disk in vm.disks if disk.attached]
        self._any_attached = any(disk not in dropped for disk in attached)
        self._all_dropped = bool(attached) and not self._any_attached
        self._lost = [disk for disk in vm.disks if not disk.attached]
        self._classes, self._mounted = classes, mounted or {}
        self._elsewhere = elsewhere

    def findings(self, field: str, *, strict: bool) -> Iterator[Finding]:
        """One for each kind of fault. `strict`: what may still be on its way is a fault, too."""
        yield from self._identity(field, strict=strict)
        if strict:
            yield from self._readiness(field)

    def _identity(self, field: str, *, strict: bool) -> Iterator[Finding]:
        proof, who = self._proof, self._who
        if proof.missing:
            on_its_way: Action = "deny" if strict else "warn"
            if self._vms:
                total = len(proof.matched) + len(proof.missing)
                files = self._files([disk.disk_source for disk in proof.missing])
                which = f"{len(proof.missing)} of the {total} disks of {who}{files}"
            else:
                which = f"some disk of {who}"
            fix = "create one for each before the Migration"
            message = f"no PVC in {self._namespace} for {which}: {fix}"
            yield Finding(field, message, "FieldValueRequired", on_its_way)
        if proof.wrong:
            fix = "correct the disk-source, or remove the labels"
            there = f"{self._claims(proof.wrong)} with a disk-source that is not a disk of {who}"
            yield Finding(field, f"{there}: {fix}")
        if proof.duplicate:
            there = self._claims(proof.duplicate)
            message = f"{there} for the same disk of {who}: keep one for each disk"
            yield Finding(field, message, "FieldValueDuplicate")
        if proof.surplus:
            fix = "Forklift counts such a PVC but never attaches it: remove the labels"
            there = self._claims(proof.surplus)
            yield Finding(field, f"{there} of {who} without a disk-source: {fix}")
        if proof.ambiguous:
            count = f"{len(proof.ambiguous)} disks" if self._vms else "two disks"
            which = self._files([disk.file for disk in proof.ambiguous])
            fix = forms.apart(proof.ambiguous)
            message = f"Forklift can't tell {count} of {who} apart{which}: {fix}"
            yield Finding(field, message, "FieldValueDuplicate")

    def _readiness(self, field: str) -> Iterator[Finding]:
        proof = self._proof
        if proof.undersized:
            there = self._are([claim for _, claim in proof.undersized])
            yield Finding(field, f"{there} smaller than the disk: enlarge to its size")
        if proof.terminating:
            there = self._are(proof.terminating)
            yield Finding(field, f"{there} being deleted: create a new PVC for the disk")
        if unbound := self._unbound(waiting=False):
            fix = "wait until the volume is there"
            yield Finding(field, f"{self._are(unbound)} not bound to a volume: {fix}")
        if proof.not_ready:
            why = f" ({echoed(proof.not_ready[0].not_ready)})" if self._names else ""
            message = f"{self._are(proof.not_ready)} marked as not ready{why}"
            yield Finding(field, f"{message}: wait until the vendor's copy is complete")

    def names(self, field: str) -> Iterator[Finding]:
        """One for each PVC whose name no volume of the conversion pod can have."""
        faults = ((claim, names.fault(claim.name)) for _, claim in self._proof.matched)
        found = [(claim, fault) for claim, fault in faults if fault]
        if found and not self._names:
            yield Finding(field, f"a PVC of {self._who} has a name that {names.NONE}")
            return
        for claim, fault in found:
            yield Finding(field, f"{quoted(claim.name)} of {self._who} {fault}")

    def attached(self, field: str) -> Iterator[Finding]:
        """One where Forklift attaches none of the disks."""
        if not self._any_attached:
            fix = "move a disk to a SCSI, SATA, IDE or NVMe controller, with a flat file"
            if self._all_dropped:
                label = f'label the PVCs of its shared disks {SHAREABLE}: "true"'
                fix = f"{label}, or write migrateSharedDisks: true"
            yield Finding(field, f"Forklift attaches no disk of {self._who}: {fix}")

    def owned(self, field: str, fix: str) -> Iterator[Finding]:
        """One where a VirtualMachine owns a PVC of the set. `fix` is how the VM is left out."""
        if claims := [claim for claim in self._proof.claims if claim.owned]:
            why = "that VM is converted already"
            yield Finding(field, f"{self._are(claims)} owned by a VirtualMachine: {why}: {fix}")

    def read_only(self, field: str) -> Iterator[Finding]:
        """One where a PVC of the set can only be read."""
        if claims := [claim for claim in self._proof.claims if claim.read_only]:
            fix = "a conversion writes: create each PVC with ReadWriteMany"
            yield Finding(field, f"{self._are(claims)} only to be read (ReadOnlyMany): {fix}")

    def unscheduled(self, field: str) -> Iterator[Finding]:
        """One where a PVC is bound only when the conversion pod comes."""
        if claims := self._unbound(waiting=True):
            there = f"{self._are(claims)} not bound until the pod runs"
            fix = "a pod that waits 5 minutes fails, and leaves a Plan hanging with the VM off"
            yield Finding(field, f"{there}: {fix}")

    def in_use(self, field: str) -> Iterator[Finding]:
        """One for each matched PVC that a running pod mounts."""
        used = [claim for _, claim in self._proof.matched if claim.name in self._mounted]
        fix = "stop the pod first"
        if self._elsewhere is not None:  # whose pod it may well be
            fix = "wait until the other Plan's Migration has ended, or cancel it"
        message = f"{fix}: a running pod mounts a PVC of {self._who}"
        if used and not self._names:
            worst: Action = "deny" if any(claim.exclusive for claim in used) else "warn"
            yield Finding(field, message, at_most=worst)
            return
        for claim in used:
            which = f"PVC {quoted(claim.name)}, pod {quoted(self._mounted[claim.name])}"
            at_most: Action = "deny" if claim.exclusive else "warn"
            yield Finding(field, f"{message} ({which})", at_most=at_most)

    def elsewhere(self, field: str) -> Iterator[Finding]:
        """One where another Plan converts the VM from the same PVCs."""
        if self._elsewhere is not None:
            which = f"Plan {quoted(self._elsewhere)}" if self._elsewhere else "another Plan"
            there = f"{self._who} is also in {which}, whose Migration has not ended"
            yield Finding(field, f"{there}: wait until it has, or cancel it")

    @property
    def follows(self) -> bool:
        """Whether the vendor says of each PVC that it follows its disk until the VM is off."""
        return all(claim.in_sync for _, claim in self._proof.matched)

    @property
    def bases_only(self) -> bool:
        """Whether a disk has a snapshot, and nobody says that its PVC has the delta, too."""
        return any(disk.is_delta and not claim.in_sync for disk, claim in self._proof.matched)

    def lost(self, field: str) -> Iterator[Finding]:
        """One where the new VM lacks a disk, though the conversion succeeds."""
        if self._vms and self._lost and self._any_attached:
            which = self._files([disk.file for disk in self._lost])
            fix = "move the disk to a SCSI controller, as a flat file"
            yield Finding(field, f"{fix}, or the new VM lacks a disk of {self._who}{which}")

    def modes(self, field: str) -> Iterator[Finding]:
        """One where the PVCs have two volume modes."""
        if len({claim.volume_mode for claim in self._proof.claims}) > 1:
            fix = "write one volumeMode for all PVCs"
            message = f"{fix} of {self._who}: Filesystem is counted before Block, whatever the disk"
            yield Finding(field, message)

    def not_shareable(self, field: str) -> Iterator[Finding]:
        """One where a shared disk is dropped, because its PVC isn't labelled as one's."""
        if self._vms and self._any_attached and self._dropped:
            fix = f'label the PVC {SHAREABLE}: "true", with disk-source as vSphere shows the file'
            dropped = self._claims([claim for _, claim in self._dropped])
            there = f"{dropped} of {self._who} for a shared disk"
            why = "migrateSharedDisks is false, and Forklift drops it"
            yield Finding(field, f"{fix}: {there}: {why}")

    def pairs(self) -> Iterator[Pair]:
        """Every disk and PVC once for each pile that it is in."""
        proof = self._proof
        for disk, claim in proof.matched:
            yield self._pair("matched", disk, claim)
        for disk in proof.missing:
            yield self._pair("missing", disk, None)
        piles: dict[Pile, tuple[Claim, ...]] = {
            "surplus": (*proof.surplus, *proof.duplicate),
            "wrong": proof.wrong,
            "unbound": proof.unbound,
            "copying": proof.not_ready,
        }
        for pile, claims in piles.items():
            for claim in claims:
                yield self._pair(pile, None, claim)

    def _pair(self, pile: Pile, disk: Disk | None, claim: Claim | None) -> Pair:
        source = disk.disk_source if disk and self._vms else None
        if claim and self._names and source is None:
            source = claim.disk_source or None
        return Pair(pile, source, claim.name if claim and self._names else None)

    def _files(self, files: Sequence[str]) -> str:
        """` ("[ds] a.vmdk", …)`; nothing for those who may not know them."""
        if not self._vms:
            return ""
        more = ", …" if len(files) > _SHOWN else ""
        return f" ({', '.join(quoted(file) for file in files[:_SHOWN])}{more})"

    def _claims(self, claims: Sequence[Claim]) -> str:
        """`2 PVCs ("a", "b")`; neither names nor number for those who may not list them."""
        if not self._names:
            return "a PVC"
        count = f"{len(claims)} PVC{'s' if len(claims) > 1 else ''}"
        shown = ", ".join(quoted(name) for name in sorted(c.name for c in claims)[:_SHOWN])
        return f"{count} ({shown}{', …' if len(claims) > _SHOWN else ''})"

    def _are(self, claims: Sequence[Claim]) -> str:
        """`2 PVCs ("a", "b") of vm-7 are`."""
        several = self._names and len(claims) > 1
        return f"{self._claims(claims)} of {self._who} {'are' if several else 'is'}"

    def _unbound(self, *, waiting: bool) -> list[Claim]:
        """Those that aren't bound yet. A PVC that a populator fills when its first pod comes may
        well be unbound until then: it is `waiting`."""
        found = []
        for claim in self._proof.unbound:
            storage = self._classes.get(claim.storage_class) if self._classes else None
            waits = claim.pending and claim.populated and storage is not None and storage.waits
            if waits is waiting:
                found.append(claim)
        return found


def _not_shareable(matched: Sequence[tuple[Disk, Claim]]) -> Iterator[tuple[Disk, Claim]]:
    """The shared disks that Forklift looks for another PVC of (Forklift: vsphere/builder.go,
    mapDisks)."""
    for disk, claim in matched:
        if disk.shared and not (claim.shareable and claim.disk_source == disk.file):
            yield disk, claim
