"""A shared disk is not dropped from the VMs that a Migration converts.

Reads:   spec.plan, and of that Plan migrateSharedDisks
Asks:    the cluster, for the PVCs in the Plan's target namespace; vSphere, for shared
         disks
Accepts: migrateSharedDisks: true, which is the default; a PVC with the label `shareable: "true"`
         whose disk-source is the file exactly as vSphere shows it
Warns:   of any other PVC of a shared disk with migrateSharedDisks: false: the new VM lacks that
         disk
Forklift: succeeds without the disk
"""

from collections.abc import Iterator

from msgspec.structs import replace

from webhook.facts.facts import MigrationFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import MIGRATION_PLAN_FIELD


def check(facts: MigrationFacts) -> Iterator[Finding]:
    for vm_facts, disks in facts.running:
        entry = vm_facts.entry
        migrates = entry.migrates_shared
        if facts.plan.plan.migrates_shared if migrates is None else migrates:
            continue
        for found in disks.not_shareable(MIGRATION_PLAN_FIELD):
            yield replace(found, entry=entry.index)


RULE = Rule(
    id="migration-shared-disk",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    action="warn",
)
