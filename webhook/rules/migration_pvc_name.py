"""The PVCs that are converted have names that volumes of a pod can have.

Reads:   spec.plan; of a Conversion made by hand what conversion-disks reads
Asks:    the cluster, for the PVCs in the target namespace; vSphere, for the VMs
Accepts: names that are DNS labels of at most 63 characters
Denies:  a longer name, one with a dot, and the names of the pod's own volumes: the conversion pod
         is refused, at a Migration with the source VM off
Forklift: builds the pod with the name of the PVC as that of a volume: the pod is invalid, and the
         VM is off
"""

from collections.abc import Iterator

from webhook.facts.diskset import DiskSet
from webhook.facts.facts import ConvertingFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import CONVERTING_FIELDS


def check(facts: ConvertingFacts) -> Iterator[Finding]:
    return facts.found(DiskSet.names)


RULE = Rule(
    id="migration-pvc-name",
    facts=ConvertingFacts,
    reads=CONVERTING_FIELDS,
    check=check,
    gate=True,
    again=True,
)
