"""The disks of a VM keep their order through the conversion.

Reads:   spec.vms, and only entries that this request adds or changes
Asks:    vSphere, for the VM's disks and their controllers
Accepts: up to ten disks on one kind of controller; several kinds with rootDisk
Records: more than ten disks (the conversion sorts them by name: disk10 before disk2); disks on
         several kinds of controllers without rootDisk, where the first one boots: SATA, IDE, SCSI,
         NVMe. Both come from reading Forklift's code, and were not yet observed
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import PLAN_VM_FIELDS, quoted

_ORDERED = 10


def check(facts: PlanFacts) -> Iterator[Finding]:
    for vm_facts, vm in facts.known:
        listed = [disk for disk in vm.disks if disk.listed]
        if len(listed) > _ORDERED:
            message = f"check the order of the disks after the conversion: {quoted(vm.moref)} has"
            yield Finding(vm_facts.entry.field, f"{message} more than {_ORDERED} disks")
        if len({disk.bus for disk in listed}) > 1 and not vm_facts.entry.root_disk:
            fix = 'write rootDisk, such as "/dev/sda"'
            message = f"{fix}: {quoted(vm.moref)} has disks on several kinds of controllers"
            yield Finding(f"{vm_facts.entry.field}.rootDisk", message)


RULE = Rule(
    id="plan-disk-order", facts=PlanFacts, reads=PLAN_VM_FIELDS, check=check, action="audit"
)
