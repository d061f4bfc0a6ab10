"""A conversion Plan has a network map.

Reads:   spec.map.network
Asks:    nothing
Accepts: a reference with a name
Warns:   of none: a conversion needs no storage map, but Forklift waits for a network map
Forklift: does not start the Plan
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import NETWORK_MAP_FIELD, PLAN_TYPE_FIELD


def check(facts: PlanFacts) -> Iterator[Finding]:
    if not facts.plan.has_network_map:
        message = "name a NetworkMap: Forklift doesn't run the Plan without one"
        yield Finding(NETWORK_MAP_FIELD, message, "FieldValueRequired")


RULE = Rule(
    id="plan-network-map",
    facts=PlanFacts,
    reads=frozenset({PLAN_TYPE_FIELD, NETWORK_MAP_FIELD}),
    check=check,
    asks_vsphere=False,
    action="warn",
)
