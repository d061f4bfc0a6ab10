"""VMware Tools run in each VM of a conversion Plan.

Reads:   spec.vms, and only entries that this request adds or changes
Asks:    vSphere, for guest.toolsRunningStatus, and for guest.toolsStatus, which Forklift reads, too
Accepts: a VM whose Tools run, or that is off
Warns:   of a suspended VM, which Forklift can't shut down; of a running VM without Tools: Forklift
         doesn't start its Plan
Forklift: does not start a Plan with a running VM without Tools; a suspended VM stays suspended,
         and the Migration fails
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import PLAN_VM_FIELDS, quoted

_RUNNING = frozenset({"guestToolsRunning", "guestToolsExecutingScripts"})


def check(facts: PlanFacts) -> Iterator[Finding]:
    for vm_facts, vm in facts.known:
        if vm.power_state == "suspended":
            fix = "resume it before the Migration"
            message = f"{fix}: Forklift can't shut {quoted(vm.moref)} down while it is suspended"
            yield Finding(vm_facts.entry.field, message)
        elif vm.power_state == "poweredOn" and vm.tools not in _RUNNING:
            fix = "start VMware Tools in the guest"
            message = f"{fix}: Forklift needs them to shut {quoted(vm.moref)} down"
            yield Finding(vm_facts.entry.field, message)
        elif vm.power_state == "poweredOn" and vm.tools_status == "toolsNotInstalled":
            fix = "install VMware Tools in the guest"
            message = f"{fix}: the toolsStatus of {quoted(vm.moref)} is toolsNotInstalled"
            yield Finding(vm_facts.entry.field, message)


RULE = Rule(
    id="plan-guest-tools", facts=PlanFacts, reads=PLAN_VM_FIELDS, check=check, action="warn"
)
