"""A Conversion made by hand names the PVCs that are its VM's disks: all of them, and no other.

Reads:   spec.vm, spec.disks
Asks:    the cluster, for those PVCs; vSphere for the VM that they name, afresh
Accepts: one bound PVC for each disk of one VM; every Conversion that only inspects
Denies:  a PVC that isn't there or carries no labels, one of another VM, and whatever
         migration-disks denies
"""

from collections.abc import Iterator

from webhook.facts.facts import ConversionFacts
from webhook.facts.proof import prove
from webhook.facts.rule import Finding, Rule, Unknown
from webhook.facts.telling import Reader, told
from webhook.model.forklift import ConversionDisk
from webhook.model.keys import (
    CONVERSION_DISKS_FIELD,
    CONVERSION_FIELDS,
    CONVERSION_VM_FIELD,
    VM_ID,
    VM_UUID,
    quoted,
)
from webhook.model.objects import Claim


def check(facts: ConversionFacts) -> Iterator[Finding | Unknown]:
    if facts.named is None:
        yield Unknown(CONVERSION_DISKS_FIELD, "the PVCs can't be read: no access to the cluster")
        return
    if not facts.named:
        fix = "name the PVCs of the VM's disks"
        yield Finding(CONVERSION_DISKS_FIELD, f"is empty: {fix}", "FieldValueRequired")
        return
    claims = []
    for disk, claim in facts.named:
        if claim is None:
            yield _unlabelled(disk)
        else:
            claims.append(claim)
            if claim.vm[1:] != claims[0].vm[1:]:
                first, other = claims[0].vm_id, claim.vm_id
                which = f", {quoted(other)} and not {quoted(first)}" if facts.may_list else ""
                message = f"{quoted(disk.name)} is of another VM than the PVCs before{which}"
                yield Finding(disk.field, f"{message}: name PVCs of one VM", certain=True)
    if claims:
        yield from _prove(facts, claims)


def _unlabelled(disk: ConversionDisk) -> Finding:
    where = f"{quoted(disk.name)} of namespace {quoted(disk.namespace)}"
    message = f"{where} is no PVC with the labels {VM_ID} and {VM_UUID}: name one that is"
    return Finding(f"{disk.field}.name", message, certain=True)


def _prove(facts: ConversionFacts, claims: list[Claim]) -> Iterator[Finding]:
    vm, named = facts.vm, claims[0].vm_id
    wanted = facts.conversion.vm_id
    if wanted and wanted != named:
        fix = f"write {quoted(named)}" if facts.may_list else "look at their labels"
        message = f"{quoted(wanted)} is not the VM of the PVCs: {fix}"
        yield Finding(f"{CONVERSION_VM_FIELD}.id", message, certain=True)
    may_name = facts.may_list or wanted == named
    who = quoted(named) if may_name else "the VM of the PVCs"
    if vm is None or not facts.proven:
        message = f"{who} is no VM of {facts.provider} with their vmUUID"
        yield Finding(CONVERSION_DISKS_FIELD, f"{message}: correct their labels")
    elif vm.template:
        yield Finding(CONVERSION_DISKS_FIELD, f"{who} is a template: name a VM's PVCs")
    elif trouble := vm.trouble:
        message = f"{who} {trouble}: bring it back first"
        yield Finding(CONVERSION_DISKS_FIELD, message)
    else:
        reader = Reader(facts.trusted, facts.may_list, may_name)
        where = quoted(facts.conversion.namespace)
        yield from told(
            prove(vm, claims), vm, CONVERSION_DISKS_FIELD, where, reader, facts.classes, strict=True
        )


RULE = Rule(
    id="conversion-disks",
    facts=ConversionFacts,
    reads=CONVERSION_FIELDS,
    check=check,
    gate=True,
)
