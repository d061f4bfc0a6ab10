"""No running pod uses the PVCs that a Migration converts.

Reads:   spec.plan
Asks:    the cluster, for the running pods of the Plan's target namespace
Accepts: PVCs that no running pod mounts
Denies:  one that is Block or ReadWriteOncePod: two writers spoil the disk, or the conversion waits
         for ever; any other only warns
"""

from collections.abc import Iterator

from webhook.facts.facts import MigrationFacts
from webhook.facts.proof import prove
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import MIGRATION_PLAN_FIELD, quoted
from webhook.model.objects import Claim


def check(facts: MigrationFacts) -> Iterator[Finding]:
    plan = facts.plan
    for vm_facts in plan.vms:
        if vm_facts.vm is None:
            continue
        for _, claim in prove(vm_facts.vm, plan.claims_of(vm_facts.vm)).matched:
            pod = facts.mounted.get(claim.name)
            if pod is not None:
                yield _used(claim, pod, names=plan.may_list)


def _used(claim: Claim, pod: str, *, names: bool) -> Finding:
    exclusive = claim.volume_mode == "Block" or claim.one_pod
    who = f": {quoted(claim.name)} by pod {quoted(pod)}" if names else ""
    message = f"stop the pod first: a running one mounts a PVC of the Plan's VMs{who}"
    return Finding(MIGRATION_PLAN_FIELD, message, at_most="deny" if exclusive else "warn")


RULE = Rule(
    id="migration-pvc-in-use",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    action="deny",
)
