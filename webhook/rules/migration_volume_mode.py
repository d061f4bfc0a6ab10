"""The PVCs of each VM that a Migration converts have one volume mode.

Reads:   spec.plan
Asks:    the cluster, for the PVCs in the Plan's target namespace
Accepts: PVCs that are all Block, or all Filesystem
Warns:   of both in one VM: the conversion counts every Filesystem before every Block, which
         changes the order of the disks
Forklift: succeeds, and permutes the disks
"""

from collections.abc import Iterator

from msgspec.structs import replace

from webhook.facts.facts import MigrationFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import MIGRATION_PLAN_FIELD


def check(facts: MigrationFacts) -> Iterator[Finding]:
    for vm_facts, disks in facts.running:
        for found in disks.modes(MIGRATION_PLAN_FIELD):
            yield replace(found, entry=vm_facts.entry.index)


RULE = Rule(
    id="migration-volume-mode",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    action="warn",
)
