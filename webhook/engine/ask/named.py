"""What a Plan names by its name alone: its target namespace, instance types and LUKS Secrets."""

import asyncio
from collections.abc import Collection, Mapping

import msgspec

from webhook.engine.sources import Sources
from webhook.inventory.cluster import ClusterReader, Referent
from webhook.model.forklift import Plan, PlanVm
from webhook.model.objects import Standing, User
from webhook.model.review import MIGRATION, resource_of

_Name = tuple[Referent, str, str]
"""Its kind, namespace and name."""


class Named(msgspec.Struct, frozen=True):
    """How all of it stands; without what wasn't asked for."""

    standing: Mapping[_Name, Standing] = {}

    @classmethod
    async def by(cls, plan: Plan, cluster: ClusterReader) -> "Named":
        """What `plan` names, each thing asked for once. Raises ClusterUnreachable."""
        names = list(_names(plan))
        stand = await asyncio.gather(*(cluster.standing(*name) for name in names))
        return cls(dict(zip(names, stand, strict=True)))

    def target(self, plan: Plan) -> Standing:
        """The namespace's."""
        return self.standing.get(_target(plan), "unknown")

    def no_instance_type(self, plan: Plan, vm: PlanVm) -> bool:
        """Whether the entry names one that isn't there."""
        names = _instance_types(plan, vm)
        return bool(names) and all(self.standing.get(name) == "absent" for name in names)

    def no_luks(self, plan: Plan, vm: PlanVm) -> bool:
        """Whether the entry names a Secret that isn't there."""
        return bool(vm.luks) and self.standing.get(_luks(plan, vm)) == "absent"


async def may_secrets(plan: Plan, sources: Sources, user: User) -> bool:
    """Whether `user` may be told which Secrets of the Plan's namespace are missing: also who may
    create a Migration there, whose verdict would tell."""
    if not any(vm.luks for vm in plan.vms):
        return False  # nothing to tell
    rights = ("get", "secrets"), ("create", resource_of(MIGRATION))
    asked = (sources.may(user, verb, what, plan.namespace, "") for verb, what in rights)
    return any(await asyncio.gather(*asked))


def _names(plan: Plan) -> Collection[_Name]:
    names = {_target(plan)} if plan.target_namespace else set()
    for vm in plan.vms:
        names.update(_instance_types(plan, vm))
        if vm.luks:
            names.add(_luks(plan, vm))
    return names


def _target(plan: Plan) -> _Name:
    return "namespaces", "", plan.target_namespace


def _luks(plan: Plan, vm: PlanVm) -> _Name:
    return "secrets", plan.namespace, vm.luks


def _instance_types(plan: Plan, vm: PlanVm) -> tuple[_Name, ...]:
    """Where Forklift looks for the entry's (Forklift: kubevirt.go, getInstanceType)."""
    if not (vm.instance_type and plan.target_namespace):
        return ()
    return (
        ("virtualmachineinstancetypes", plan.target_namespace, vm.instance_type),
        ("virtualmachineclusterinstancetypes", "", vm.instance_type),
    )
