"""A PVC's vmUUID is the uuid of one VM only.

Reads:   vmID, vmUUID
Asks:    vSphere, for other VMs with that config.uuid
Accepts: a uuid that the VM has alone
Warns:   of a clone's: some versions of Forklift look a VM up by it, and may shut down the wrong one
Forklift: has shut down the wrong VM in versions that looked it up by this uuid
"""

from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import VM_ID_FIELD, VM_UUID_FIELD


def check(facts: PvcFacts) -> Iterator[Finding]:
    if facts.proven and facts.twins:
        fix = "give the clone a uuid of its own"
        yield Finding(
            VM_UUID_FIELD, f"{fix}: another VM has this config.uuid, too: {facts.twins[0]}"
        )


RULE = Rule(
    id="pvc-uuid-unique",
    facts=PvcFacts,
    reads=frozenset({VM_ID_FIELD, VM_UUID_FIELD}),
    check=check,
    action="warn",
)
