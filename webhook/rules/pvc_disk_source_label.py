"""A disk source written as a label moves to the annotation, where Forklift looks for it.

Reads:  the label forklift.konveyor.io/disk-source
Fills:  the annotation, unless there is one, and takes the label away
"""

from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Default
from webhook.model.keys import DISK_SOURCE, DISK_SOURCE_LABEL_FIELD
from webhook.model.review import PatchOp


def fill(facts: PvcFacts) -> Iterator[PatchOp]:
    label = facts.pvc.disk_source_label
    if label is None:
        return
    if facts.pvc.disk_source is None:
        yield PatchOp("add", ("metadata", "annotations", DISK_SOURCE), label)
    yield PatchOp("remove", ("metadata", "labels", DISK_SOURCE))


DEFAULT = Default(
    id="pvc-disk-source-label",
    facts=PvcFacts,
    reads=frozenset({DISK_SOURCE_LABEL_FIELD}),
    fill=fill,
)
