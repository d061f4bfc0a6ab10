"""Every entry of a conversion Plan is one VM of its source provider.

Reads:   spec.vms, and only entries that this request adds or changes
Asks:    vSphere, for the VM by id, else by name or path, as Forklift looks it up
Accepts: a VM by its id, or by a name or path that is unique; with a warning, an id whose name has
         changed, and a VM that can't be read just now
Denies:  an unknown id or name, a name of several VMs, a template, the same VM twice
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts, PlanVmFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import PLAN_VM_FIELDS, PLAN_VMS_FIELD, quoted
from webhook.model.vms import VirtualMachine


def check(facts: PlanFacts) -> Iterator[Finding]:
    if facts.provider is None or facts.provider.type != "vsphere":
        return  # plan-source-vsphere's to say
    first_of: dict[str, int] = {}
    for vm_facts in facts.vms:
        if vm_facts.entry.judged:
            yield from _check_entry(facts, vm_facts, first_of)
        if len(vm_facts.found) == 1:
            first_of.setdefault(vm_facts.found[0].moref, vm_facts.entry.index)


def _check_entry(
    facts: PlanFacts, vm_facts: PlanVmFacts, first_of: dict[str, int]
) -> Iterator[Finding]:
    entry, found = vm_facts.entry, vm_facts.found
    # Forklift finds a template by its id only, and then fails once the source is shut down.
    candidates = found if entry.id else tuple(vm for vm in found if not vm.template)
    if not entry.id and not entry.name:
        yield Finding(entry.field, 'is empty: write id: "vm-42", or a name', "FieldValueRequired")
    elif not found:
        yield _not_found(facts, vm_facts)
    elif not candidates or candidates[0].template:
        fix = "name a VM, or convert the template to one"
        yield Finding(_field(vm_facts), f"{_there(vm_facts)} is a template: {fix}")
    elif len(candidates) > 1:
        which = f" ({', '.join(vm.moref for vm in candidates[:8])})" if facts.trusted else ""
        message = f"{_there(vm_facts)} is the name of {len(candidates)} VMs{which}: write the id"
        yield Finding(_field(vm_facts), message, "FieldValueDuplicate")
    elif (first := first_of.get(candidates[0].moref)) is not None:
        message = f"{_there(vm_facts)} is the VM of {PLAN_VMS_FIELD}[{first}] again: remove one"
        yield Finding(_field(vm_facts), message, "FieldValueDuplicate")
    else:
        yield from _check_vm(facts, vm_facts, candidates[0])


def _check_vm(facts: PlanFacts, vm_facts: PlanVmFacts, vm: VirtualMachine) -> Iterator[Finding]:
    entry = vm_facts.entry
    if trouble := vm.trouble:
        message = f"{_there(vm_facts)} {trouble}: bring it back before you start the Migration"
        yield Finding(_field(vm_facts), message, at_most="warn")
    if entry.id and entry.name and entry.name != vm.name:
        fix = f"write {quoted(vm.name)}" if facts.trusted else "look it up"
        message = (
            f"{fix}: {quoted(entry.name)} is not the name of {quoted(entry.id)} (the id counts)"
        )
        expected = vm.name if facts.trusted else None
        yield Finding(f"{entry.field}.name", message, at_most="warn", expected=expected)


def _not_found(facts: PlanFacts, vm_facts: PlanVmFacts) -> Finding:
    what = "a VM" if vm_facts.entry.id else "the name or path of a VM"
    if vm_facts.near:
        near = " or ".join(str(vm) for vm in vm_facts.near)
        fix = f"did you mean {near}?"
    else:
        fix = 'write the id that vSphere shows, such as "vm-42"'
    message = f"{_there(vm_facts)} is not {what} of provider {facts.provider}: {fix}"
    return Finding(_field(vm_facts), message)


def _field(vm_facts: PlanVmFacts) -> str:
    return f"{vm_facts.entry.field}.{'id' if vm_facts.entry.id else 'name'}"


def _there(vm_facts: PlanVmFacts) -> str:
    return quoted(vm_facts.entry.id or vm_facts.entry.name)


RULE = Rule(
    id="plan-vm",
    facts=PlanFacts,
    reads=PLAN_VM_FIELDS,
    check=check,
)
