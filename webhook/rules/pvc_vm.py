"""A PVC's vmID and vmUUID name one VM of a vSphere provider.

Reads:   vmID, vmUUID
Asks:    vSphere, for that VM's config.uuid
Accepts: a VM's moref together with its config.uuid, byte for byte
Denies:  a vmID that no VM has; another VM's uuid, the VM's instanceUuid, another case; a template
"""

from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Finding, Rule, Unknown
from webhook.model.keys import MOREF, VM_ID_FIELD, VM_UUID_FIELD, quoted
from webhook.model.vms import VirtualMachine


def check(facts: PvcFacts) -> Iterator[Finding | Unknown]:
    pvc, vm = facts.pvc, facts.vm
    if not pvc.vm_id or not pvc.vm_uuid:
        return
    if not MOREF.fullmatch(pvc.vm_id):
        yield Finding(VM_ID_FIELD, f'{quoted(pvc.vm_id)} is no moref: write one such as "vm-42"')
    elif vm is None:
        owners = facts.same_uuid or tuple(vm for _, vm in facts.elsewhere)
        expected = owners[0].moref if facts.trusted and len(owners) == 1 else None
        yield Finding(VM_ID_FIELD, _unknown_vm(facts), expected=expected)
    elif trouble := vm.trouble:
        yield Unknown(VM_ID_FIELD, f"{quoted(vm.moref)} {trouble}")
    elif pvc.vm_uuid != vm.uuid:
        expected = vm.uuid if facts.proven or facts.trusted else None
        yield Finding(VM_UUID_FIELD, _wrong_uuid(facts, vm), expected=expected)
    elif vm.template:
        fix = "write the moref of a VM, or convert the template to one"
        yield Finding(VM_ID_FIELD, f"{vm} is a template, which Forklift can't convert: {fix}")


def _unknown_vm(facts: PvcFacts) -> str:
    message = f"{quoted(facts.pvc.vm_id)} is not a VM of {facts.provider or 'any vSphere provider'}"
    if facts.trusted and facts.same_uuid:
        owners = " or ".join(f"{quoted(vm.moref)} ({quoted(vm.name)})" for vm in facts.same_uuid)
        return f"{message}: the VM with this vmUUID is {owners}"
    if facts.trusted and facts.elsewhere:
        provider, vm = facts.elsewhere[0]
        return f"{message}: the VM with this vmUUID is {quoted(vm.moref)} of {provider}"
    return f'{message}: write the moref that vSphere shows, such as "vm-42"'


def _wrong_uuid(facts: PvcFacts, vm: VirtualMachine) -> str:
    uuid = facts.pvc.vm_uuid or ""
    if uuid.lower() == vm.uuid.lower():
        return (
            f"{quoted(uuid)} differs from the config.uuid of {vm} in case: write {quoted(vm.uuid)}"
        )
    if facts.proven:
        fix = f"write its config.uuid {quoted(vm.uuid)}"
        return f"{quoted(uuid)} is the instanceUuid of {vm}: {fix}"
    if not facts.trusted:
        fix = "copy config.uuid (not instanceUuid) from vSphere"
        return f"{quoted(uuid)} is not the config.uuid of {quoted(vm.moref)}: {fix}"
    fix = f"the config.uuid of {vm} is {quoted(vm.uuid)}"
    return f"{quoted(uuid)} is {_owner(facts)}: {fix}"


def _owner(facts: PvcFacts) -> str:
    if facts.same_uuid:
        return f"the uuid of {facts.same_uuid[0]}"
    if facts.elsewhere:
        provider, vm = facts.elsewhere[0]
        return f"the uuid of {vm} of {provider}"
    return "the uuid of no VM"


RULE = Rule(id="pvc-vm", facts=PvcFacts, reads=frozenset({VM_ID_FIELD, VM_UUID_FIELD}), check=check)
