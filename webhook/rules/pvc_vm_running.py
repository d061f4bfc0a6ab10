"""The VM runs while its disks are copied.

Reads:   vmID, vmUUID
Asks:    vSphere, for the VM's power state
Accepts: a VM that is powered on
Warns:   of one that is off or suspended: its IP configuration is not known, and gets lost
Forklift: converts a VM that is off; it can keep no addresses that it does not know
"""

from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import VM_ID_FIELD, VM_UUID_FIELD


def check(facts: PvcFacts) -> Iterator[Finding]:
    vm = facts.vm
    if facts.proven and vm and not vm.template and vm.power_state != "poweredOn":
        fix = "keep the VM running until Forklift shuts it down"
        yield Finding(VM_ID_FIELD, f"{fix}, or its IP configuration is lost: it is not running")


RULE = Rule(
    id="pvc-vm-running",
    facts=PvcFacts,
    reads=frozenset({VM_ID_FIELD, VM_UUID_FIELD}),
    check=check,
    action="warn",
)
