"""PowerCLI's id of a VM becomes its moref.

Reads:  vmID, vmUUID
Asks:   vSphere, for the VM
Fills:  `VirtualMachine-vm-42` with `vm-42`, where vmUUID is one of that VM's uuids
"""

from collections.abc import Iterator

from webhook.facts import forms
from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Default
from webhook.model.keys import VM_ID, VM_ID_FIELD, VM_UUID_FIELD
from webhook.model.review import PatchOp


def fill(facts: PvcFacts) -> Iterator[PatchOp]:
    vm_id, vm = facts.pvc.vm_id or "", facts.vm
    if vm is not None and vm.moref == forms.moref(vm_id) != vm_id and facts.meant_uuid:
        yield PatchOp("add", ("metadata", "labels", VM_ID), vm.moref)


DEFAULT = Default(
    id="pvc-vm-id-prefix",
    facts=PvcFacts,
    reads=frozenset({VM_ID_FIELD, VM_UUID_FIELD}),
    fill=fill,
    asks_vsphere=True,
)
