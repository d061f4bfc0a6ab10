"""Fresh reads for denials: shared, short-lived, and so many a second that vSphere never suffers."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple

from webhook.errors import TooManyReads, VsphereUnreachable
from webhook.inventory.index import Index
from webhook.inventory.provider import ProviderInventory, Reader
from webhook.model.vms import VirtualMachine

VALID = 5.0
"""Seconds that an answer serves, "not there" included, unless an update of its VMs comes first."""
RATE = 20.0
"""Reads a second, of one provider; a burst of as many may come at once."""
USER_SHARE = 0.25
"""Of the rate, for one user: a loop of one vendor's must not use up everybody's."""
PATIENCE = 1.0
"""Seconds that a read may wait for its turn: one reader after another is slowed, not refused."""

_USERS = 1024
_RECENT = 4096

_Key = tuple[frozenset[str], frozenset[str], frozenset[str]]
_Known = tuple[Index, tuple[VirtualMachine | None, ...]]


class _Recent(NamedTuple):
    until: float
    known: _Known
    vms: tuple[VirtualMachine, ...]


class _Bucket:
    """Permits that fill up again at `rate` a second; some may be lent ahead of time."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._permits, self._at = rate, rate, now

    def wait(self, now: float) -> float:
        """Seconds until the next permit."""
        self._permits = min(self._rate, self._permits + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (1 - self._permits) / self._rate)

    def take(self) -> None:
        self._permits -= 1


class Confirmations:
    """A Reader in front of a provider's own."""

    def __init__(
        self,
        inventory: ProviderInventory,
        reader: Reader,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._inventory = inventory
        self._reader = reader
        self._now = now
        self._sleep = sleep
        self._running: dict[_Key, asyncio.Task[tuple[VirtualMachine, ...]]] = {}
        self._recent: dict[_Key, _Recent] = {}
        self._all = _Bucket(RATE, now())
        self._users: dict[str, _Bucket] = {}

    async def read(
        self,
        *,
        morefs: Collection[str],
        uuids: Collection[str],
        names: Collection[str],
        user: str = "",
        afresh: bool = False,
    ) -> tuple[VirtualMachine, ...]:
        """See Reader. Raises VsphereUnreachable where there were too many."""
        key = frozenset(morefs), frozenset(uuids), frozenset(names)
        now = self._now()
        recent = self._recent.get(key)
        if not afresh and recent and now < recent.until and self._same(recent.known, key[0]):
            return recent.vms
        running = self._running.get(key)
        if running is None:
            wait = self._permit(user, now)
            running = asyncio.create_task(self._read(key, user, wait))
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key, None))
        # Shared: one request that runs out of time must not take the answer away from the others.
        return await asyncio.shield(running)

    async def _read(self, key: _Key, user: str, wait: float) -> tuple[VirtualMachine, ...]:
        if wait:
            await self._sleep(wait)
        known = self._known(key[0])
        morefs, uuids, names = key
        try:
            vms = await self._reader.read(morefs=morefs, uuids=uuids, names=names, user=user)
        except VsphereUnreachable:
            self._inventory.reads["fresh", "failed"] += 1
            raise
        self._inventory.reads["fresh", "ok"] += 1
        if len(self._recent) >= _RECENT:
            self._recent.clear()
        self._recent[key] = _Recent(self._now() + VALID, known, vms)
        return vms

    def _known(self, morefs: Collection[str]) -> _Known:
        index = self._inventory.vms
        return index, tuple(index.by_moref(moref) for moref in sorted(morefs))

    def _same(self, known: _Known, morefs: Collection[str]) -> bool:
        """Whether no update has come since: a record that has changed is another object."""
        index, vms = self._known(morefs)
        return index is known[0] and all(a is b for a, b in zip(vms, known[1], strict=True))

    def _permit(self, user: str, now: float) -> float:
        """Take a permit, and return how long to wait for it; VsphereUnreachable if too long."""
        if user not in self._users:
            if len(self._users) >= _USERS:
                self._users.clear()
            self._users[user] = _Bucket(RATE * USER_SHARE, now)
        buckets = self._users[user], self._all
        wait = max(bucket.wait(now) for bucket in buckets)
        if wait > PATIENCE:
            self._inventory.reads["fresh", "refused"] += 1
            name = self._inventory.name
            raise TooManyReads(
                f"provider {name} was asked too many times in this second: try again"
            )
        for bucket in buckets:
            bucket.take()
        return wait
