"""What a VM writes until Forklift shuts it down is copied, too.

Reads:   spec.plan
Asks:    vSphere, for the power state of the VMs; the cluster, for the annotation
         conversion-guard.io/in-sync on their PVCs
Accepts: VMs that are off; PVCs with that annotation, by which their vendor says that each follows
         its disk until the VM is off
Warns:   of VMs that run: nothing lies between the shutdown and the conversion, so what they write
         after the vendor's last sync is lost. One line for the whole Migration
Forklift: converts at once after the shutdown: what came after the last sync is lost
"""

from collections.abc import Iterator

from webhook.facts.facts import MigrationFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import IN_SYNC, MIGRATION_PLAN_FIELD


def check(facts: MigrationFacts) -> Iterator[Finding]:
    running = facts.counted(lambda vm, disks: vm.power_state == "poweredOn" and not disks.follows)
    if running:
        fix = f"replicate until the VMs are off, and annotate the PVCs {IN_SYNC}"
        message = f"{fix}: {running} on, and what is written after the last sync is lost"
        yield Finding(MIGRATION_PLAN_FIELD, message)


RULE = Rule(
    id="migration-running",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    action="warn",
    again=True,
)
