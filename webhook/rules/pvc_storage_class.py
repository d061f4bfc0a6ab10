"""A PVC's storage class exists.

Reads:   spec.storageClassName, when the PVC claims a disk
Asks:    the cluster, for its storage classes
Accepts: a class that exists; none, where one is the default; a PVC that is bound to a volume by
         name, or asks for none ("")
Warns:   of a class that doesn't exist, and of none where there is no default
Forklift: checks no class: a PVC that is never bound leaves the Plan hanging with the VM off
"""

from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import STORAGE_CLASS_FIELD, THREE_KEYS, echoed, either


def check(facts: PvcFacts) -> Iterator[Finding]:
    pvc, classes = facts.pvc, facts.classes
    if classes is None or pvc.volume_name or pvc.storage_class == "":
        return
    fix = f"write {either(sorted(classes), 5)}" if classes else "create one first"
    if pvc.storage_class is None:
        if not any(found.default for found in classes.values()):
            yield Finding(STORAGE_CLASS_FIELD, f"{fix}: no storage class is the default")
    elif pvc.storage_class not in classes:
        message = f"there is no storage class {echoed(pvc.storage_class)}: {fix}"
        yield Finding(STORAGE_CLASS_FIELD, message)


RULE = Rule(
    id="pvc-storage-class",
    facts=PvcFacts,
    reads=THREE_KEYS,
    check=check,
    asks_vsphere=False,
    asks_cluster=True,
    action="warn",
)
