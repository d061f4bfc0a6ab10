"""The target namespace has room for a conversion pod.

Reads:   spec.targetNamespace
Asks:    the cluster, for ResourceQuotas and LimitRanges there, where the guard has the right to
         (manifests/surroundings)
Accepts: room for one pod that requests 1 CPU and 1Gi, and is limited to 4 CPU and 8Gi; a quota of
         certain scopes only, which may not count it
Warns:   of less, whoever may list the PVCs there: the pod can't be made, with the VM off
Forklift: fails to make its pod after it has shut the VM down, and leaves it off
"""

from collections.abc import Iterator

from webhook.facts import pod
from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import TARGET_NAMESPACE_FIELD


def check(facts: PlanFacts) -> Iterator[Finding]:
    there = facts.surroundings
    for fault in (*pod.short(there.quotas), *pod.refused(there.limits)):
        yield Finding(TARGET_NAMESPACE_FIELD, f"{fault}: change that before the Migration")


RULE = Rule(
    id="plan-room",
    facts=PlanFacts,
    reads=frozenset({TARGET_NAMESPACE_FIELD}),
    check=check,
    asks_vsphere=False,
    action="warn",
    again=True,
)
