"""A PVC is at least as large as the disk that it stands for.

Reads:   spec.resources.requests.storage, when the PVC claims a disk; not when it is expanded
Asks:    vSphere, for that disk's capacity
Accepts: a request of at least the disk's bytes; with a warning, a smaller one of a PVC that is
         bound to a volume by name, and a Filesystem without 6 % of room for the file system itself
Denies:  any other smaller request
Forklift: checks no size: what is beyond the end of the PVC is lost
"""

import math
from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import STORAGE_FIELD, THREE_KEYS, Action, echoed
from webhook.model.vms import needed, whole


def check(facts: PvcFacts) -> Iterator[Finding]:
    pvc, disk, size = facts.pvc, facts.disk, facts.storage
    if disk is None or size is None:
        return
    if size < disk.capacity:
        there = f"{echoed(pvc.storage)} ({math.ceil(size)} bytes)"
        expected = whole(disk.capacity)
        fix = f'write at least "{expected}"'
        message = f"{there} is less than the {disk.capacity} bytes of the disk: {fix}"
        at_most: Action = "warn" if pvc.volume_name else "deny"
        yield Finding(STORAGE_FIELD, message, at_most=at_most, expected=expected)
    elif size < (enough := needed(disk.capacity, pvc.volume_mode)):
        roomy = whole(enough)
        message = f'write "{roomy}": a file system needs about 6 % more than the disk image'
        yield Finding(STORAGE_FIELD, message, at_most="warn", expected=roomy)


RULE = Rule(id="pvc-capacity", facts=PvcFacts, reads=THREE_KEYS, check=check)
