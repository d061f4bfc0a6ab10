"""Forklift attaches every disk of each VM of a conversion Plan.

Reads:   spec.vms, and only entries that this request adds or changes
Asks:    vSphere, for the backings and controllers of the VM's disks
Accepts: flat disks and raw device mappings, on SCSI, SATA, IDE or NVMe
Warns:   of any other backing (SeSparse, local persistent memory) or controller (USB): the new VM
         lacks that disk
Forklift: succeeds without the disk
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import PLAN_VM_FIELDS, quoted


def check(facts: PlanFacts) -> Iterator[Finding]:
    for vm_facts, vm in facts.known:
        unseen = [disk for disk in vm.disks if not disk.attached]
        if unseen:
            disk = unseen[0]
            if disk.listed:
                fix, bus = "a SCSI controller", disk.bus.upper() or "no known controller"
                why = f"on {bus}"
            else:
                fix, why = "a flat one", f"backed by {disk.backing}"
            there = f"a disk of {quoted(vm.moref)} is {why} ({quoted(disk.source)})"
            message = f"move the disk to {fix}, or the new VM lacks it: {there}"
            yield Finding(vm_facts.entry.field, message)


RULE = Rule(
    id="plan-unseen-disk", facts=PlanFacts, reads=PLAN_VM_FIELDS, check=check, action="warn"
)
