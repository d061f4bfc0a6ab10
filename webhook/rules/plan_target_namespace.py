"""The namespace that a Plan converts into is there, and stays.

Reads:   spec.targetNamespace
Asks:    the cluster, for that namespace
Accepts: a namespace that isn't being deleted; any where the guard has no right to look, or that is
         in another cluster
Denies:  a Migration into a namespace that is being deleted, where no pod can be made any more, or
         that isn't there. At the Plan it warns
Forklift: makes its pod there after it has shut the VM down, fails, and leaves it off
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import DNS_LABEL, TARGET_NAMESPACE_FIELD, quoted


def check(facts: PlanFacts) -> Iterator[Finding]:
    name = facts.plan.target_namespace
    there = quoted(name)
    if name and not DNS_LABEL.fullmatch(name):
        fix = "write at most 63 of a-z, 0-9 and -, with a letter or digit at each end"
        yield Finding(TARGET_NAMESPACE_FIELD, f"{there} can't be the name of a namespace: {fix}")
        return
    if facts.target == "ending":
        message = f"{there} is being deleted: name another namespace, or wait and create it anew"
        yield Finding(TARGET_NAMESPACE_FIELD, message)
    elif facts.target == "absent":
        message = f"there is no namespace {there}: create it, for the PVCs must be there"
        yield Finding(TARGET_NAMESPACE_FIELD, message)


RULE = Rule(
    id="plan-target-namespace",
    facts=PlanFacts,
    reads=frozenset({TARGET_NAMESPACE_FIELD}),
    check=check,
    asks_vsphere=False,
    again=True,
)
