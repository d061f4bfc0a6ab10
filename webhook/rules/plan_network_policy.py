"""NetworkPolicies let the conversion pod be asked, and let it reach vCenter.

Reads:   spec.targetNamespace, spec.convertorLabels
Asks:    the cluster, for NetworkPolicies there, where the guard has the right to
         (manifests/surroundings)
Accepts: none that selects the pod; an ingress rule for TCP port 8080, an egress rule for TCP port
         443 that isn't for pods and namespaces of the cluster only
Warns:   of policies without such a rule, whoever may list the PVCs there: Forklift doesn't learn
         that the conversion is done, or the pod can't ask vCenter, with the VM off
Forklift: waits for the conversion for ever, with the VM off
"""

from collections.abc import Iterator

from webhook.facts import pod
from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import TARGET_NAMESPACE_FIELD
from webhook.model.shape import mapping

_CONVERTOR = "spec.convertorLabels"


def check(facts: PlanFacts) -> Iterator[Finding]:
    labels = mapping(facts.plan.spec.get("convertorLabels"))
    for way in pod.shut(facts.surroundings.policies, labels):
        yield Finding(TARGET_NAMESPACE_FIELD, _FAULTS[way])


_FAULTS = {
    "ingress": (
        f"allow ingress to TCP port {pod.PROGRESS} of pods with forklift.app=virt-v2v: the "
        "namespace's NetworkPolicies don't let Forklift reach the conversion pod"
    ),
    "egress": (
        f"allow egress to vCenter, TCP port {pod.VCENTER}, for pods with forklift.app=virt-v2v: "
        "the namespace's NetworkPolicies don't let the conversion pod reach it"
    ),
}

RULE = Rule(
    id="plan-network-policy",
    facts=PlanFacts,
    reads=frozenset({TARGET_NAMESPACE_FIELD, _CONVERTOR}),
    check=check,
    asks_vsphere=False,
    action="warn",
    again=True,
)
