"""What a snapshot's delta file holds is copied, too.

Reads:   spec.plan
Asks:    vSphere, for the files of the VMs' disks; the cluster, for the annotation
         conversion-guard.io/in-sync on their PVCs
Accepts: disks without a snapshot; a PVC with that annotation, by which its vendor says that it
         follows the disk, a snapshot's delta included
Warns:   of disks with a snapshot: a copy of the base file misses what was written since. One line
         for the whole Migration
Forklift: takes a PVC of the base for the disk: what the delta holds is lost
"""

from collections.abc import Iterator

from webhook.facts.facts import MigrationFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import IN_SYNC, MIGRATION_PLAN_FIELD


def check(facts: MigrationFacts) -> Iterator[Finding]:
    if found := facts.counted(lambda vm, disks: disks.bases_only):
        fix = f"delete the snapshots and copy again, or annotate the PVCs {IN_SYNC} if the copies"
        why = f"{found} on snapshots, so a copy of the base file is old"
        yield Finding(MIGRATION_PLAN_FIELD, f"{fix} have the deltas: {why}")


RULE = Rule(
    id="migration-snapshots",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    action="warn",
    again=True,
)
