"""The PVCs that are there already for a Plan's VMs are those VMs' disks.

Reads:   spec.vms, and only entries that this request adds or changes; spec.targetNamespace
Asks:    the cluster, for the PVCs with the VM's labels in the target namespace; vSphere, for the
         VM's disks
Accepts: a PVC for each disk; with a warning, disks without one, which may be on its way
Denies:  a PVC whose disk-source is no disk of the VM, two for one disk, and one that Forklift
         counts but leaves out (`prime-*`, or without a disk-source); while the Plan executes,
         whatever migration-disks denies
"""

from collections.abc import Iterator

from webhook.model import (
    PLAN_TYPE_FIELD,
    PLAN_VMS_FIELD,
    SOURCE_PROVIDER_FIELD,
    TARGET_NAMESPACE_FIELD,
)
from webhook.proof import prove
from webhook.rule import Finding, PlanFacts, Rule
from webhook.telling import told


def check(facts: PlanFacts) -> Iterator[Finding]:
    if facts.claims is None:
        return
    for vm_facts in facts.vms:
        if vm_facts.entry.judged and len(vm_facts.found) == 1:
            vm = vm_facts.found[0]
            if vm.template or vm.trouble:
                continue  # plan-vm's to say
            proof = prove(vm, facts.claims)
            strict = facts.plan.executing
            yield from told(proof, vm, vm_facts.entry.field, facts, strict=strict)


RULE = Rule(
    id="plan-disks",
    facts=PlanFacts,
    reads=frozenset(
        {PLAN_TYPE_FIELD, SOURCE_PROVIDER_FIELD, TARGET_NAMESPACE_FIELD, PLAN_VMS_FIELD}
    ),
    check=check,
)
