"""A vmUUID in another form becomes the one that vSphere shows.

Reads:  vmID, vmUUID
Asks:   vSphere, for the VM that vmID names
Fills:  a vmUUID without dashes, or with its first bytes swapped as a guest shows it, where the VM's
        config.uuid is what it means. As shipped, the API server doesn't ask for one in small
        letters with dashes, so that one with its bytes swapped is denied, with the right one
"""

from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Default
from webhook.model.keys import VM_ID_FIELD, VM_UUID, VM_UUID_FIELD
from webhook.model.review import PatchOp


def fill(facts: PvcFacts) -> Iterator[PatchOp]:
    if facts.identity == "form" and facts.vm is not None:
        yield PatchOp("add", ("metadata", "labels", VM_UUID), facts.vm.uuid)


DEFAULT = Default(
    id="pvc-uuid-form",
    facts=PvcFacts,
    reads=frozenset({VM_ID_FIELD, VM_UUID_FIELD}),
    fill=fill,
    asks_vsphere=True,
)
