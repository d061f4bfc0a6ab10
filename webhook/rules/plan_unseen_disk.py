"""Forklift sees every disk of each VM of a conversion Plan.

Reads:   spec.vms, and only entries that this request adds or changes
Asks:    vSphere, for the backings of the VM's disks
Accepts: flat disks and raw device mappings
Warns:   of any other backing (SeSparse, local persistent memory): the new VM lacks that disk
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import PLAN_VM_FIELDS, quoted


def check(facts: PlanFacts) -> Iterator[Finding]:
    for vm_facts, vm in facts.known:
        unseen = [disk for disk in vm.disks if not disk.listed]
        if unseen:
            which = f" ({quoted(unseen[0].source)})"
            fix = "move the disk to a flat one, or the new VM lacks it"
            there = f"a disk of {quoted(vm.moref)} is backed by {unseen[0].backing}{which}"
            yield Finding(vm_facts.entry.field, f"{fix}: {there}")


RULE = Rule(
    id="plan-unseen-disk", facts=PlanFacts, reads=PLAN_VM_FIELDS, check=check, action="warn"
)
