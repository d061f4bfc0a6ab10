"""No PVC that is converted belongs to a VirtualMachine already.

Reads:   spec.plan; of a Conversion made by hand what conversion-disks reads
Asks:    the cluster, for the PVCs in the target namespace; vSphere, for the VMs
Accepts: PVCs that no VirtualMachine owns, and any of a VM that has succeeded before
Denies:  a PVC that a VirtualMachine owns: its finished disks would be converted again
Forklift: converts the finished VM's disks again; at a Migration it takes their ownership, with the
         source VM off
"""

from collections.abc import Iterator

from webhook.facts.facts import ConvertingFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import CONVERTING_FIELDS


def check(facts: ConvertingFacts) -> Iterator[Finding]:
    return facts.found(lambda disks, field: disks.owned(field, facts.leave_out))


RULE = Rule(
    id="migration-pvc-owner",
    facts=ConvertingFacts,
    reads=CONVERTING_FIELDS,
    check=check,
    gate=True,
    again=True,
)
