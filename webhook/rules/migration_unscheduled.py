"""The PVCs that a Migration converts are bound before the source VM is shut down.

Reads:   spec.plan
Asks:    the cluster, for the PVCs in the Plan's target namespace and its storage classes
Accepts: bound PVCs
Warns:   of a PVC that is bound and filled only when the conversion pod comes: a pod that can't be
         scheduled for 5 minutes leaves the Plan hanging, with the source VM off
Forklift: leaves the Plan Executing for ever, with the VM off, if the pod waits for 5 minutes
"""

from collections.abc import Iterator

from msgspec.structs import replace

from webhook.facts.facts import MigrationFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import MIGRATION_PLAN_FIELD


def check(facts: MigrationFacts) -> Iterator[Finding]:
    for vm_facts, disks in facts.running:
        for found in disks.unscheduled(MIGRATION_PLAN_FIELD):
            yield replace(found, entry=vm_facts.entry.index)


RULE = Rule(
    id="migration-unscheduled",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    action="warn",
)
