"""A conversion Plan without a storage map gets an empty one.

Reads:  spec.map
Fills:  an absent or null spec.map.storage with {}: the CRD requires it, a conversion never uses it
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Default
from webhook.model.keys import STORAGE_MAP_FIELD
from webhook.model.review import PatchOp


def fill(facts: PlanFacts) -> Iterator[PatchOp]:
    maps = facts.plan.spec.get("map")
    if isinstance(maps, dict) and maps.get("storage") is None:
        yield PatchOp("add", ("spec", "map", "storage"), {})


DEFAULT = Default(
    id="plan-storage-map", facts=PlanFacts, reads=frozenset({STORAGE_MAP_FIELD}), fill=fill
)
