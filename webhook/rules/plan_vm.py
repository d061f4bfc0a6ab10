"""Every entry of a conversion Plan is one VM of its source provider.

Reads:   spec.vms, and only entries that this request adds or changes
Asks:    vSphere, for the VM by id, else by name or path, as Forklift looks it up
Accepts: a VM by its id, or by a name or path that is unique; with a warning, an id whose name is
         not known any more, and a VM that can't be read at the moment
Denies:  an unknown id or name, a name of several VMs, an id beside the name of another VM, a
         template, the same VM twice
Forklift: does not start a Plan with a VM that it does not find, or finds twice; an id with the
         name of another VM shuts down the VM of the id
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts, PlanVmFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import PLAN_VM_FIELDS, PLAN_VMS_FIELD, echoed, quoted, scalar
from webhook.model.objects import Provider


def check(facts: PlanFacts) -> Iterator[Finding]:
    if facts.provider is None or facts.provider.type != "vsphere":
        return  # plan-source-vsphere reports it
    for vm_facts in facts.vms:
        if vm_facts.judged:
            yield from _check_entry(facts.provider, vm_facts)


def _check_entry(provider: Provider, vm_facts: PlanVmFacts) -> Iterator[Finding]:
    entry, there = vm_facts.entry, echoed(vm_facts.entry.id or vm_facts.entry.name)
    field = f"{entry.field}.{'id' if entry.id else 'name'}"
    if not entry.id and not entry.name:
        message = 'is empty: write an id, such as "vm-42", or a name'
        yield Finding(entry.field, message, "FieldValueRequired")
    elif vm_facts.outcome == "none":
        yield Finding(field, _not_found(provider, there, vm_facts))
    elif vm_facts.outcome == "template":
        fix = "name a VM, or convert the template to one"
        yield Finding(field, f"{there} is a template: {fix}")
    elif vm_facts.outcome == "several":
        ids = sorted(
            (vm.moref for vm in vm_facts.candidates), key=lambda moref: (len(moref), moref)
        )
        which = f"{', '.join(map(scalar, ids[:8]))}{', …' if len(ids) > 8 else ''}"
        message = f"{there} is the name of {len(ids)} VMs ({which}): write the id"
        yield Finding(field, message, "FieldValueDuplicate")
    elif vm_facts.twin is not None:
        message = f"{there} is the same VM as {PLAN_VMS_FIELD}[{vm_facts.twin}]: remove one"
        yield Finding(field, message, "FieldValueDuplicate")
    elif vm_facts.trouble:
        message = f"{there} {vm_facts.trouble}: fix that before you start the Migration"
        yield Finding(field, message, at_most="warn")
    vm = vm_facts.vm
    if vm_facts.name_of_another:
        fix = f"write {quoted(vm.name)}, or the id of the VM that you mean" if vm else _NAME_FIX
        message = (
            f"{echoed(entry.name)} is not the VM {echoed(entry.id)}, which Forklift shuts down"
        )
        yield Finding(f"{entry.field}.name", f"{message}: {fix}")
    elif vm and entry.id and entry.name and entry.name != vm.name:
        message = (
            f"write {quoted(vm.name)}: {echoed(entry.name)} is not the name of "
            f"{echoed(entry.id)} (Forklift uses the id)"
        )
        yield Finding(f"{entry.field}.name", message, at_most="warn", expected=vm.name)


_NAME_FIX = "write the name of the VM with that id, or leave the name out"


def _not_found(provider: Provider, there: str, vm_facts: PlanVmFacts) -> str:
    if not vm_facts.told:
        fix = 'write the id of a VM, such as "vm-42", as vSphere shows it'
        return f"{there} is not one VM of provider {provider} that can be converted: {fix}"
    what = "VM" if vm_facts.entry.id else "VM with the name or path"
    if vm_facts.near:
        near = " or ".join(str(vm) for vm in vm_facts.near)
        fix = f"did you mean {near}?"
    else:
        fix = 'write the id that vSphere shows, such as "vm-42"'
    return f"provider {provider} has no {what} {there}: {fix}"


RULE = Rule(
    id="plan-vm",
    facts=PlanFacts,
    reads=PLAN_VM_FIELDS,
    check=check,
)
