"""The disks of each VM that a Migration converts can be read.

Reads:   spec.plan
Asks:    vSphere, for config.keyId
Accepts: a VM that vSphere does not encrypt
Warns:   of one that it does: a copy of the files is encrypted, too, and virt-v2v can't read it
Forklift: does not look: virt-v2v fails with the VM off if the copy is encrypted; read, not seen
         yet
"""

from collections.abc import Iterator

from webhook.facts.facts import MigrationFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import MIGRATION_PLAN_FIELD


def check(facts: MigrationFacts) -> Iterator[Finding]:
    for vm_facts, vm in facts.plan.known:
        if vm.encrypted:
            fix = "decrypt it in vSphere and copy its disks again, unless the copy is in clear"
            message = f"{fix}: {vm} is encrypted"
            yield Finding(MIGRATION_PLAN_FIELD, message, entry=vm_facts.entry.index)


RULE = Rule(
    id="migration-encrypted",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    action="warn",
    again=True,
)
