"""The PVCs that exist already for a Plan's VMs are the disks of those VMs.

Reads:   spec.vms, and only entries that this request adds or changes; spec.targetNamespace
Asks:    the cluster, for the PVCs with the VM's labels in the target namespace; vSphere, for the
         VM's disks
Accepts: a PVC for each disk; with a warning, disks without one, for it may come later
Denies:  a PVC whose disk-source is no disk of the VM, two for one disk, and one that Forklift
         counts but leaves out (`prime-*`, or without a disk-source); while the Plan executes, or a
         Migration that hasn't ended names it, whatever migration-disks denies
Forklift: counts PVCs only; whatever is wrong with the right number of them it finds with the VM
         off
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import DESTINATION_PROVIDER_FIELD, PLAN_VM_FIELDS


def check(facts: PlanFacts) -> Iterator[Finding]:
    strict = facts.plan.executing or facts.started
    for vm_facts in facts.vms:
        if vm_facts.judged and vm_facts.disks is not None:
            yield from vm_facts.disks.findings(vm_facts.entry.field, strict=strict)


RULE = Rule(
    id="plan-disks",
    facts=PlanFacts,
    reads=PLAN_VM_FIELDS | {DESTINATION_PROVIDER_FIELD},
    check=check,
    gate=True,
)
