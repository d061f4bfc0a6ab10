"""A conversion Plan's PVCs are in this cluster, where they can be checked.

Reads:   spec.provider.destination
Asks:    the cluster, for that Provider
Accepts: this cluster: an openshift Provider without a URL
Warns:   of another cluster: its PVCs can't be seen from here; of one that isn't known
Forklift: looks for the PVCs in that cluster
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import DESTINATION_PROVIDER_FIELD, PLAN_TYPE_FIELD, echoed
from webhook.model.objects import untold


def check(facts: PlanFacts) -> Iterator[Finding]:
    if facts.remote is None:
        yield Finding(DESTINATION_PROVIDER_FIELD, untold(facts.plan.destination))
    elif facts.remote:
        fix = "run Conversion Guard in the cluster of the PVCs, too"
        name = echoed(facts.plan.destination)
        message = f"{fix}: {name} is another cluster, whose PVCs can't be checked here"
        yield Finding(DESTINATION_PROVIDER_FIELD, message)


RULE = Rule(
    id="plan-remote-destination",
    facts=PlanFacts,
    reads=frozenset({PLAN_TYPE_FIELD, DESTINATION_PROVIDER_FIELD}),
    check=check,
    asks_vsphere=False,
    action="warn",
)
