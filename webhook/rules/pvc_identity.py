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
    pvc = facts.pvc
    if pvc.vm_id and pvc.vm_uuid:
        tidy = pvc.vm_uuid.strip()
        if facts.vm and pvc.vm_uuid != facts.vm.uuid and tidy.lower() == facts.vm.uuid.lower():
            yield PatchOp("add", ("metadata", "labels", VM_UUID), facts.vm.uuid)
        return
    if is_blank(pvc.disk_source):
        return
    removed_id = facts.old is not None and facts.old.vm_id
    removed_uuid = facts.old is not None and facts.old.vm_uuid
    if pvc.vm_id and len(facts.same_moref) == 1 and not removed_uuid:
        if uuid := facts.same_moref[0][1].uuid:
            yield PatchOp("add", ("metadata", "labels", VM_UUID), uuid)
    elif pvc.vm_uuid and not pvc.vm_id and not removed_id:
        tidy = pvc.vm_uuid.strip().lower()
        owners = [vm for _, vm in facts.same_uuid if vm.uuid == tidy]
        if len(owners) == 1:
            yield PatchOp("add", ("metadata", "labels", VM_ID), owners[0].moref)


DEFAULT = Default(id="pvc-identity", facts=PvcFacts, reads=THREE_KEYS, fill=fill, asks_vsphere=True)
