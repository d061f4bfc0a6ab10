"""Each VM that a Migration converts has all of its disks afterwards.

Reads:   spec.plan
Asks:    vSphere, for the controllers and backings of the VM's disks
Accepts: flat disks and raw device mappings on SCSI, SATA, IDE or NVMe
Warns:   of a disk on USB, or of another backing (SeSparse): the Migration succeeds, and the new VM
         lacks that disk
Forklift: succeeds without the disk
"""

from collections.abc import Iterator

from webhook.facts.diskset import DiskSet
from webhook.facts.facts import MigrationFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import MIGRATION_PLAN_FIELD


def check(facts: MigrationFacts) -> Iterator[Finding]:
    return facts.found(DiskSet.lost)


RULE = Rule(
    id="migration-lost-disk",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    action="warn",
    again=True,
)
