"""Of vmID and vmUUID, the one that is missing is filled in where the other leaves no doubt.

Reads:  vmID, vmUUID
Asks:   vSphere, for the VM that the other label names
Fills:  a missing vmUUID or vmID, for a caller who may know it, beside a disk-source (a lone label
        is not yet a claim to a disk); a vmUUID in another case of letters, or with blanks around it
"""

from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Default
from webhook.model.keys import THREE_KEYS, VM_ID, VM_UUID, is_blank
from webhook.model.review import PatchOp


def fill(facts: PvcFacts) -> Iterator[PatchOp]:
    pvc, vm = facts.pvc, facts.vm
    if pvc.vm_id and pvc.vm_uuid:
        tidy = pvc.vm_uuid.strip()
        if vm and pvc.vm_uuid != vm.uuid and tidy.lower() == vm.uuid.lower():
            yield PatchOp("add", ("metadata", "labels", VM_UUID), vm.uuid)
        return
    if not facts.trusted or not facts.complete or is_blank(pvc.disk_source):
        return
    removed_id = facts.old is not None and facts.old.vm_id
    removed_uuid = facts.old is not None and facts.old.vm_uuid
    if vm and vm.uuid and not pvc.vm_uuid and not removed_uuid:
        yield PatchOp("add", ("metadata", "labels", VM_UUID), vm.uuid)
    elif pvc.vm_uuid and not pvc.vm_id and not removed_id:
        owners = [other for other in facts.same_uuid if other.uuid == pvc.vm_uuid.strip().lower()]
        if len(owners) == 1:
            yield PatchOp("add", ("metadata", "labels", VM_ID), owners[0].moref)


DEFAULT = Default(id="pvc-identity", facts=PvcFacts, reads=THREE_KEYS, fill=fill, asks_vsphere=True)
