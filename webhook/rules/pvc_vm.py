"""A PVC's vmID and vmUUID name one VM of a vSphere provider.

Reads:   vmID, vmUUID
Asks:    vSphere, for that VM's config.uuid
Accepts: a VM's moref together with its config.uuid, byte for byte
Denies:  a vmID that no VM has; another VM's uuid, the VM's instanceUuid, upper and lower
         case mixed up, a uuid in another form; a template
Forklift: counts no PVC of that VM, and waits with the VM on (MissingPvcForOnlyConversion)
"""

from collections.abc import Iterator

from webhook.facts import forms
from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Finding, Rule, Unknown
from webhook.model.keys import MOREF, VM_ID_FIELD, VM_UUID_FIELD, echoed, quoted
from webhook.model.vms import VirtualMachine


def check(facts: PvcFacts) -> Iterator[Finding | Unknown]:
    pvc, vm = facts.pvc, facts.vm
    if not pvc.vm_id or not pvc.vm_uuid:
        return
    if not MOREF.fullmatch(pvc.vm_id):
        yield _with_owner(facts, f"{echoed(pvc.vm_id)} is not a moref")
    elif facts.identity == "unknown":
        nobody = (
            f"provider {facts.provider} has no" if facts.provider else "no vSphere provider has a"
        )
        yield _with_owner(facts, f"{nobody} VM {echoed(pvc.vm_id)}")
    elif facts.identity == "unread":
        trouble = vm.trouble if vm else "can't be read now"
        yield Unknown(VM_ID_FIELD, f"{quoted(pvc.vm_id)} {trouble}")
    elif facts.identity != "same":
        certain = vm.uuid if vm and facts.certain else None
        yield Finding(VM_UUID_FIELD, _wrong_uuid(facts, vm), expected=certain)
    elif vm and vm.template:
        fix = "write the moref of a VM, or convert the template to one"
        yield Finding(VM_ID_FIELD, f"{vm} is a template, which Forklift can't convert: {fix}")


def _with_owner(facts: PvcFacts, message: str) -> Finding:
    """With every VM that has the claim's vmUUID, where the caller may know them."""
    vm_id, owners = facts.pvc.vm_id or "", facts.same_uuid
    if (moref := forms.moref(vm_id)) != vm_id and not owners:
        fix = f"write {quoted(moref)}, if that is its moref: PowerCLI puts a prefix before it"
        return Finding(VM_ID_FIELD, f"{message}: {fix}")
    if not owners:
        fix = 'write the moref that vSphere shows, such as "vm-42"'
        return Finding(VM_ID_FIELD, f"{message}: {fix}")
    expected = owners[0][1].moref if len(owners) == 1 else None
    uuid = (facts.pvc.vm_uuid or "").strip()
    names = " or ".join(
        f"{quoted(vm.moref)} ({quoted(vm.name)} of {provider}){_and_uuid(vm, uuid)}"
        for provider, vm in owners
    )
    return Finding(
        VM_ID_FIELD, f"{message}: write the VM with this vmUUID, {names}", expected=expected
    )


def _and_uuid(vm: VirtualMachine, uuid: str) -> str:
    """What else is to be written where the vmUUID is its instanceUuid."""
    same = uuid.lower() == vm.uuid.lower()
    return "" if same else f" with its config.uuid {quoted(vm.uuid)}"


def _wrong_uuid(facts: PvcFacts, vm: VirtualMachine | None) -> str:
    uuid = echoed(facts.pvc.vm_uuid)
    if vm is None:
        fix = "copy both from vSphere, the moref and its config.uuid (not instanceUuid)"
        return f"{uuid} is not the config.uuid of a VM {quoted(facts.pvc.vm_id)}: {fix}"
    if facts.identity == "form":
        form = next(
            one.form for one in forms.uuids(facts.pvc.vm_uuid or "") if one.value == vm.uuid.lower()
        )
        return f"{uuid} is the config.uuid of {vm} {form}: write {quoted(vm.uuid)}"
    if facts.identity == "case":
        return f"{uuid} differs from the config.uuid of {vm} in case: write {quoted(vm.uuid)}"
    if facts.identity == "instance":
        return f"{uuid} is the instanceUuid of {vm}: write its config.uuid {quoted(vm.uuid)}"
    owner = " and ".join(f"{vm} of {provider}" for provider, vm in facts.same_uuid)
    there = f"{uuid} is {f'the uuid of {owner}' if owner else 'not the uuid of any VM'}"
    if facts.certain:
        return f"{there}: write {quoted(vm.uuid)}, the config.uuid of {vm}"
    if not facts.same_moref:
        return f"{there}, and not of {quoted(vm.moref)}: copy config.uuid from vSphere"
    each = " or ".join(
        f"{quoted(one.uuid)} ({one} of {provider})" for provider, one in facts.same_moref
    )
    return f"{there}: the config.uuid of {quoted(vm.moref)} is {each}"


RULE = Rule(id="pvc-vm", facts=PvcFacts, reads=frozenset({VM_ID_FIELD, VM_UUID_FIELD}), check=check)
