"""What happens meanwhile: each thing by a dice of its own, so that a seed gives the same again
however long a machine needs for the rest."""

import asyncio
import itertools
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import httpx

from tests.e2e.bed import eventually
from tests.e2e.faults.oracle import Asked
from tests.e2e.faults.truth import Vcenter
from tests.e2e.test_soak import Replica
from tests.proxy import Proxy


class Form(NamedTuple):
    """How much of it, in seconds."""

    seconds: float
    quiet: tuple[float, float]
    """Between two faults of one place."""
    fault: tuple[float, float]
    """That one lasts."""


SHORT = Form(40, (2, 8), (1, 9))
LONG = Form(360, (1, 15), (1, 45))


@dataclass
class Chaos:
    """All of it, from `begin` to `end`; then everything is well again."""

    seed: str
    form: Form
    vcenters: Sequence[Vcenter]
    api: Proxy
    """By which the guards reach the API server."""
    client: httpx.AsyncClient
    """The administrator's, by a way that no fault is on."""
    replicas: Sequence[Replica]
    rights: Sequence[tuple[str, dict[str, Any]]]
    """Bindings that are taken away for a while: a collection's path, and the object."""
    killed: list[tuple[float, float]] = field(default_factory=list)
    """From a SIGKILL until its end has been noticed."""
    did: list[str] = field(default_factory=list)
    """For a person."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when everything is well again."""

    async def run(self) -> None:
        """For as long as the form says, and until then."""
        async with asyncio.TaskGroup() as lanes:
            for vcenter in self.vcenters:
                lanes.create_task(self._network(vcenter.provider, vcenter.proxy))
                lanes.create_task(self._disks(vcenter))
            lanes.create_task(self._network("api", self.api))
            lanes.create_task(self._rights())
            lanes.create_task(self._lifes())
            await asyncio.sleep(self.form.seconds)
            self.stop.set()
        self.over.set()

    def excuses(self, asked: Asked) -> bool:
        """Whether it was on its way when a replica was killed."""
        return any(asked.begun < end and asked.ended > begin for begin, end in self.killed)

    async def _for(self, chance: Random, between: tuple[float, float]) -> None:
        """So long, or until the end."""
        try:
            async with asyncio.timeout(chance.uniform(*between)):
                await self.stop.wait()
        except TimeoutError:
            pass

    def _tell(self, what: str) -> None:
        self.did.append(f"{time.monotonic():.1f} {what}")

    async def _network(self, name: str, proxy: Proxy) -> None:
        """Black holes, cuts at any byte, delays, and connections that end."""
        chance = Random(f"{self.seed} network {name}")
        while not self.stop.is_set():
            await self._for(chance, self.form.quiet)
            fault = chance.choice(("hole", "cut", "slow", "end"))
            self._tell(f"{name}: {fault}")
            if fault == "hole":
                proxy.mood = "hole"
            elif fault == "cut":
                proxy.budgets = (chance.randrange(40_000) for _ in itertools.count())
                proxy.mood = "cut"
            elif fault == "slow":
                proxy.delay = chance.uniform(0.02, 1)
            if fault != "end":
                await self._for(chance, self.form.fault)
            proxy.mood, proxy.delay = "pass", 0.0
            self._tell(f"{name}: well")
            if fault == "end" or chance.random() < 0.5:
                proxy.cut_all()

    async def _disks(self, vcenter: Vcenter) -> None:
        """One comes or goes, every second or so."""
        chance = Random(f"{self.seed} disks {vcenter.provider}")
        for number in itertools.count():
            vm = chance.choice(vcenter.vms)
            if vcenter.more.get(vm.moref) and chance.random() < 0.6:
                await asyncio.to_thread(vcenter.remove, vm)
            else:
                name = f"[LocalDS_0] {vm.name}/came-{self.seed}-{number}.vmdk"
                await asyncio.to_thread(vcenter.add, vm, name)
            await self._for(chance, (0.3, 1.5))
            if self.stop.is_set():
                return

    async def _rights(self) -> None:
        """A binding is taken away, and comes back."""
        chance = Random(f"{self.seed} rights")
        while not self.stop.is_set():
            await self._for(chance, self.form.quiet)
            path, binding = chance.choice(list(self.rights))
            name = binding["metadata"]["name"]
            self._tell(f"without {name}")
            (await self.client.delete(f"{path}/{name}")).raise_for_status()
            try:
                await self._for(chance, self.form.fault)
            finally:
                (await self.client.post(path, json=binding)).raise_for_status()
            self._tell(f"with {name}")

    async def _lifes(self) -> None:
        """One replica at a time is killed or ended, and comes again."""
        chance = Random(f"{self.seed} lifes")
        while True:
            await self._for(chance, self.form.quiet)
            if self.stop.is_set():
                return
            replica = chance.choice(list(self.replicas))
            how = chance.choice((signal.SIGKILL, signal.SIGTERM))
            self._tell(how.name)
            await asyncio.to_thread(self._again, replica, how)
            self._tell("two replicas")

    def _again(self, replica: Replica, how: signal.Signals) -> None:
        begun = time.monotonic()
        replica.end(how)
        if how is signal.SIGKILL:
            self.killed.append((begun, time.monotonic()))

        def started() -> bool:
            replica.start()
            return True

        # Where it can't start now it is started again, as kubelet does.
        eventually(started, "it starts")
        replica.until_ready()
