"""Every VM that a Migration will shut down has one bound PVC for each of its disks.

Reads:   spec.plan, and of that Plan the VMs that Forklift will run: not those that have succeeded
Asks:    the cluster, for the Plan and the PVCs in its target namespace;
         vSphere, with a fresh read, for each VM
Accepts: one bound PVC of at least the disk's size for each disk; whatever is there where the
         Migration resumes a conversion, for Forklift proves the disks of that itself
Denies:  a VM of which Forklift attaches no disk; a disk without a PVC; a PVC whose disk-source is
         not a disk of the VM, two for one disk, one that Forklift counts but leaves out, one that
         is too small, not bound, being deleted or marked `conversion-guard.io/not-ready`; a VM
         that doesn't exist, is a template, or can't be read; one whose conversion runs now
Forklift: counts PVCs only: fails with the VM off, and of several VMs all are off
"""

from collections.abc import Iterator

from msgspec.structs import replace

from webhook.facts.facts import MigrationFacts, PlanVmFacts
from webhook.facts.rule import Finding, Rule, Unknown
from webhook.model.keys import MIGRATION_PLAN_FIELD, PLAN_VMS_FIELD, echoed
from webhook.model.objects import Provider, untold


def check(facts: MigrationFacts) -> Iterator[Finding | Unknown]:
    plan = facts.plan
    if facts.resumes:
        return
    if plan.remote is None:
        yield Unknown(MIGRATION_PLAN_FIELD, untold(plan.plan.destination))
    elif plan.provider is None:
        there = f"the Plan's provider {echoed(plan.plan.source)} is not known"
        named = "spec.provider.source in the Plan"
        if why := plan.may_be_there(named):
            yield Unknown(MIGRATION_PLAN_FIELD, f"{there}{why}")
        else:
            message = f"{there}: correct {named}"
            yield Finding(MIGRATION_PLAN_FIELD, message, certain=True)
    elif plan.provider.type != "vsphere":
        there = f"the Plan's provider {plan.provider} is of type {echoed(plan.provider.type)}"
        message = f"{there}: name a vSphere provider in the Plan"
        yield Finding(MIGRATION_PLAN_FIELD, message, certain=True)
    else:
        for vm_facts in plan.vms:
            if vm_facts.judged:
                remote = bool(plan.remote)
                for found in _check_vm(plan.provider, vm_facts, runs=facts.runs, remote=remote):
                    yield replace(found, entry=vm_facts.entry.index)


def _check_vm(
    provider: Provider, vm_facts: PlanVmFacts, *, runs: bool, remote: bool
) -> Iterator[Finding]:
    entry = vm_facts.entry
    there = f"{PLAN_VMS_FIELD}[{entry.index}] {echoed(entry.id or entry.name)}"
    faults = {
        "none": f"is not one VM of provider {provider}: correct the Plan",
        "several": f"is the name of several VMs of provider {provider}: write the id in the Plan",
        "template": "is a template: remove it from the Plan",
    }
    if fault := faults.get(vm_facts.outcome):
        yield Finding(MIGRATION_PLAN_FIELD, f"{there} {fault}")
    elif vm_facts.begun:
        if not runs:
            fix = "wait until it has ended, then create the Migration"
            yield Finding(MIGRATION_PLAN_FIELD, f"{there} is being converted now: {fix}")
    elif vm_facts.disks is None and not vm_facts.unread and not remote:
        fix = "write spec.targetNamespace in the Plan"
        yield Finding(MIGRATION_PLAN_FIELD, f"{there} has no namespace for its PVCs: {fix}")
    else:
        yield from vm_facts.unproven(MIGRATION_PLAN_FIELD, there)


RULE = Rule(
    id="migration-disks",
    facts=MigrationFacts,
    reads=frozenset({MIGRATION_PLAN_FIELD}),
    check=check,
    gate=True,
)
