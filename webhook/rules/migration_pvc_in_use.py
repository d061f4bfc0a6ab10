"""No running pod uses the PVCs that a Migration converts.

Reads:   spec.plan
Asks:    the cluster, for the running pods of the Plan's target namespace
Accepts: PVCs that no running pod mounts
Denies:  a mounted one that is Block or ReadWriteOncePod: two writers damage the disk, or the
         conversion waits for ever; for any other there is a warning only
Forklift: does not look: a pod that waits for a volume leaves the Plan hanging with the VM off
"""

from collections.abc import Iterator

from msgspec.structs import replace

from webhook.facts.facts import MigrationFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import MIGRATION_PLAN_FIELD


def check(facts: MigrationFacts) -> Iterator[Finding]:
    for vm_facts, disks in facts.running:
        for found in disks.in_use(MIGRATION_PLAN_FIELD):
            yield replace(found, entry=vm_facts.entry.index)


RULE = Rule(
    id="migration-pvc-in-use",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    action="deny",
    again=True,
)
