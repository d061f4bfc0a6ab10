"""The PVCs of each VM that is converted have one volume mode.

Reads:   spec.plan; of a Conversion made by hand what conversion-disks reads
Asks:    the cluster, for the PVCs in the target namespace
Accepts: PVCs that are all Block, or all Filesystem
Warns:   of both in one VM: the conversion counts every Filesystem before every Block, which
         changes the order of the disks
Forklift: succeeds, and permutes the disks
"""

from collections.abc import Iterator

from webhook.facts.diskset import DiskSet
from webhook.facts.facts import ConvertingFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import CONVERTING_FIELDS


def check(facts: ConvertingFacts) -> Iterator[Finding]:
    return facts.found(DiskSet.modes)


RULE = Rule(
    id="migration-volume-mode",
    facts=ConvertingFacts,
    reads=CONVERTING_FIELDS,
    check=check,
    action="warn",
    again=True,
)
