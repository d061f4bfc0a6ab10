"""A proof in words: what is wrong with a VM's disk set, as far as the reader may know it."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from webhook.facts.proof import Proof
from webhook.facts.rule import Finding
from webhook.model.keys import Action, quoted
from webhook.model.objects import Claim, StorageClass
from webhook.model.vms import VirtualMachine

_SHOWN = 3


class Reader(msgspec.Struct, frozen=True):
    """What the reader may know."""

    vms: bool
    """Names of VMs, and their disks."""
    claims: bool
    """Names of the namespace's PVCs."""
    moref: bool = True
    """Which VM it is about."""


def told(
    proof: Proof,
    vm: VirtualMachine,
    field: str,
    namespace: str,
    reader: Reader,
    classes: Mapping[str, StorageClass] | None,
    *,
    strict: bool,
) -> Iterator[Finding]:
    """A finding for each kind of fault, on `field`. `namespace` is quoted.

    `strict`: what may still be on its way is a fault, too. `classes` tell which PVCs bind only when
    a pod comes.
    """
    on_its_way: Action = "deny" if strict else "warn"
    who = str(vm) if reader.vms else quoted(vm.moref) if reader.moref else "their VM"
    disks = len(proof.matched) + len(proof.missing)

    def names(claims: Sequence[Claim]) -> str:
        """`2 PVCs ("a", "b")`; no names for those who may not list them."""
        count = f"{len(claims)} PVC{'s' if len(claims) > 1 else ''}"
        if not reader.claims:
            return count
        shown = ", ".join(quoted(name) for name in sorted(c.name for c in claims)[:_SHOWN])
        return f"{count} ({shown}{', …' if len(claims) > _SHOWN else ''})"

    if missing := proof.missing:
        files = ", ".join(quoted(disk.disk_source) for disk in missing[:_SHOWN])
        which = f" ({files})" if reader.vms else ""
        message = f"no PVC in {namespace} for {len(missing)} of the {disks} disks of {who}{which}"
        fix = "make one for each before the Migration"
        yield Finding(field, f"{message}: {fix}", "FieldValueRequired", on_its_way)
    if proof.wrong:
        fix = "correct the disk-source, or take the labels away"
        yield Finding(field, f"{names(proof.wrong)} with no disk of {who} as disk-source: {fix}")
    if proof.duplicate:
        message = f"{names(proof.duplicate)} for the same disk of {who}: keep one for each disk"
        yield Finding(field, message, "FieldValueDuplicate")
    if proof.surplus:
        fix = "Forklift counts but never attaches such a one: take the labels away"
        yield Finding(field, f"{names(proof.surplus)} of {who} without a disk-source: {fix}")
    if proof.ambiguous:
        files = ", ".join(quoted(disk.file) for disk in proof.ambiguous[:_SHOWN])
        which = f" ({files})" if reader.vms else ""
        fix = "rename one of the files in vSphere"
        message = f"Forklift can't tell {len(proof.ambiguous)} disks of {who} apart{which}: {fix}"
        yield Finding(field, message, "FieldValueDuplicate")
    if not strict:
        return
    if proof.undersized:
        small = [claim for _, claim in proof.undersized]
        message = f"{names(small)} of {who} with less room than the disk: make it larger"
        yield Finding(field, message)
    if proof.terminating:
        message = f"{names(proof.terminating)} of {who} on the way out (deleted): make a new one"
        yield Finding(field, message)
    for claims, at_most in _unbound(proof, classes):
        message = f"{names(claims)} of {who} not bound to a volume: wait until it is"
        yield Finding(field, message, at_most=at_most)
    if proof.not_ready:
        why = f" ({quoted(proof.not_ready[0].not_ready)})" if reader.claims else ""
        message = f"{names(proof.not_ready)} of {who} marked as not ready{why}"
        yield Finding(field, f"{message}: wait until the vendor's copy is whole")


def _unbound(
    proof: Proof, classes: Mapping[str, StorageClass] | None
) -> Iterator[tuple[list[Claim], Action]]:
    """A PVC that a populator fills when its first pod comes may well be unbound until then."""
    piles: dict[Action, list[Claim]] = {"deny": [], "warn": []}
    for claim in proof.unbound:
        storage = classes.get(claim.storage_class) if classes else None
        waits = claim.populated and storage is not None and storage.waits
        piles["warn" if waits else "deny"].append(claim)
    for at_most, claims in piles.items():
        if claims:
            yield claims, at_most
