"""The PVCs of one VM have one volume mode, and a Filesystem holds a raw disk.img.

Reads:   spec.volumeMode, when the PVC claims a disk
Asks:    the cluster, for the other PVCs of the VM
Accepts: Block, where the VM's other PVCs are Block, too
Warns:   of two modes within a VM: the conversion lists every Filesystem before every Block, which
         changes the order of the disks; of a Filesystem, which must hold the disk as a raw disk.img
Forklift: takes either, and permutes the disks where both are mixed
"""

from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import THREE_KEYS, VOLUME_MODE_FIELD, quoted


def check(facts: PvcFacts) -> Iterator[Finding]:
    pvc = facts.pvc
    if not (pvc.vm_id and pvc.vm_uuid):
        return
    for other in facts.siblings:
        if other.volume_mode != pvc.volume_mode:
            there = f"PVC {quoted(other.name)}" if other.name else "another PVC of this VM"
            fix = f"write {other.volume_mode} as in {there}"
            message = f"{fix}: two volume modes in one VM change the order of its disks"
            yield Finding(VOLUME_MODE_FIELD, message)
            return
    if pvc.volume_mode == "Filesystem":
        fix = "put the disk into the volume's root as a raw disk.img, or write Block"
        yield Finding(VOLUME_MODE_FIELD, fix)


RULE = Rule(
    id="pvc-volume-mode",
    facts=PvcFacts,
    reads=THREE_KEYS,
    check=check,
    asks_vsphere=False,
    asks_cluster=True,
    action="warn",
)
