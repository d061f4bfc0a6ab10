"""A disk source without a blank after the datastore gets it.

Reads:  vmID, vmUUID, disk-source
Asks:   vSphere, for the disks of the VM that both labels name
Fills:  `[datastore]folder/disk.vmdk` with `[datastore] folder/disk.vmdk`, where that is one disk of
        the VM
"""

from collections.abc import Iterator

from webhook.facts import forms
from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Default
from webhook.model.keys import DISK_SOURCE, THREE_KEYS
from webhook.model.review import PatchOp


def fill(facts: PvcFacts) -> Iterator[PatchOp]:
    reading, disk = facts.other_form
    if reading == forms.BLANK and disk is not None:
        yield PatchOp("add", ("metadata", "annotations", DISK_SOURCE), disk.disk_source)


DEFAULT = Default(
    id="pvc-disk-source-blank", facts=PvcFacts, reads=THREE_KEYS, fill=fill, asks_vsphere=True
)
