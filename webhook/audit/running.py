"""A Migration that waits or runs: VMs that are still on are proved again, and those that are off
must not wait for a pod for ever."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from webhook.audit.outcome import Remark, of_doubt, of_found
from webhook.audit.readers import Batch
from webhook.cluster import FoundObject, Waiting
from webhook.engine.readiness import readiness
from webhook.engine.sources import Sources
from webhook.errors import ObjectMalformed
from webhook.model.forklift import Migration, Plan, begun
from webhook.model.keys import MIGRATION_PLAN_FIELD, quoted
from webhook.model.objects import KubeObject, User
from webhook.model.shape import mapping

PENDING = timedelta(minutes=5)
"""After which Forklift gives up a Conversion whose pod is Pending, and never its Plan: so the real
controller did."""
HANGS = "conversion-pod"
"""Stands for a rule."""

Waits = Callable[[str], Awaitable[tuple[Waiting, ...]]]
"""The pods of a namespace that are Pending. Raises ClusterUnreachable."""

_USER = User("conversion-guard audit", proven=True)
# Of a VM that is off, and whose disks wait for a pod. Source: Forklift's migrator/base/migrator.go,
# the itineraries.
_CONVERTING = frozenset({"CreateGuestConversionPod", "ConvertGuest"})


async def remarks_on(
    one: FoundObject, sources: Sources, batch: Batch, waits: Waits, now: datetime
) -> tuple[Remark, ...]:
    """What is wrong with a Migration now. Raises ClusterUnreachable, ObjectMalformed."""
    named = Migration.of(one.object).plan
    obj = await batch.read_in(one.namespace).plan(named.namespace, named.name)
    if obj is None:
        return ()
    remarks = [*await unproved(obj, sources, gate=True)]
    remarks += await _hanging(obj, batch, waits, now)
    if named.namespace != one.namespace:
        return tuple(dict.fromkeys(map(_veiled, remarks)))
    return tuple(remarks)


async def unproved(obj: KubeObject, sources: Sources, *, gate: bool) -> tuple[Remark, ...]:
    """What the gate would say of the Plan `obj`, and of its VMs that have not been shut down yet.
    With `gate` as of a Migration that runs, of the Migration's own field. Raises
    ClusterUnreachable."""
    metadata = obj["metadata"]
    found = await readiness(
        metadata.get("namespace") or "", metadata.get("name") or "", obj, sources, _USER
    )
    if found.state == "undecided":
        return (of_doubt(found.message),)
    off = _ids_begun(obj)
    on = [vm for vm in found.vms if not vm.done and not {vm.id, vm.name} & off]
    if gate and found.vms and not on:
        return ()  # nothing can be saved any more by a cancel
    findings = [*found.findings, *(each for vm in on for each in vm.findings)]
    provider = str(Plan.of(obj).source) if found.vms else ""
    if gate:
        findings = [msgspec.structs.replace(each, field=MIGRATION_PLAN_FIELD) for each in findings]
    return tuple(of_found(each, provider, gate=gate) for each in findings)


async def _hanging(obj: KubeObject, batch: Batch, waits: Waits, now: datetime) -> Iterable[Remark]:
    """The VMs that are off, and whose pod has been Pending for too long."""
    off = {str(vm.get("id")): vm for vm in _progress(obj) if vm.get("phase") in _CONVERTING}
    namespace = Plan.of(obj).target_namespace if off else ""
    if not namespace:
        return ()
    pods = await batch.once(("waiting", namespace), lambda: waits(namespace))
    claims = await batch.claims(namespace) if pods else ()
    return tuple(_late(off, pods, {(c.vm_id, c.name) for c in claims}, now))


def _late(
    off: Mapping[str, Mapping[str, Any]],
    pods: Iterable[Waiting],
    claims: set[tuple[str, str]],
    now: datetime,
) -> Iterator[Remark]:
    for pod in pods:
        age = now - pod.created
        for moref, vm in off.items():
            mine = any(known == moref and name in pod.claims for known, name in claims)
            if age < PENDING or not mine:
                continue
            who = quoted(vm.get("name") or moref)
            why = f": {pod.why}" if pod.why else ""
            since = f"{pod.created:%Y-%m-%dT%H:%M:%SZ}"
            message = (
                f"{MIGRATION_PLAN_FIELD}: {who} is off, and its conversion pod {pod.name} has been "
                f"Pending since {since}{why}. Forklift waits for ever: let the pod be scheduled, "
                "or cancel the Migration and switch the VM on"
            )
            yield Remark(HANGS, "fail", "critical", message, MIGRATION_PLAN_FIELD)


def _veiled(remark: Remark) -> Remark:
    """For a reader who may not know the Plan."""
    message = (
        f"{MIGRATION_PLAN_FIELD}: the Plan can't be migrated as it is: whoever may get it finds "
        "the reason in its report"
    )
    return Remark(remark.rule, remark.result, remark.severity, message, MIGRATION_PLAN_FIELD)


def _ids_begun(plan: KubeObject) -> frozenset[str]:
    """The ids and names of the VMs of a Plan whose conversion runs: see Plan.begun."""
    texts = (
        text for vm in filter(begun, _progress(plan)) for text in (vm.get("id"), vm.get("name"))
    )
    return frozenset(text for text in texts if isinstance(text, str) and text)


def fields_begun(plan: KubeObject) -> frozenset[str]:
    """Their entries, as findings name them."""
    off = _ids_begun(plan)
    try:
        vms = Plan.of(plan).vms if off else ()
    except ObjectMalformed:
        return frozenset()
    return frozenset(vm.field for vm in vms if {vm.id, vm.name} & off)


def _progress(plan: KubeObject) -> list[Mapping[str, Any]]:
    vms = mapping(mapping(plan.get("status")).get("migration")).get("vms")
    return [mapping(vm) for vm in vms] if isinstance(vms, list) else []
