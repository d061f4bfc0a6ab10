"""Every VM that a Migration will shut down has all of its disks, each as one bound PVC.

Reads:   spec.plan, and of that Plan the VMs that Forklift will run: not those that succeeded before
Asks:    the cluster, for the Plan and the PVCs in its target namespace;
         vSphere for each VM, afresh
Accepts: one bound PVC of at least the disk's size for each disk
Denies:  a disk without a PVC, a PVC whose disk-source is no disk of the VM, two for one disk, one
         that Forklift counts but leaves out, one that is too small, not bound, being deleted or
         marked `conversion-guard.io/not-ready`; a VM that isn't there, is a template, or can't be
         read
"""

from collections.abc import Iterator

from webhook.facts.facts import MigrationFacts, PlanFacts, PlanVmFacts
from webhook.facts.proof import prove
from webhook.facts.rule import Finding, Rule, Unknown
from webhook.facts.telling import Reader, told
from webhook.model.keys import MIGRATION_PLAN_FIELD, PLAN_VMS_FIELD, quoted


def check(facts: MigrationFacts) -> Iterator[Finding | Unknown]:
    plan = facts.plan
    if plan.provider is None:
        message = (
            f"the Plan's provider {quoted(plan.plan.source)} is not known here: name one of a "
        )
        yield Unknown(MIGRATION_PLAN_FIELD, f"{message}namespace in the setting providerNamespaces")
    elif plan.provider.type != "vsphere":
        kind = quoted(plan.provider.type)
        message = f"the Plan's provider {plan.provider} is of type {kind}: name a vSphere one there"
        yield Finding(MIGRATION_PLAN_FIELD, message, certain=True)
    else:
        for vm_facts in plan.vms:
            if vm_facts.entry.judged:
                yield from _check_vm(plan, vm_facts)


def _check_vm(plan: PlanFacts, vm_facts: PlanVmFacts) -> Iterator[Finding]:
    entry, found = vm_facts.entry, vm_facts.found
    there = f"{PLAN_VMS_FIELD}[{entry.index}] {quoted(entry.id or entry.name)}"
    if len(found) != 1:
        what = "is no VM" if not found else f"is the name of {len(found)} VMs"
        message = f"{there} {what} of provider {plan.provider}: correct the Plan"
        yield Finding(MIGRATION_PLAN_FIELD, message)
    elif found[0].template:
        yield Finding(MIGRATION_PLAN_FIELD, f"{there} is a template: take it out of the Plan")
    elif trouble := found[0].trouble:
        yield Finding(MIGRATION_PLAN_FIELD, f"{there} {trouble}: bring it back first")
    elif plan.claims is not None:
        reader = Reader(plan.trusted, plan.may_list)
        proof, namespace = (
            prove(found[0], plan.claims_of(found[0])),
            quoted(plan.plan.target_namespace),
        )
        yield from told(
            proof, found[0], MIGRATION_PLAN_FIELD, namespace, reader, plan.classes, strict=True
        )


RULE = Rule(
    id="migration-disks",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    gate=True,
)
