"""PVCs, Plans and Migrations, created one after the other while things fail."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import httpx

from tests.cases import NAMESPACE
from tests.e2e.bed import path_of
from tests.e2e.faults.oracle import Asked, Truth, Verdict
from tests.e2e.faults.truth import Vcenter, of_disk, of_set, of_vm
from tests.e2e.test_gate import migration, plan_of
from tests.e2e.world import Vm, pvc
from webhook.cli.demo import merged
from webhook.model.keys import DISK_SOURCE, VM_ID, VM_UUID

AT_ONCE = 6
"""Requests that wait for their answer: a slow machine is asked slower."""
PAUSE = 0.05
"""Seconds between two, at least."""
CLAIMS, DISKS, PLANS = "faults-claims", "faults-disks", "faults-plans"
"""Namespaces: of PVCs that are made, of those that are only tried, and of Plans' PVCs."""


@dataclass
class Load:
    """Requests of every kind, each with the truth before and after it."""

    vcenters: list[Vcenter]
    client: httpx.AsyncClient
    """The administrator's, by a way that no fault is on."""
    chance: Random
    asked: list[Asked] = field(default_factory=list)
    _made: dict[str, float] = field(default_factory=dict)
    """PVCs in CLAIMS, and since when, at the latest, each was there."""
    _busy: set[str] = field(default_factory=set)
    """VMs of which a PVC is on its way, by uuid."""

    @property
    def kinds(self) -> dict[str, Callable[[], Awaitable[Asked]]]:
        return {
            "disk": self._disk,
            "stranger": self._stranger,
            "claim": self._claim,
            "plan": self._plan,
            "migration": self._migration,
            "cold": self._cold,
        }

    async def steady(self, stop: asyncio.Event) -> None:
        """Until then; each one is awaited."""
        room = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            try:
                await self.one(self.chance.choice(list(self.kinds.values())))
            finally:
                room.release()

        async with asyncio.TaskGroup() as calls:
            while not stop.is_set():
                await asyncio.gather(asyncio.sleep(PAUSE), room.acquire())
                calls.create_task(one())

    async def one(self, ask: Callable[[], Awaitable[Asked]]) -> Asked:
        """Ask, and keep what came of it."""
        self.asked.append(asked := await ask())
        return asked

    def told(self) -> str:
        """Figures for a person."""
        came = Counter((one.kind, one.verdict) for one in self.asked)
        kinds = (
            f"{kind}: " + ", ".join(f"{came[kind, v]} {v}" for k, v in sorted(came) if k == kind)
            for kind in self.kinds
        )
        unsettled = sum(not one.settled for one in self.asked)
        return f"{len(self.asked)} requests ({unsettled} of them amid a change); " + "; ".join(
            kinds
        )

    async def _disk(self) -> Asked:
        """A disk that is there, or was a moment ago."""
        vcenter, vm = self._any()
        went = [name for name in vcenter.gone if f"] {vm.name}/" in name]
        source = self.chance.choice([vm.files[0], *vcenter.more.get(vm.moref, ()), *went[-2:]])
        return await self._tried("disk", vm.moref, vm.uuid, source)

    async def _stranger(self) -> Asked:
        """A disk that is none, a VM that is none, or the other vCenter's under the same id."""
        _, vm = self._any()
        _, other = self._any()
        moref, uuid, source = self.chance.choice(
            [
                (vm.moref, vm.uuid, f"[LocalDS_0] {vm.name}/none.vmdk"),
                ("vm-99999", vm.uuid, vm.files[0]),
                (vm.moref, other.uuid, vm.files[0]),
            ]
        )
        return await self._tried("stranger", moref, uuid, source)

    async def _tried(self, kind: str, moref: str, uuid: str, source: str) -> Asked:
        obj = claim_of(DISKS, moref, uuid, source)

        async def truth() -> Truth:
            return await asyncio.to_thread(of_disk, self.vcenters, moref, uuid, source)

        return await self._ask(kind, f"{moref} {uuid} {source}", obj, truth, dry_run=True)

    async def _claim(self) -> Asked:
        """A PVC that is made, of a disk that has one already or has none any more. Nobody else
        makes one of the same disk meanwhile."""
        vm = self.chance.choice([vm for vm in self._vms if vm.uuid not in self._busy])
        self._busy.add(vm.uuid)
        try:
            there = await self._claims_of(vm)
            if there and self.chance.random() < 0.5:
                for name in there:
                    (await self.client.delete(f"{_PVCS}/{name}")).raise_for_status()
                there = []
            truth = Truth(cluster=min(map(self._seen, there), default=None))

            async def known() -> Truth:
                return truth

            obj = claim_of(CLAIMS, vm.moref, vm.uuid, vm.files[0])
            asked = await self._ask("claim", f"{vm.moref} {vm.uuid}", obj, known)
            for name in await self._claims_of(vm):
                self._seen(name)
            return asked
        finally:
            self._busy.remove(vm.uuid)

    def _seen(self, name: str) -> float:
        """Since when, at the latest, a PVC has been there."""
        return self._made.setdefault(name, time.monotonic())

    async def _claims_of(self, vm: Vm) -> list[str]:
        """By the API server's own word, without those on their way out."""
        query = {"labelSelector": f"{VM_ID}={vm.moref},{VM_UUID}={vm.uuid}"}
        listed = (await self.client.get(_PVCS, params=query)).raise_for_status().json()["items"]
        metadata = [item["metadata"] for item in listed]
        return [one["name"] for one in metadata if "deletionTimestamp" not in one]

    async def _plan(self) -> Asked:
        """Of a VM that its vCenter has, or only the other one, or none."""
        vcenter = self.chance.choice(self.vcenters)
        _, vm = self._any()
        if self.chance.random() < 0.2:
            vm = replace(vm, moref="vm-99999")
        obj = conversion(vcenter.provider, vm, "", vms=[{"id": vm.moref}])
        obj["metadata"] = {"namespace": NAMESPACE, "generateName": "tried-"}

        async def truth() -> Truth:
            return await asyncio.to_thread(of_vm, vcenter, vm.moref)

        return await self._ask("plan", f"{vcenter.provider} {vm.moref}", obj, truth)

    async def _migration(self) -> Asked:
        """Of a VM whose PVCs are those of its first disks."""
        vcenter, vm = self._any()
        claimed = frozenset(vm.files)

        async def truth() -> Truth:
            return await asyncio.to_thread(of_set, vcenter, vm.moref, claimed)

        obj = _start(f"conversion-{vm.uuid}")
        return await self._ask("migration", f"{vcenter.provider} {vm.moref}", obj, truth, True)

    async def _cold(self) -> Asked:
        """Nobody's business here."""
        _, vm = self._any()

        async def truth() -> Truth:
            return Truth()

        return await self._ask("cold", vm.moref, _start(f"cold-{vm.uuid}"), truth, True)

    @property
    def _vms(self) -> list[Vm]:
        return [vm for vcenter in self.vcenters for vm in vcenter.vms]

    def _any(self) -> tuple[Vcenter, Vm]:
        """Of two one that has just changed: of it the guard may know less than there is."""
        vcenter = self.chance.choice(self.vcenters)
        vm = self.chance.choice(vcenter.vms)
        return vcenter, vcenter.last if vcenter.last and self.chance.random() < 0.5 else vm

    async def _ask(
        self,
        kind: str,
        what: str,
        obj: dict[str, Any],
        truth: Callable[[], Awaitable[Truth]],
        dry_run: bool = False,
    ) -> Asked:
        before, begun = await truth(), time.monotonic()
        query = {"dryRun": "All"} if dry_run else {}
        answer = await self.client.post(path_of(obj), json=obj, params=query)
        ended = time.monotonic()
        return Asked(
            kind=kind,
            what=what,
            begun=begun,
            ended=ended,
            before=before,
            after=await truth(),
            verdict=verdict_of(answer),
            message="" if answer.is_success else str(answer.json().get("message")),
            warnings=tuple(answer.headers.get_list("warning")),
            number=answer.headers.get("audit-id", ""),
        )


_PVCS = f"/api/v1/namespaces/{CLAIMS}/persistentvolumeclaims"
_VERDICTS: dict[int, Verdict] = {201: "allowed", 422: "denied", 503: "undecided"}


def verdict_of(answer: httpx.Response) -> Verdict:
    """The guard's own word is that of its webhooks, by name."""
    verdict = _VERDICTS.get(answer.status_code, "lost")
    if verdict == "undecided" and "conversion-guard.io" not in answer.text:
        return "lost"
    return verdict


def conversion(provider: str, vm: Vm, name: str, **spec: Any) -> dict[str, Any]:
    """A Plan of one VM."""
    change = {"provider": {"source": {"name": provider}}, "targetNamespace": DISKS}
    made = plan_of(vm, targetPowerState="on", **change)
    made["spec"] = merged(made["spec"], spec)
    return merged(made, {"metadata": {"name": name}})


def claim_of(namespace: str, moref: str, uuid: str, source: str) -> dict[str, Any]:
    """A PVC whose name is the API server's to make."""
    made = pvc("", {VM_ID: moref, VM_UUID: uuid}, {DISK_SOURCE: source})
    del made["metadata"]["name"]
    return merged(made, {"metadata": {"namespace": namespace, "generateName": "tried-"}})


def _start(plan: str) -> dict[str, Any]:
    made = migration(plan)
    made["metadata"] = {"namespace": NAMESPACE, "generateName": "tried-"}
    return made
