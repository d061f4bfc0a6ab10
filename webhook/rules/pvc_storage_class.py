"""A PVC's storage class exists.

Reads:   spec.storageClassName, when a claim to a disk is made
Asks:    the cluster, for its storage classes
Accepts: a class that is there; none, where one is the default; a PVC that is tied to a volume by
         name, or asks for none ("")
Warns:   of a class that isn't there, and of none where there is no default
"""

from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import STORAGE_CLASS_FIELD, THREE_KEYS, quoted


def check(facts: PvcFacts) -> Iterator[Finding]:
    pvc, classes = facts.pvc, facts.classes
    if classes is None or pvc.volume_name or pvc.storage_class == "":
        return
    known = ", ".join(sorted(classes)[:5]) or "none there yet"
    if pvc.storage_class is None:
        if not any(found.default for found in classes.values()):
            yield Finding(STORAGE_CLASS_FIELD, f"name one ({known}): no class is the default")
    elif pvc.storage_class not in classes:
        message = f"{quoted(pvc.storage_class)} is no storage class: write one that is ({known})"
        yield Finding(STORAGE_CLASS_FIELD, message)


RULE = Rule(
    id="pvc-storage-class",
    facts=PvcFacts,
    reads=THREE_KEYS,
    check=check,
    asks_vsphere=False,
    action="warn",
)
