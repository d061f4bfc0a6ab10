"""A vmUUID that is the VM's instanceUuid becomes its config.uuid.

Reads:  vmID, vmUUID
Asks:   vSphere, for the VM that vmID names
Fills:  vmUUID, where it is that very VM's instanceUuid. To switch it on, take the condition
        may-need-repair out of the mutating webhook for PVCs, too: no condition can tell the one
        kind of uuid from the other. Until then such a PVC is denied, with the right one
"""

from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Default
from webhook.model.keys import VM_ID_FIELD, VM_UUID, VM_UUID_FIELD
from webhook.model.review import PatchOp


def fill(facts: PvcFacts) -> Iterator[PatchOp]:
    vm, uuid = facts.vm, (facts.pvc.vm_uuid or "").strip().lower()
    if vm and vm.uuid and uuid != vm.uuid.lower() and uuid == vm.instance_uuid.lower():
        yield PatchOp("add", ("metadata", "labels", VM_UUID), vm.uuid)


DEFAULT = Default(
    id="pvc-instance-uuid",
    facts=PvcFacts,
    reads=frozenset({VM_ID_FIELD, VM_UUID_FIELD}),
    fill=fill,
    asks_vsphere=True,
    on=False,
)
