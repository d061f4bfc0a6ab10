"""A new conversion Plan does not have its PVCs deleted when it starts.

Reads:  spec.deleteVmOnFailMigration
Fills:  `false` where it is absent or true, on CREATE only, and where this cluster's Forklift is
        known to delete the vendor's PVCs then (2.12.0 and earlier). The CRD's default writes true
        before any webhook is called, so that true is what an absent field looks like
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Default
from webhook.model.keys import DELETE_FIELD
from webhook.model.review import PatchOp


def fill(facts: PlanFacts) -> Iterator[PatchOp]:
    deletes = facts.release is not None and facts.release.pvcs == "deleted"
    keeps = facts.plan.spec.get("deleteVmOnFailMigration") is False
    if deletes and not keeps and facts.old is None:
        yield PatchOp("add", ("spec", "deleteVmOnFailMigration"), False)


DEFAULT = Default(
    id="plan-no-deletion", facts=PlanFacts, reads=frozenset({DELETE_FIELD}), fill=fill
)
