"""A PVC's disk is on a bus whose disks Forklift attaches.

Reads:   the three keys
Asks:    vSphere, for the controller of that disk
Accepts: a disk on a SCSI, SATA, IDE or NVMe controller
Warns:   of one on USB or on a controller of no known kind: Forklift counts it, then drops it
Forklift: succeeds without the disk
"""

from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import DISK_SOURCE_FIELD, THREE_KEYS, quoted


def check(facts: PvcFacts) -> Iterator[Finding]:
    disk = facts.disk
    if disk is not None and not disk.attached:
        bus = f"on {disk.bus.upper()}" if disk.bus else "on no known controller"
        fix = "move the disk to a SCSI controller: Forklift counts it, then drops it"
        yield Finding(DISK_SOURCE_FIELD, f"{fix}; {quoted(disk.source)} is {bus}")


RULE = Rule(id="pvc-disk-bus", facts=PvcFacts, reads=THREE_KEYS, check=check, action="warn")
