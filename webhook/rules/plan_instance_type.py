"""The instance types that a Plan names are there.

Reads:   spec.vms[].instanceType
Asks:    the cluster, for a VirtualMachineInstancetype of that name in the target namespace, and for
         a VirtualMachineClusterInstancetype, as Forklift does
Accepts: one of either kind; any where the guard has no right to look
Denies:  a Migration whose Plan names one that isn't there: Forklift finds out when it builds the
         new VM, with the old one off. At the Plan it warns
Forklift: builds the new VM with it after the conversion, fails, and leaves the source VM off
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import PLAN_VM_FIELDS, quoted


def check(facts: PlanFacts) -> Iterator[Finding]:
    for vm_facts in facts.vms:
        if vm_facts.judged and vm_facts.no_instance_type:
            entry = vm_facts.entry
            place = quoted(facts.plan.target_namespace)
            message = (
                f"there is no instance type {quoted(entry.instance_type)}, neither in {place} nor "
                "for the whole cluster: create it, or name another"
            )
            yield Finding(f"{entry.field}.instanceType", message, entry=entry.index)


RULE = Rule(
    id="plan-instance-type",
    facts=PlanFacts,
    reads=PLAN_VM_FIELDS,
    check=check,
    asks_vsphere=False,
    again=True,
)
