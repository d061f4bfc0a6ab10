"""The name of each new VM can be a label, and part of a PVC's name.

Reads:   spec.vms[].targetName, and whether there is a pvcNameTemplate
Asks:    vSphere, for the VM's own name where there is no targetName
Accepts: a DNS name of at most 63 characters, without a dot in the first 15; a VM whose own name is
         none, for Forklift makes one of it
Denies:  a Migration with a longer name: it becomes a label of the new VM, which can't be made then,
         with the old one off. At the Plan it warns, and at both of what never starts: a targetName
         that is no DNS name, or has a dot among its first 15 characters without a pvcNameTemplate
Forklift: labels the new VM with it, fails, and leaves the source VM off; a dot or a name
          that is none keeps the Plan from starting
"""

from collections.abc import Iterator

from webhook.facts import labels
from webhook.facts.facts import PlanFacts, PlanVmFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import DNS_SUBDOMAIN, PLAN_VM_FIELDS, TEMPLATES_FIELD, echoed


def check(facts: PlanFacts) -> Iterator[Finding]:
    for vm_facts in facts.vms:
        if vm_facts.judged:
            templated = bool(facts.plan.templates[0] or vm_facts.entry.templates[0])
            yield from _check_entry(vm_facts, templated=templated)


def _check_entry(vm_facts: PlanVmFacts, *, templated: bool) -> Iterator[Finding]:
    entry = vm_facts.entry
    field, name = f"{entry.field}.targetName", entry.target_name
    if name and not DNS_SUBDOMAIN.fullmatch(name):
        fix = "write a name of a-z, 0-9, - and ., with a letter or digit at each end"
        message = f"{echoed(name)} can't be the name of a VM, so the Plan never starts: {fix}"
        yield Finding(field, message, at_most="warn", entry=entry.index)
    elif labels.is_long_name(name):
        message = f"has {len(name)} characters, and becomes a label: write {_SHORT}"
        yield Finding(field, message, certain=True, entry=entry.index)
    elif vm_facts.long_name:
        message = f"write {_SHORT}: the name of {vm_facts.label} is longer, and becomes a label"
        yield Finding(field, message, "FieldValueRequired", entry=entry.index)
    kept = name or (vm_facts.vm.name if vm_facts.vm else "")
    if not templated and (not name or DNS_SUBDOMAIN.fullmatch(name)) and labels.dotted(kept):
        fix = "write one without, or spec.pvcNameTemplate"
        message = f"{echoed(kept)} has a dot in its first 15 characters, so the Plan never starts"
        yield Finding(field, f"{message}: {fix}", at_most="warn", entry=entry.index)


_SHORT = f"a name of at most {labels.LONGEST}"

RULE = Rule(
    id="plan-target-name",
    facts=PlanFacts,
    reads=PLAN_VM_FIELDS | {TEMPLATES_FIELD},
    check=check,
    again=True,
)
