"""The target namespace has room for the conversion pods.

Reads:   spec.targetNamespace, spec.vms
Asks:    the cluster, for ResourceQuotas and LimitRanges there, where the guard has the right to
         (manifests/surroundings)
Accepts: room for a pod of each VM that requests 1 CPU and 1Gi, and is limited to 4 CPU and 8Gi, 20
         pods at the most; a quota of certain scopes only, which may not count them
Warns:   of less, whoever may list the PVCs there: a pod can't be made, with the VM off
Forklift: fails to make its pod after it has shut the VM down, and leaves it off
"""

from collections.abc import Iterator

from webhook.facts import pod
from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import PLAN_VMS_FIELD, TARGET_NAMESPACE_FIELD


def check(facts: PlanFacts) -> Iterator[Finding]:
    there, vms = facts.surroundings, sum(vm.judged for vm in facts.vms)
    for fault in (*pod.short(there.quotas, vms), *pod.refused(there.limits)):
        yield Finding(TARGET_NAMESPACE_FIELD, f"{fault}: change that before the Migration")


RULE = Rule(
    id="plan-room",
    facts=PlanFacts,
    reads=frozenset({TARGET_NAMESPACE_FIELD, PLAN_VMS_FIELD}),
    check=check,
    asks_vsphere=False,
    action="warn",
    again=True,
)
