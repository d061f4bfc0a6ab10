"""The PVCs that exist already for a Plan's VMs are the disks of those VMs.

Reads:   spec.vms, and only entries that this request adds or changes; spec.targetNamespace
Asks:    the cluster, for the PVCs with the VM's labels in the target namespace; vSphere, for the
         VM's disks
Accepts: a PVC for each disk; with a warning, disks without one, for it may come later (one that
         counts the VMs, where there are many)
Denies:  a PVC whose disk-source is no disk of the VM, two for one disk, and one that Forklift
         counts but leaves out (`prime-*`, or without a disk-source); while the Plan executes, or a
         Migration that hasn't ended names it, whatever migration-disks denies
Forklift: counts PVCs only; whatever is wrong with the right number of them it finds with the VM
         off
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import (
    DESTINATION_PROVIDER_FIELD,
    PLAN_VM_FIELDS,
    PLAN_VMS_FIELD,
    echoed,
)

_MANY = 8
"""VMs without all their PVCs, up to which each is named."""


def check(facts: PlanFacts) -> Iterator[Finding]:
    if facts.begins:
        for vm_facts in facts.vms:
            if vm_facts.judged:
                yield from vm_facts.unproven(vm_facts.entry.field, vm_facts.label)
        return
    strict = facts.plan.executing or facts.started
    found = [
        finding
        for vm_facts in facts.vms
        if vm_facts.judged and vm_facts.disks is not None
        for finding in vm_facts.disks.findings(vm_facts.entry.field, strict=strict)
    ]
    on_its_way = [finding for finding in found if finding.at_most == "warn"]
    if len(on_its_way) > _MANY:
        yield _counted(len(on_its_way), facts)
        found = [finding for finding in found if finding.at_most != "warn"]
    yield from found


def _counted(vms: int, facts: PlanFacts) -> Finding:
    there = echoed(facts.plan.target_namespace)
    fix = "create one for each disk before the Migration; the Plan's readiness lists them"
    message = f"{vms} of the {len(facts.vms)} VMs have disks without a PVC in {there}: {fix}"
    return Finding(PLAN_VMS_FIELD, message, "FieldValueRequired", "warn")


RULE = Rule(
    id="plan-disks",
    facts=PlanFacts,
    reads=PLAN_VM_FIELDS | {DESTINATION_PROVIDER_FIELD},
    check=check,
    gate=True,
)
