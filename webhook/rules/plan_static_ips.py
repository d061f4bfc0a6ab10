"""A VM whose IP addresses are to be kept is running: only then does vSphere know them.

Reads:   spec.vms, and only entries that this request adds or changes; spec.preserveStaticIPs
Asks:    vSphere, for the VM's power state
Accepts: a running VM; any VM with preserveStaticIPs: false
Warns:   of a VM that is off: vSphere knows the addresses of a running guest only
Forklift: converts the VM without its addresses
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import PLAN_VM_FIELDS, STATIC_IPS_FIELD, quoted


def check(facts: PlanFacts) -> Iterator[Finding]:
    if not facts.plan.preserves_ips:
        return
    for vm_facts, vm in facts.known:
        if vm.power_state == "poweredOff":
            fix = "start it, or write preserveStaticIPs: false"
            message = f"{fix}: the IP addresses of {quoted(vm.moref)} aren't known while it is off"
            yield Finding(vm_facts.entry.field, message)


RULE = Rule(
    id="plan-static-ips",
    facts=PlanFacts,
    reads=PLAN_VM_FIELDS | {STATIC_IPS_FIELD},
    check=check,
    action="warn",
)
