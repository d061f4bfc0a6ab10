"""The Plan that a Migration starts is Ready.

Reads:   spec.plan
Asks:    the cluster, for the Plan and what Forklift says of it
Accepts: a Plan with the condition Ready that Forklift has seen as it is now
         (status.observedGeneration), and without a condition of category Critical or Error
Denies:  any other, also one that Forklift has not seen yet: the Migration would wait, and start by
         itself the moment the Plan turns Ready, be it hours later and with nothing proven. Who
         applies a Plan and its Migration at once waits between the two, tries again, or sets this
         rule to warn
Forklift: waits, and starts by itself the moment the Plan turns Ready; then the disks are
          found wrong with the VM off, if anything has changed meanwhile
"""

from collections.abc import Iterator

from webhook.facts.facts import MigrationFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import MIGRATION_PLAN_FIELD, echoed


def check(facts: MigrationFacts) -> Iterator[Finding]:
    plan = facts.plan.plan
    if plan.seen and plan.ready and not plan.blockers:
        return
    if not plan.seen:
        there = "Forklift has not looked at the Plan as it is now:"
    elif plan.blockers:
        conditions = ", ".join(map(echoed, plan.blockers))
        there = f"the Plan is not Ready, but has the condition {conditions}: correct it,"
    else:
        there = "the Plan is not Ready:"
    wait = f"kubectl wait --for=condition=Ready plan/{plan.name} -n {plan.namespace}"
    yield Finding(MIGRATION_PLAN_FIELD, f"{there} run `{wait}`, then start the Migration")


RULE = Rule(
    id="migration-plan-ready",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    asks_vsphere=False,
)
