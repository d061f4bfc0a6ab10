"""A disk is claimed by one PVC of a namespace.

Reads:   the three keys
Asks:    the cluster, for the other PVCs of the namespace that have the labels
Accepts: a disk that no other PVC claims, or one that is being deleted
Denies:  a second claim: Forklift would count both, and attach the one that comes last
Forklift: counts both and keeps the last: another disk has none, and the VM is off; one PVC more
         than disks leaves the VM on
"""

from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import (
    DISK_SOURCE_FIELD,
    THREE_KEYS,
    VM_ID,
    VM_UUID,
    echoed,
    is_blank,
    quoted,
)
from webhook.model.objects import Claim, released
from webhook.model.vms import trim_backing_file


def check(facts: PvcFacts) -> Iterator[Finding]:
    source = facts.pvc.disk_source
    if source is None or is_blank(source):
        return
    wanted = trim_backing_file(source)
    for other in facts.siblings:
        if other.source == wanted:
            which, fix = _which(other)
            message = f"{echoed(source)} is already claimed by PVC {which}: name another disk"
            yield Finding(DISK_SOURCE_FIELD, f"{message}, or {fix}", "FieldValueDuplicate")
            return


def _which(claim: Claim) -> tuple[str, str]:
    """How to call it, and what to do; one without a name is not to be named."""
    if not claim.name:
        labels = f"{VM_ID}={claim.vm_id},{VM_UUID}={claim.vm_uuid}"
        look = f"kubectl get pvc -n {claim.namespace} -l {labels}"
        return "with the same labels", f"look for that PVC: {look}"
    return quoted(claim.name), f"release that PVC: {released(claim.namespace, claim.name)}"


RULE = Rule(
    id="pvc-disk-claimed",
    facts=PvcFacts,
    reads=THREE_KEYS,
    check=check,
    asks_vsphere=False,
    asks_cluster=True,
)
