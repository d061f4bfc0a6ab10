"""What a Plan says of labels can be labels.

Reads:   spec.convertorLabels, spec.convertorNodeSelector, spec.targetLabels,
         spec.targetNodeSelector
Asks:    nothing
Accepts: keys and values that Kubernetes takes for labels
Denies:  a Migration with any other for the conversion pod (`convertor…`): the pod can't be made,
         with the VM off. At the Plan, and for the new VM (`target…`), it warns
"""

from collections.abc import Iterator

from webhook.facts import labels
from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import LABEL_FIELDS, POD_LABEL_FIELDS
from webhook.model.shape import mapping


def check(facts: PlanFacts) -> Iterator[Finding]:
    for field in sorted(LABEL_FIELDS):
        given = mapping(facts.plan.spec.get(field.rpartition(".")[2]))
        for key, value in sorted(given.items()):
            if isinstance(value, str) and (fault := labels.fault(key, value)):
                of_pod = field in POD_LABEL_FIELDS
                yield Finding(field, fault, at_most="deny" if of_pod else "warn")


RULE = Rule(
    id="plan-labels",
    facts=PlanFacts,
    reads=LABEL_FIELDS,
    check=check,
    asks_vsphere=False,
    again=True,
)
