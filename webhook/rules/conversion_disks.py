"""A Conversion made by hand names all PVCs of its VM's disks, and no others.

Reads:   spec.vm, spec.disks, spec.targetNamespace, spec.destination
Asks:    the cluster, for those PVCs; vSphere, with a fresh read, for the VM that they name
Accepts: one bound PVC for each disk of one VM; every Conversion that only inspects,
         or is of type Remote; one of a VM of another kind of provider, which has a uuid for an
         id, and PVCs without the labels, where the caller may list PVCs there; with a warning one
         whose destination is another cluster
Denies:  a PVC that doesn't exist or has no labels, one of another VM, and whatever
         migration-disks denies of PVCs. The rules migration-pvc-owner, -pvc-name, -pvc-in-use,
         -access-mode, -volume-mode and -unscheduled judge it, too
Forklift: checks only that fields are set, and starts the pod on whatever they name
"""

from collections.abc import Iterator

from webhook.facts.facts import ConversionFacts
from webhook.facts.rule import Finding, Rule, Unknown
from webhook.model.forklift import ConversionDisk
from webhook.model.keys import (
    CONVERSION_DESTINATION_FIELD,
    CONVERSION_DISKS_FIELD,
    CONVERSION_FIELDS,
    CONVERSION_VM_FIELD,
    TARGET_NAMESPACE_FIELD,
    VM_ID,
    VM_UUID,
    echoed,
    quoted,
)
from webhook.model.objects import Claim, untold


def check(facts: ConversionFacts) -> Iterator[Finding | Unknown]:
    namespace = facts.conversion.namespace
    if not namespace:
        message = "is missing: write the namespace of the PVCs"
        yield Finding(TARGET_NAMESPACE_FIELD, message, "FieldValueRequired", certain=True)
        return
    if facts.remote is None:
        yield Unknown(CONVERSION_DESTINATION_FIELD, untold(facts.conversion.destination))
        return
    if facts.named is None:
        yield Unknown(CONVERSION_DISKS_FIELD, "the PVCs can't be read: no access to the cluster")
        return
    if not facts.named:
        fix = "name the PVCs of the VM's disks"
        yield Finding(CONVERSION_DISKS_FIELD, f"is empty: {fix}", "FieldValueRequired")
        return
    claims = []
    for disk, claim in facts.named:
        if disk.namespace != namespace:
            there = f"is {echoed(disk.namespace)}" if disk.namespace else "is missing"
            fix = f"write {quoted(namespace)}, spec.targetNamespace: a pod mounts PVCs of its own"
            yield Finding(f"{disk.field}.namespace", f"{there}: {fix}", certain=True)
        elif claim is None:
            yield _unlabelled(disk)
        else:
            claims.append(claim)
            if claim.vm[1:] != claims[0].vm[1:]:
                first, other = claims[0].vm_id, claim.vm_id
                which = f"({quoted(other)}, not {quoted(first)})"
                message = f"{echoed(disk.name)} is of another VM than the PVCs before it {which}"
                yield Finding(disk.field, f"{message}: name PVCs of one VM", certain=True)
    if claims:
        yield from _prove(facts, claims)


def _unlabelled(disk: ConversionDisk) -> Finding:
    where = f"namespace {echoed(disk.namespace)} has no PVC {echoed(disk.name)}"
    message = f"{where} with the labels {VM_ID} and {VM_UUID}: name one that has both"
    return Finding(f"{disk.field}.name", message, certain=True)


def _prove(facts: ConversionFacts, claims: list[Claim]) -> Iterator[Finding]:
    named, wanted = claims[0].vm_id, facts.conversion.vm_id
    if wanted and wanted != named:
        message = f"{echoed(wanted)} is not the VM of the PVCs: write {quoted(named)}"
        yield Finding(f"{CONVERSION_VM_FIELD}.id", message, certain=True)
    who = quoted(named)
    if facts.outcome == "none":
        nobody = (
            f"provider {facts.provider} has no" if facts.provider else "no vSphere provider has a"
        )
        message = f"{nobody} VM {who} with the labels of the PVCs"
        yield Finding(CONVERSION_DISKS_FIELD, f"{message}: correct their {VM_ID} and {VM_UUID}")
    elif facts.outcome == "template":
        yield Finding(CONVERSION_DISKS_FIELD, f"{who} is a template: name the PVCs of a VM")
    elif facts.outcome == "unread":
        message = f"{who} {facts.trouble}: fix that first"
        yield Finding(CONVERSION_DISKS_FIELD, message)
    elif facts.disks is not None:
        yield from facts.disks.findings(CONVERSION_DISKS_FIELD, strict=True)


RULE = Rule(
    id="conversion-disks",
    facts=ConversionFacts,
    reads=CONVERSION_FIELDS,
    check=check,
    gate=True,
)
