"""No other Plan converts the same VM from the same PVCs.

Reads:   spec.plan, and of that Plan the VMs that Forklift will run
Asks:    the cluster, for the Migrations that have not ended and their Plans; vSphere, for the VMs
Accepts: a VM of another Plan with another target namespace, of one that no Migration has started,
         or of one that is done with it
Denies:  a VM that is in another Plan with the same target namespace whose Migration has not ended:
         two conversions would write the same disks
Forklift: does not look at other Plans: both convert at once
"""

from collections.abc import Iterator

from webhook.facts.facts import MigrationFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import MIGRATION_PLAN_FIELD, RESUME_FIELD, quoted


def check(facts: MigrationFacts) -> Iterator[Finding]:
    for vm_facts, _ in facts.running:
        if (other := vm_facts.elsewhere) is not None:
            which = f"Plan {quoted(other)}" if other else "another Plan"
            there = f"{vm_facts.label} is in {which}, too, whose Migration has not ended"
            fix = f"wait until it has, or {facts.leave_out}"
            yield Finding(MIGRATION_PLAN_FIELD, f"{there}: {fix}", entry=vm_facts.entry.index)


RULE = Rule(
    id="migration-another-plan",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD, RESUME_FIELD}),
    check=check,
    gate=True,
    again=True,
)
