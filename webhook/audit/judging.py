"""Objects as they stand, judged by the engine of admission, many at once and without haste."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from webhook.audit.outcome import Outcome, Remark, of_doubt, of_found, of_result
from webhook.audit.pool import Pools
from webhook.audit.readers import Batch, Readers
from webhook.audit.watched import Key, Named
from webhook.cluster import Standing
from webhook.engine.check import audit
from webhook.engine.readiness import readiness
from webhook.engine.sources import Sources
from webhook.errors import ClusterUnreachable, ObjectMalformed
from webhook.inventory.cluster import ClusterReader, Followed, Table
from webhook.model.forklift import Migration, Plan
from webhook.model.keys import PRIME
from webhook.model.objects import KubeObject, Pvc, User
from webhook.model.shape import mapping

PATIENCE = 20.0
"""Seconds for one object: it may wait for its turn to read vSphere."""
_ABREAST = 8
"""Objects that begin at once: others on the same event loop wait for no more."""
_TURN = 0.02
_USER = User("conversion-guard audit", proven=True)
_BEFORE_SHUTDOWN = frozenset({"", "Started", "PreHook", "StorePowerState"})
"""Phases of a VM that is on. Source: Forklift's migrator/base/migrator.go, the itineraries."""


class Judge:
    """Judges by `followed` and `migrations`, whatever else the sources of the moment say."""

    def __init__(self, followed: Followed, live: ClusterReader, migrations: Table[str]) -> None:
        self._followed, self._live, self._migrations = followed, live, migrations
        self._pools = Pools()

    async def judge(self, there: Sequence[Standing], sources: Sources) -> list[Outcome]:
        """What came of each, in their order."""
        # Whoever reads a namespace's reports: what they may know is up to its Readers.
        policy = msgspec.structs.replace(sources.policy, trust_network=True, undecided="deny")
        known = msgspec.structs.replace(
            sources, policy=policy, inventory=self._pools.over(sources.inventory)
        )
        batch = Batch(self._live, self._followed, self._migrations, policy.stale, sources.now)
        tasks: list[asyncio.Task[Outcome]] = []
        try:
            for at in range(0, len(there), _ABREAST):
                began = time.monotonic()
                some = [
                    asyncio.create_task(self._outcome(one, known, batch))
                    for one in there[at : at + _ABREAST]
                ]
                tasks += some
                await asyncio.wait(some, timeout=_TURN)
                # As long again for reviews, which go first.
                await asyncio.sleep(min(_TURN, time.monotonic() - began))
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _outcome(self, one: Standing, known: Sources, batch: Batch) -> Outcome:
        readers = batch.read_in(one.namespace)
        sources = msgspec.structs.replace(known, cluster=readers)
        try:
            if one.kind == "Migration":
                remarks = tuple(await _of_migration(one, sources, readers))
            else:
                begun = fields_begun(one.object) if one.kind == "Plan" else frozenset[str]()
                (result,) = await audit(
                    [one.object], sources, migrations=None, claims=(), patience=PATIENCE
                )
                remarks = of_result(result, but=begun)
        except ClusterUnreachable as error:
            remarks = (of_doubt(f"the API server can't be asked: {error}"),)
        return Outcome(Key(one.kind, one.namespace, one.name), one.uid, remarks)


async def _of_migration(one: Standing, sources: Sources, readers: Readers) -> Iterable[Remark]:
    """What is wrong with the VMs that have not been shut down yet: the gate's own proof, again."""
    named = Migration.of(one.object).plan
    obj = await readers.plan(named.namespace, named.name)
    if obj is None:
        return ()
    found = await readiness(named.namespace, named.name, obj, sources, _USER)
    if found.state == "undecided":
        remarks = [of_doubt(found.message)]
    else:
        begun = ids_begun(obj)
        wrong = [*found.findings]
        for vm in found.vms:
            if not vm.done and not {vm.id, vm.name} & begun:
                wrong += [msgspec.structs.replace(each, field="spec.plan") for each in vm.findings]
        provider = str(Plan.of(obj).source)
        remarks = [of_found(each, provider, gate=True) for each in wrong]
    if named.namespace != one.namespace:
        return dict.fromkeys(map(_veiled, remarks))
    return remarks


def _veiled(remark: Remark) -> Remark:
    """For a reader who may not know the Plan."""
    message = "spec.plan: the Plan isn't right any more: whoever may get it finds why in its Events"
    return Remark(remark.rule, remark.result, remark.severity, message, "spec.plan")


def counts(one: Standing, sources: Sources) -> bool:
    """Whether it is watched: a vendor's PVC that is not past its conversion, a conversion Plan, a
    Migration that has not ended."""
    if one.leaving:
        return False
    try:
        if one.kind == "PersistentVolumeClaim":
            pvc = Pvc.of(one.object)
            # A populator's own is no vendor's; the proof of its VM's disks counts it all the same.
            past = sources.policy.past_conversion.marks(pvc, created=False)
            return pvc.of_conversion and not past and not one.name.startswith(PRIME)
        if one.kind == "Plan":
            return Plan.of(one.object).judged
        return Migration.of(one.object).judged and not _status(one.object).get("completed")
    except ObjectMalformed:
        return one.kind == "Plan"  # that is what there is to be said of it


def vms_of(one: Standing) -> tuple[Named, ...]:
    """The VMs that a Plan names."""
    try:
        plan = Plan.of(one.object)
    except ObjectMalformed:
        return ()
    return tuple(Named(vm.id, "" if vm.id else vm.name) for vm in plan.vms if vm.id or vm.name)


def ids_begun(plan: KubeObject) -> frozenset[str]:
    """The ids and names of the VMs of a Plan that Forklift has begun to shut down, or has shut
    down: nothing can be proved of them any more, and the conversion itself mounts their PVCs."""
    begun = (vm for vm in _progress(plan) if vm.get("phase", "") not in _BEFORE_SHUTDOWN)
    return frozenset(
        text for vm in begun for text in (vm.get("id"), vm.get("name")) if isinstance(text, str)
    ) - {""}


def fields_begun(plan: KubeObject) -> frozenset[str]:
    """Their entries, as findings name them."""
    begun = ids_begun(plan)
    try:
        vms = Plan.of(plan).vms if begun else ()
    except ObjectMalformed:
        return frozenset()
    return frozenset(vm.field for vm in vms if {vm.id, vm.name} & begun)


def _progress(plan: KubeObject) -> list[Mapping[str, Any]]:
    vms = mapping(_status(plan).get("migration")).get("vms")
    return [mapping(vm) for vm in vms] if isinstance(vms, list) else []


def _status(obj: KubeObject) -> Mapping[str, Any]:
    return mapping(obj.get("status"))
