"""A proof in words: what is wrong with a VM's disk set, as far as the reader may know it."""

from collections.abc import Iterator, Sequence

from webhook.claims import Claim
from webhook.model import Action, VirtualMachine, quoted
from webhook.proof import Proof
from webhook.rule import Finding, PlanFacts

_SHOWN = 3


def told(
    proof: Proof, vm: VirtualMachine, field: str, facts: PlanFacts, *, strict: bool
) -> Iterator[Finding]:
    """A finding for each kind of fault. `strict`: what may still be on its way is a fault, too."""
    on_its_way: Action = "deny" if strict else "warn"
    who = f"{vm.moref} ({quoted(vm.name)})" if facts.trusted else quoted(vm.moref)
    namespace = quoted(facts.plan.target_namespace)
    disks = len(proof.matched) + len(proof.missing)

    def names(claims: Sequence[Claim]) -> str:
        """`2 PVCs ("a", "b")`; no names for those who may not list them."""
        count = f"{len(claims)} PVC{'s' if len(claims) > 1 else ''}"
        if not facts.trusted:
            return count
        shown = ", ".join(quoted(claim.name) for claim in claims[:_SHOWN])
        return f"{count} ({shown}{', …' if len(claims) > _SHOWN else ''})"

    if missing := proof.missing:
        files = ", ".join(quoted(disk.source) for disk in missing[:_SHOWN])
        which = f" ({files})" if facts.trusted else ""
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
    if not strict:
        return
    if proof.undersized:
        small = [claim for _, claim in proof.undersized]
        message = f"{names(small)} of {who} with less room than the disk: make it larger"
        yield Finding(field, message)
    if proof.terminating:
        message = f"{names(proof.terminating)} of {who} on the way out (deleted): make a new one"
        yield Finding(field, message)
    for claims, at_most in _unbound(proof):
        message = f"{names(claims)} of {who} not bound to a volume: wait until it is"
        yield Finding(field, message, at_most=at_most)
    if proof.not_ready:
        why = f" ({quoted(proof.not_ready[0].not_ready)})" if facts.trusted else ""
        message = f"{names(proof.not_ready)} of {who} marked as not ready{why}"
        yield Finding(field, f"{message}: wait until the vendor's copy is whole")


def _unbound(proof: Proof) -> Iterator[tuple[list[Claim], Action]]:
    """A PVC that a populator fills when its first pod comes may well be unbound until then."""
    for populated in (False, True):
        claims = [claim for claim in proof.unbound if claim.populated is populated]
        if claims:
            yield claims, "warn" if populated else "deny"
