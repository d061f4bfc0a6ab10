"""Forklift doesn't delete a vendor's PVCs before it converts them.

Reads:   spec.deleteVmOnFailMigration, spec.vms[].deleteVmOnFailMigration
Asks:    which Forklift is in this cluster: 2.12.0 and earlier clean up before they begin
Accepts: `false`; anything with a later Forklift
Denies:  a Migration whose Plan has it true, also by the CRD's default, with a Forklift that deletes
         the PVCs. At the Plan it warns, and at both where the version is not known
Forklift: up to 2.12.0 deletes the PVCs, and then finds none to convert
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import DELETE_FIELD, PLAN_VMS_FIELD, Action


def check(facts: PlanFacts) -> Iterator[Finding]:
    release = facts.release
    if release is None or release.pvcs == "kept":
        return
    at_most: Action = "warn"
    if release.pvcs == "deleted":
        at_most = "deny"
        who = f"Forklift {release.version}".strip()
        why = f"{who} deletes the vendor's PVCs at the start of a Plan with true"
    else:
        why = "this cluster's Forklift may be 2.12.0 or earlier, which deletes the vendor's PVCs"
    for field in _deleting(facts):
        yield Finding(field, f"write false: {why}", at_most=at_most)


def _deleting(facts: PlanFacts) -> Iterator[str]:
    """The fields that say so; absent, the CRD says it."""
    if facts.plan.spec.get("deleteVmOnFailMigration") is not False:
        yield DELETE_FIELD
    for vm in facts.vms:
        if vm.judged and vm.entry.deletes:
            yield f"{vm.entry.field}.deleteVmOnFailMigration"


RULE = Rule(
    id="plan-keep-pvcs",
    facts=PlanFacts,
    reads=frozenset({DELETE_FIELD, PLAN_VMS_FIELD}),
    check=check,
    asks_vsphere=False,
    again=True,
)
