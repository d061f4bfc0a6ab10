"""A Block PVC can be mounted by two nodes, so that its VM can be live-migrated.

Reads:   spec.accessModes, spec.volumeMode, when the PVC claims a disk
Asks:    nothing
Accepts: Block with ReadWriteMany, and any Filesystem
Warns:   of Block without ReadWriteMany
Forklift: takes any that can be written
"""

from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import ACCESS_MODES_FIELD, THREE_KEYS


def check(facts: PvcFacts) -> Iterator[Finding]:
    pvc = facts.pvc
    if not (pvc.vm_id and pvc.vm_uuid):
        return
    if pvc.volume_mode == "Block" and "ReadWriteMany" not in pvc.access_modes:
        message = "write ReadWriteMany: without it the new VM can't be live-migrated"
        yield Finding(ACCESS_MODES_FIELD, message)


RULE = Rule(
    id="pvc-access-mode",
    facts=PvcFacts,
    reads=THREE_KEYS,
    check=check,
    asks_vsphere=False,
    action="warn",
)
