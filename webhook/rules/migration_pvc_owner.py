"""No PVC that a Migration converts belongs to a VirtualMachine already.

Reads:   spec.plan
Asks:    the cluster, for the PVCs in the Plan's target namespace; vSphere, for the VMs
Accepts: PVCs that no VirtualMachine owns, and any of a VM that has succeeded before
Denies:  a PVC that a VirtualMachine owns: Forklift would convert the finished VM's disks again, and
         take their ownership
Forklift: converts the finished VM's disks again and takes their ownership, with the VM off
"""

from collections.abc import Iterator

from msgspec.structs import replace

from webhook.facts.facts import MigrationFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import MIGRATION_PLAN_FIELD


def check(facts: MigrationFacts) -> Iterator[Finding]:
    for vm_facts, disks in facts.running:
        for found in disks.owned(MIGRATION_PLAN_FIELD):
            yield replace(found, entry=vm_facts.entry.index)


RULE = Rule(
    id="migration-pvc-owner",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    gate=True,
    again=True,
)
