"""The source VM of a conversion that is resumed is still off.

Reads:   spec.resumeConversion, spec.plan
Asks:    the cluster, for the Plan; vSphere, with a fresh read, for the power state of its VMs
Accepts: VMs that are off; VMs whose disks were not in place (status.migration.vms[].disksCopied),
         which a resumed conversion leaves out
Denies:  a VM that somebody has switched on again: its disks have changed since they were copied,
         and two VMs would run
Forklift: does not look at the power state: stale disks, and two VMs that run
"""

from collections.abc import Iterator

from webhook.facts.facts import MigrationFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import MIGRATION_PLAN_FIELD, RESUME_FIELD


def check(facts: MigrationFacts) -> Iterator[Finding]:
    for vm_facts in facts.plan.vms:
        if facts.resumes and vm_facts.judged and vm_facts.back_on:
            message = (
                f"{vm_facts.label} is on again in vSphere since its conversion began: shut it "
                "down and have its disks copied anew, then start a Migration without "
                "resumeConversion"
            )
            yield Finding(RESUME_FIELD, message, entry=vm_facts.entry.index)


RULE = Rule(
    id="migration-resume",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD, RESUME_FIELD}),
    check=check,
    gate=True,
)
