"""A Migration can write to the PVCs that it converts.

Reads:   spec.plan
Asks:    the cluster, for the PVCs in the Plan's target namespace; vSphere, for the VMs
Accepts: PVCs with any access mode that allows writing
Denies:  a PVC with ReadOnlyMany as its only access mode: a conversion writes to the disk
Forklift: mounts it for writing: the VM is off when that fails
"""

from collections.abc import Iterator

from msgspec.structs import replace

from webhook.facts.facts import MigrationFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import MIGRATION_PLAN_FIELD


def check(facts: MigrationFacts) -> Iterator[Finding]:
    for vm_facts, disks in facts.running:
        for found in disks.read_only(MIGRATION_PLAN_FIELD):
            yield replace(found, entry=vm_facts.entry.index)


RULE = Rule(
    id="migration-access-mode",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    gate=True,
    again=True,
)
