"""What a Plan says of affinity can be a pod's.

Reads:   spec.convertorAffinity, spec.targetAffinity
Asks:    nothing
Accepts: what the API server accepts of a pod
Warns:   of a key, an operator, a number of values or a weight that it refuses: neither the
         conversion pod (`convertorAffinity`) nor the new VM's pod (`targetAffinity`) can be made
         then, and the old VM is off
Forklift: builds the pod with it after it has shut the VM down, and fails
"""

from collections.abc import Iterator

from webhook.facts import affinity
from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import AFFINITY_FIELDS
from webhook.model.shape import mapping


def check(facts: PlanFacts) -> Iterator[Finding]:
    for field in sorted(AFFINITY_FIELDS):
        given = mapping(facts.plan.spec.get(field.rpartition(".")[2]))
        for below, fault in affinity.flaws(given):
            yield Finding(f"{field}.{below}", fault)


RULE = Rule(
    id="plan-affinity",
    facts=PlanFacts,
    reads=AFFINITY_FIELDS,
    check=check,
    asks_vsphere=False,
    action="warn",
    again=True,
)
