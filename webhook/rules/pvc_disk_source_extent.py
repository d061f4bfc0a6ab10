"""A file behind a disk becomes the disk.

Reads:  vmID, vmUUID, disk-source
Asks:   vSphere, for the disks of the VM that both labels name
Fills:  `disk-flat.vmdk`, `disk-ctk.vmdk` and the like with the full path of the one disk of the VM
        that they belong to
"""

from collections.abc import Iterator

from webhook.facts import forms
from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Default
from webhook.model.keys import DISK_SOURCE, THREE_KEYS
from webhook.model.review import PatchOp


def fill(facts: PvcFacts) -> Iterator[PatchOp]:
    reading, disk = facts.other_form
    if reading == forms.EXTENT and disk is not None:
        yield PatchOp("add", ("metadata", "annotations", DISK_SOURCE), disk.disk_source)


DEFAULT = Default(
    id="pvc-disk-source-extent", facts=PvcFacts, reads=THREE_KEYS, fill=fill, asks_vsphere=True
)
