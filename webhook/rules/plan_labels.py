"""What a Plan says of labels can be labels.

Reads:   spec.convertorLabels, spec.convertorNodeSelector, spec.targetLabels,
         spec.targetNodeSelector
Asks:    nothing
Accepts: keys and values that Kubernetes takes for labels
Denies:  a Migration with any other: neither the conversion pod (`convertor…`) nor the new VM's pod
         (`target…`) can be made then, and the old VM is off. At the Plan it warns
Forklift: builds the pod with them after it has shut the VM down, fails, and leaves it off
"""

from collections.abc import Iterator

from webhook.facts import labels
from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import LABEL_FIELDS
from webhook.model.shape import mapping


def check(facts: PlanFacts) -> Iterator[Finding]:
    for field in sorted(LABEL_FIELDS):
        given = mapping(facts.plan.spec.get(field.rpartition(".")[2]))
        for key, value in sorted(given.items()):
            if isinstance(value, str) and (fault := labels.fault(key, value)):
                yield Finding(field, fault)


RULE = Rule(
    id="plan-labels",
    facts=PlanFacts,
    reads=LABEL_FIELDS,
    check=check,
    asks_vsphere=False,
    again=True,
)
