"""No other Plan converts the same VM from the same PVCs.

Reads:   spec.plan; of a Conversion made by hand what conversion-disks reads
Asks:    the cluster, for the Migrations that have not ended and their Plans; vSphere, for the VMs
Accepts: a VM of another Plan with another target namespace or cluster, of a cold, warm or archived
         one, of one that no Migration has started, of one that is done with it, or of one whose
         Provider isn't known
Denies:  a VM that is in another Plan with the same target namespace whose Migration has not ended:
         two conversions would write the same disks
Forklift: does not look at other Plans: both convert at once
"""

from collections.abc import Iterator

from webhook.facts.diskset import DiskSet
from webhook.facts.facts import ConvertingFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import CONVERTING_FIELDS


def check(facts: ConvertingFacts) -> Iterator[Finding]:
    return facts.found(DiskSet.elsewhere)


RULE = Rule(
    id="migration-another-plan",
    facts=ConvertingFacts,
    reads=CONVERTING_FIELDS,
    check=check,
    gate=True,
    again=True,
)
