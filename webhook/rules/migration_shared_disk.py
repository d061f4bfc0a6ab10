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

from webhook.facts.diskset import DiskSet
from webhook.facts.facts import MigrationFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import MIGRATION_PLAN_FIELD


def check(facts: MigrationFacts) -> Iterator[Finding]:
    return facts.found(DiskSet.not_shareable)


RULE = Rule(
    id="migration-shared-disk",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    action="warn",
    again=True,
)
