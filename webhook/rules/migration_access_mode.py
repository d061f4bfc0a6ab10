"""A conversion can write to its PVCs.

Reads:   spec.plan; of a Conversion made by hand what conversion-disks reads
Asks:    the cluster, for the PVCs in the target namespace; vSphere, for the VMs
Accepts: PVCs with any access mode that allows writing
Denies:  a PVC with ReadOnlyMany as its only access mode: a conversion writes to the disk
Forklift: mounts it for writing: the VM is off when that fails
"""

from collections.abc import Iterator

from webhook.facts.diskset import DiskSet
from webhook.facts.facts import ConvertingFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import CONVERTING_FIELDS


def check(facts: ConvertingFacts) -> Iterator[Finding]:
    return facts.found(DiskSet.read_only)


RULE = Rule(
    id="migration-access-mode",
    facts=ConvertingFacts,
    reads=CONVERTING_FIELDS,
    check=check,
    gate=True,
    again=True,
)
