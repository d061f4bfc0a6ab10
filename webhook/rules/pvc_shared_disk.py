"""A PVC's disk belongs to one VM.

Reads:   the three keys
Asks:    vSphere, for the disk's sharing
Accepts: a disk that isn't shared
Warns:   of a shared one: each VM that shares it needs its own PVC, and the copies drift apart
Forklift: does not start a Plan whose disk a running VM shares
"""

from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import DISK_SOURCE_FIELD, THREE_KEYS, quoted


def check(facts: PvcFacts) -> Iterator[Finding]:
    disk = facts.disk
    if disk is not None and disk.shared:
        fix = "shut down every VM that shares the disk, and create a PVC for each"
        yield Finding(DISK_SOURCE_FIELD, f"{fix}: {quoted(disk.source)} is shared in vSphere")


RULE = Rule(id="pvc-shared-disk", facts=PvcFacts, reads=THREE_KEYS, check=check, action="warn")
