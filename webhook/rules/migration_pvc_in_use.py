"""No running pod uses the PVCs that are converted.

Reads:   spec.plan; of a Conversion made by hand what conversion-disks reads
Asks:    the cluster, for the running pods of the target namespace
Accepts: PVCs that no running pod mounts, except a Conversion's own
Denies:  a mounted one that is Block or ReadWriteOncePod: two writers damage the disk, or the
         conversion waits for ever; for any other there is a warning only
Forklift: does not look: a pod that waits for a volume leaves the Plan hanging with the VM off
"""

from collections.abc import Iterator

from webhook.facts.diskset import DiskSet
from webhook.facts.facts import ConvertingFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import CONVERTING_FIELDS


def check(facts: ConvertingFacts) -> Iterator[Finding]:
    return facts.found(DiskSet.in_use)


RULE = Rule(
    id="migration-pvc-in-use",
    facts=ConvertingFacts,
    reads=CONVERTING_FIELDS,
    check=check,
    action="deny",
    again=True,
)
