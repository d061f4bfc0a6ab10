"""Fresh reads of many objects at once, as few reads of vSphere: an audit keeps to one user's
budget."""

import asyncio
import copy
from collections.abc import Collection, Iterable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from webhook.errors import GuardError, VsphereUnreachable
from webhook.inventory.index import Fresh
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.model.vms import VirtualMachine

USER = "conversion-guard audit"
"""On whose behalf vSphere is read."""
GATHER, PAUSE = 0.05, 0.25
"""Seconds until a read begins, for others to join it; and between two: a user's share."""
AT_ONCE = 128
"""Objects that share a read."""


class _Sharer(NamedTuple):
    morefs: frozenset[str]
    uuids: frozenset[str]
    names: frozenset[str]
    since: float
    answer: "asyncio.Future[Fresh]"

    def of(self, fresh: Fresh) -> Fresh:
        """What this one asked for."""
        if self.names:  # a name may be a path: more than was asked for is as true
            return fresh
        uuids = {uuid.lower() for uuid in self.uuids}
        return Fresh(
            vm for vm in fresh if vm.moref in self.morefs or not uuids.isdisjoint(_uuids(vm))
        )


def _uuids(vm: VirtualMachine) -> tuple[str, str]:
    return vm.uuid.lower(), vm.instance_uuid.lower()


class Pool:
    """A webhook.inventory.provider.Reader of one provider, in front of its own."""

    def __init__(self, provider: ProviderInventory) -> None:
        self._provider = provider
        self._waiting: list[_Sharer] = []
        self._serving: asyncio.Task[None] | None = None

    async def read(
        self,
        *,
        morefs: Collection[str],
        uuids: Collection[str],
        names: Collection[str],
        user: str = "",
        since: float,
    ) -> tuple[VirtualMachine, ...]:
        """See Reader."""
        answer: asyncio.Future[Fresh] = asyncio.get_running_loop().create_future()
        asked = frozenset(morefs), frozenset(uuids), frozenset(names)
        self._waiting.append(_Sharer(*asked, since, answer))
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve())
        return await answer

    async def _serve(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER)
            some, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            some = [one for one in some if not one.answer.done()]  # who gave up wants nothing
            if some:
                await self._answer(some)
                await asyncio.sleep(PAUSE)

    async def _answer(self, some: Iterable[_Sharer]) -> None:
        try:
            if self._provider.reader is None:
                raise VsphereUnreachable(self._provider.trouble)
            found = await self._provider.reader.read(
                morefs=frozenset().union(*(one.morefs for one in some)),
                uuids=frozenset().union(*(one.uuids for one in some)),
                names=frozenset().union(*(one.names for one in some)),
                user=USER,
                since=max(one.since for one in some),
            )
            fresh = found if isinstance(found, Fresh) else Fresh(found)
        except GuardError as error:
            for one in some:
                if not one.answer.done():
                    one.answer.set_exception(error)
        else:
            for one in some:
                if not one.answer.done():
                    one.answer.set_result(one.of(fresh))


class Pools:
    """One for each provider."""

    def __init__(self) -> None:
        self._pools: WeakKeyDictionary[ProviderInventory, Pool] = WeakKeyDictionary()

    def over(self, inventory: Inventory) -> Inventory:
        """The same as it is known now, where vSphere is read by the pools."""
        pooled = Inventory(map(self._over, inventory))
        pooled.unlisted = inventory.unlisted
        return pooled

    def _over(self, provider: ProviderInventory) -> ProviderInventory:
        view = copy.copy(provider)
        if provider.reader is not None:
            pool = self._pools.get(provider)
            if pool is None:
                pool = self._pools[provider] = Pool(provider)
            view.reader = pool
        return view
