"""VMware Tools run in each VM of a conversion Plan.

Reads:   spec.vms, and only entries that this request adds or changes
Asks:    vSphere, for guest.toolsRunningStatus
Accepts: a VM whose Tools run, or that is off
Warns:   of a running VM without: Forklift shuts the guest down through them, and fails
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import PLAN_VM_FIELDS, quoted

_RUNNING = frozenset({"guestToolsRunning", "guestToolsExecutingScripts"})


def check(facts: PlanFacts) -> Iterator[Finding]:
    for vm_facts in facts.vms:
        vm = vm_facts.vm
        if vm and vm.power_state == "poweredOn" and vm.tools not in _RUNNING:
            fix = "start VMware Tools in the guest"
            message = f"{fix}: Forklift shuts {quoted(vm.moref)} down through them"
            yield Finding(vm_facts.entry.field, message)


RULE = Rule(
    id="plan-guest-tools", facts=PlanFacts, reads=PLAN_VM_FIELDS, check=check, action="warn"
)
