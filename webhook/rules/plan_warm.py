"""A conversion Plan isn't also a warm migration.

Reads:   spec.type, spec.warm
Asks:    nothing
Accepts: spec.warm absent or false
Denies:  true: Forklift treats any such Plan as a warm one, and asks for changed block tracking
Forklift: does not start the Plan
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import PLAN_TYPE_FIELD, WARM_FIELD


def check(facts: PlanFacts) -> Iterator[Finding]:
    if facts.plan.warm:
        fix = "write false, or leave it out; for a warm migration write type: warm"
        message = f"is true: Forklift treats this Plan as a warm one, too: {fix}"
        yield Finding(WARM_FIELD, message, "FieldValueForbidden")


RULE = Rule(
    id="plan-warm",
    facts=PlanFacts,
    reads=frozenset({PLAN_TYPE_FIELD, WARM_FIELD}),
    check=check,
    asks_vsphere=False,
)
