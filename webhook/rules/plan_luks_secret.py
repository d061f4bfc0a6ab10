"""The Secrets that unlock a Plan's disks are there.

Reads:   spec.vms[].luks.name, whatever luks.namespace and nbdeClevis say
Asks:    the cluster, whether a Secret of that name is in the Plan's namespace: never what it holds,
         and never of another namespace, where Forklift wants it, too, if luks.namespace says so
Accepts: a Secret of that name; any where the guard has no right to look
Denies:  a Migration whose Plan names one that isn't there: Forklift finds out when it builds the
         conversion pod, with the VM off. At the Plan it warns who may get Secrets there, or create
         Migrations
Forklift: mounts it in the conversion pod, fails, and leaves the source VM off
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import PLAN_VM_FIELDS, quoted


def check(facts: PlanFacts) -> Iterator[Finding]:
    for vm_facts in facts.vms:
        if vm_facts.judged and vm_facts.no_luks:
            entry = vm_facts.entry
            message = (
                f"there is no Secret {quoted(entry.luks)} in {quoted(facts.plan.namespace)}: "
                "create it, or name the one that has the keys"
            )
            yield Finding(f"{entry.field}.luks.name", message, entry=entry.index)


RULE = Rule(
    id="plan-luks-secret",
    facts=PlanFacts,
    reads=PLAN_VM_FIELDS,
    check=check,
    asks_vsphere=False,
    again=True,
)
