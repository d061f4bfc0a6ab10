"""The PVCs that a Migration converts have names that volumes of a pod can have.

Reads:   spec.plan
Asks:    the cluster, for the PVCs in the Plan's target namespace; vSphere, for the VMs
Accepts: names that are DNS labels of at most 63 characters
Denies:  a longer name, one with a dot, and the names of the pod's own volumes: Forklift shuts the
         source VM down, and then the conversion pod is refused
Forklift: builds the pod with the name of the PVC as that of a volume: the pod is invalid, and the
         VM is off
"""

from collections.abc import Iterator

from msgspec.structs import replace

from webhook.facts.facts import MigrationFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import MIGRATION_PLAN_FIELD


def check(facts: MigrationFacts) -> Iterator[Finding]:
    for vm_facts, disks in facts.running:
        for found in disks.names(MIGRATION_PLAN_FIELD):
            yield replace(found, entry=vm_facts.entry.index)


RULE = Rule(
    id="migration-pvc-name",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    gate=True,
    again=True,
)
