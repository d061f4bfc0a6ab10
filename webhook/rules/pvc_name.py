"""A PVC's name can be the name of a volume of the conversion pod.

Reads:   metadata.name, when the PVC is created: it can't be changed later
Asks:    nothing
Accepts: a DNS label of at most 63 characters
Denies:  a longer name, one with a dot, and the names of the pod's own volumes, such as
         vddk-vol-mount, secret-volume and luks: the pod is refused once the source VM is off
Forklift: builds the pod with the name of the PVC as that of a volume: the pod is invalid, and the
         VM is off
"""

from collections.abc import Iterator

from webhook.facts import names
from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import NAME_FIELD, THREE_KEYS, Action, echoed


def check(facts: PvcFacts) -> Iterator[Finding]:
    pvc = facts.pvc
    if not (pvc.vm_id and pvc.vm_uuid and pvc.name):
        return
    if fault := names.fault(pvc.name):
        # The name can't be changed any more: only the labels can be given to another PVC.
        at_most: Action = "deny" if facts.old is None else "warn"
        yield Finding(NAME_FIELD, f"{echoed(pvc.name)} {fault}", at_most=at_most)


RULE = Rule(id="pvc-name", facts=PvcFacts, reads=THREE_KEYS, check=check, asks_vsphere=False)
