"""The name of each VM of a conversion Plan is unique within its datacenter.

Reads:   spec.vms, and only entries that this request adds or changes
Asks:    vSphere, for VMs of the same name
Accepts: a name that one VM of the datacenter has
Records: a name that another VM has, too: the conversion fetches the VM's description by its name.
         This comes from reading Forklift's code, and was not yet observed
Forklift: fetches the description of the VM by its name: not seen yet
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import PLAN_VM_FIELDS, quoted


def check(facts: PlanFacts) -> Iterator[Finding]:
    for vm_facts, vm in facts.known:
        if vm_facts.namesakes:
            who = f" ({vm_facts.namesakes[0]})"
            fix = "rename one of the two"
            message = f"{fix}: another VM of the datacenter has the name of {quoted(vm.moref)}{who}"
            yield Finding(vm_facts.entry.field, message)


RULE = Rule(id="plan-vm-name", facts=PlanFacts, reads=PLAN_VM_FIELDS, check=check, action="audit")
