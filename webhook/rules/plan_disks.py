"""The PVCs that are there already for a Plan's VMs are those VMs' disks.

Reads:   spec.vms, and only entries that this request adds or changes; spec.targetNamespace
Asks:    the cluster, for the PVCs with the VM's labels in the target namespace; vSphere, for the
         VM's disks
Accepts: a PVC for each disk; with a warning, disks without one, which may be on its way
Denies:  a PVC whose disk-source is no disk of the VM, two for one disk, and one that Forklift
         counts but leaves out (`prime-*`, or without a disk-source); while the Plan executes, or a
         Migration that hasn't ended names it, whatever migration-disks denies
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.proof import prove
from webhook.facts.rule import Finding, Rule
from webhook.facts.telling import Reader, told
from webhook.model.keys import PLAN_VM_FIELDS, quoted


def check(facts: PlanFacts) -> Iterator[Finding]:
    if facts.claims is None:
        return
    strict = facts.plan.executing or facts.started
    reader = Reader(facts.trusted, facts.may_list)
    namespace = quoted(facts.plan.target_namespace)
    for vm_facts in facts.vms:
        if vm_facts.vm is not None:
            proof, field = prove(vm_facts.vm, facts.claims_of(vm_facts.vm)), vm_facts.entry.field
            yield from told(
                proof, vm_facts.vm, field, namespace, reader, facts.classes, strict=strict
            )


RULE = Rule(id="plan-disks", facts=PlanFacts, reads=PLAN_VM_FIELDS, check=check, gate=True)
