"""The PVCs that are converted are bound before the conversion begins.

Reads:   spec.plan; of a Conversion made by hand what conversion-disks reads
Asks:    the cluster, for the PVCs in the target namespace and its storage classes
Accepts: bound PVCs
Warns:   of a PVC that is bound and filled only when the conversion pod comes: a pod that can't be
         scheduled for 5 minutes fails, and leaves a Plan hanging with the source VM off
Forklift: leaves the Plan Executing for ever, with the VM off, if the pod waits for 5 minutes
"""

from collections.abc import Iterator

from webhook.facts.diskset import DiskSet
from webhook.facts.facts import ConvertingFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import CONVERTING_FIELDS


def check(facts: ConvertingFacts) -> Iterator[Finding]:
    return facts.found(DiskSet.unscheduled)


RULE = Rule(
    id="migration-unscheduled",
    facts=ConvertingFacts,
    reads=CONVERTING_FIELDS,
    check=check,
    action="warn",
    again=True,
)
