"""A Plan's name can be a label, and part of a PVC's name.

Reads:   metadata.name, and whether there is a spec.pvcNameTemplate
Asks:    nothing
Accepts: a name of at most 63 characters, without a dot in the first 15
Warns:   of a longer one: Forklift finds the Plan ready, and its Migration fails before any VM is
         shut down; of a dot among the first 15, without a pvcNameTemplate: the Plan never starts
Forklift: a long name fails before any VM is shut down; a dot is refused as an invalid
          template, and the Plan never starts
"""

from collections.abc import Iterator

from webhook.facts import labels
from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import NAME_FIELD, TEMPLATES_FIELD, echoed


def check(facts: PlanFacts) -> Iterator[Finding]:
    name = facts.plan.name
    if len(name) > labels.LONGEST:
        fix = f"create the Plan under a name of at most {labels.LONGEST}"
        yield Finding(NAME_FIELD, f"has {len(name)} characters, and becomes a label: {fix}")
    if labels.dotted(name) and not facts.plan.templates[0]:
        fix = "create the Plan under a name without one, or write spec.pvcNameTemplate"
        message = f"{echoed(name)} has a dot in its first 15 characters, so it never starts: {fix}"
        yield Finding(NAME_FIELD, message)


RULE = Rule(
    id="plan-name",
    facts=PlanFacts,
    reads=frozenset({TEMPLATES_FIELD}),
    check=check,
    asks_vsphere=False,
    action="warn",
    again=True,
)
