"""A template for names gives each disk of a VM a name of its own.

Reads:   spec.pvcNameTemplate, spec.volumeNameTemplate, and the same in spec.vms
Asks:    vSphere, for the number of the VM's disks
Accepts: no template; one that uses what differs from disk to disk; any for a VM with one disk
Warns:   of one that gives all disks the same name
Forklift: gives the volumes of the new VM one name: read in its code, not seen yet
"""

import re
from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.forklift import TEMPLATES
from webhook.model.keys import PLAN_VM_FIELDS, TEMPLATES_FIELD, echoed, quoted

# Forklift: plan.go, PVCNameTemplateData and VolumeNameTemplateData: what is each disk's own.
_OF_A_DISK = (
    re.compile(r"\.(DiskIndex|WinDriveLetter|Shared|FileName)\b", re.ASCII),
    re.compile(r"\.(PVCName|VolumeIndex)\b", re.ASCII),
)
_FIXES = ("{{.DiskIndex}}", "{{.VolumeIndex}}")


def check(facts: PlanFacts) -> Iterator[Finding]:
    for vm_facts, vm in facts.known:
        if len(vm.as_converted) < 2:
            continue
        each = zip(TEMPLATES, vm_facts.entry.templates, facts.plan.templates, strict=True)
        for (name, own, of_plan), needed, fix in zip(each, _OF_A_DISK, _FIXES, strict=True):
            template = own or of_plan
            if template and not needed.search(template):
                field = f"{vm_facts.entry.field}.{name}" if own else f"spec.{name}"
                message = f"write {fix} in it: {echoed(template)} is the same for all disks"
                yield Finding(field, f"{message} of {quoted(vm.moref)}")


RULE = Rule(
    id="plan-name-template",
    facts=PlanFacts,
    reads=PLAN_VM_FIELDS | {TEMPLATES_FIELD},
    check=check,
    action="warn",
)
