"""Fresh reads for denials: shared, and so many a second that vSphere never suffers.

No answer is kept: what a verdict rests on was asked after its request came.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple

from webhook.bucket import Bucket, Buckets
from webhook.errors import TooManyReads
from webhook.inventory.provider import ProviderInventory
from webhook.model.vms import VirtualMachine
from webhook.shared import shared

RATE = 20.0
"""Reads a second, of one provider; a burst of as many may come at once."""
USER_SHARE = 0.25
"""Of the rate, for one user: a loop of one vendor's must not use up everybody's."""
PATIENCE = 1.0
"""Seconds that a read may wait for its turn: one reader after another is slowed, not refused."""

Ask = Callable[
    [Collection[str], Collection[str], Collection[str], Callable[[], None]],
    Awaitable[tuple[VirtualMachine, ...]],
]
"""Asks vSphere for morefs, uuids and names; calls its last argument just before it does."""

_USERS = 1024
_NEVER = float("inf")


class _ReadKey(NamedTuple):
    morefs: frozenset[str]
    uuids: frozenset[str]
    names: frozenset[str]


class _Read:
    """One read, which any number of requests wait for."""

    def __init__(self) -> None:
        self.began = _NEVER
        """When vSphere was asked, in seconds of the clock; later than any request until then."""
        self.task: asyncio.Future[tuple[VirtualMachine, ...]]


class Confirmations:
    """A Reader in front of what asks a provider's vSphere."""

    def __init__(
        self,
        inventory: ProviderInventory,
        ask: Ask,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._inventory = inventory
        self._ask = ask
        self._now = now
        self._sleep = sleep
        self._latest: dict[_ReadKey, _Read] = {}
        """Those that wait for their turn or run; of one key, the one that began last."""
        self._all = Bucket(RATE, now)
        self._users = Buckets(RATE * USER_SHARE, now, _USERS)

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
        key = _ReadKey(frozenset(morefs), frozenset(uuids), frozenset(names))
        read = self._latest.get(key)
        if read is None or read.began <= since:
            read = self._start(key, self._permit(user))
        # Not the task itself: who runs out of time must not take the answer from the others.
        await asyncio.wait([read.task])
        return read.task.result()

    def _start(self, key: _ReadKey, wait: float) -> _Read:
        read = self._latest[key] = _Read()
        read.task = shared(self._run(read, key, wait))

        def end(_: object) -> None:
            if self._latest.get(key) is read:
                del self._latest[key]

        read.task.add_done_callback(end)
        return read

    async def _run(self, read: _Read, key: _ReadKey, wait: float) -> tuple[VirtualMachine, ...]:
        if wait:
            await self._sleep(wait)

        def begin() -> None:
            read.began = self._now()

        result = "failed"
        try:
            vms = await self._ask(*key, begin)
            result = "ok"
        finally:
            self._inventory.reads["fresh", result] += 1
        return vms

    def _permit(self, user: str) -> float:
        """Take a permit, and return how long to wait for it. Raises TooManyReads."""
        buckets = self._users.of(user), self._all
        wait = max(bucket.wait() for bucket in buckets)
        if wait > PATIENCE:
            self._inventory.reads["fresh", "refused"] += 1
            name = self._inventory.name
            raise TooManyReads(
                f"provider {name} was asked too many times in this second: try again"
            )
        for bucket in buckets:
            bucket.take()
        return wait
