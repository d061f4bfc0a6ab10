"""A bare or partial file name becomes the disk's full path.

Reads:  vmID, vmUUID, disk-source
Asks:   vSphere, for the disks of the VM that both labels name
Fills:  `disk.vmdk`, `folder/disk.vmdk` or a path in another case of letters with the one full
        `[datastore] folder/disk.vmdk` that it fits, a snapshot's suffix left out. As shipped, the
        API server doesn't ask for a full path that ends in `.vmdk`, so that one in another case
        of letters is denied, with the right one
"""

from collections.abc import Iterator

from webhook.facts import forms
from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Default
from webhook.model.keys import DISK_SOURCE, THREE_KEYS, is_blank
from webhook.model.review import PatchOp


def fill(facts: PvcFacts) -> Iterator[PatchOp]:
    vm, source = facts.vm, facts.pvc.disk_source
    if vm is None or not facts.certain or source is None or is_blank(source) or facts.matching:
        return
    if (disk := forms.only(vm.disks, source)) is not None:
        yield PatchOp("add", ("metadata", "annotations", DISK_SOURCE), disk.disk_source)


DEFAULT = Default(
    id="pvc-disk-source-path", facts=PvcFacts, reads=THREE_KEYS, fill=fill, asks_vsphere=True
)
