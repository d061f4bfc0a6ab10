"""What is known of the cluster, for a batch of objects: asked once, and told as to whoever may read
a namespace's reports, who is no cluster administrator."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from webhook.inventory.cluster import ClusterReader, Followed, Referent, Table
from webhook.model.objects import (
    PROVIDERS,
    Claim,
    KubeObject,
    Standing,
    Surroundings,
    User,
)
from webhook.shared import once

T = TypeVar("T")


class Batch:
    """What a batch asks, each question once. `followed` and `migrations` answer while they are no
    older than `stale` seconds by `now`: what an audit is about came by way of them."""

    def __init__(
        self,
        live: ClusterReader,
        followed: Followed,
        migrations: Table[str],
        stale: float,
        now: Callable[[], float],
    ) -> None:
        self.live, self._followed, self._migrations = live, followed, migrations
        self._stale, self._now = stale, now
        self._asked: dict[tuple[str, ...], asyncio.Future[Any]] = {}

    def read_in(self, namespace: str) -> ClusterReader:
        """As a reader of the reports of that namespace may know it."""
        return Readers(self, namespace)

    async def claims(self, namespace: str) -> tuple[Claim, ...]:
        """See ClusterReader."""

        async def known() -> tuple[Claim, ...]:
            if self._followed.claims.age(self._now()) <= self._stale:
                return self._followed.claims.within(namespace)
            return await self.live.claims(namespace)

        return await self.once(("claims", namespace), known)

    async def started(self) -> frozenset[str]:
        """See ClusterReader."""

        async def plans() -> frozenset[str]:
            if self._migrations.age(self._now()) > self._stale:
                return await self.live.started()
            return frozenset(plan for plan in (self._migrations.known() or {}).values() if plan)

        return await self.once(("started",), plans)

    async def once(self, what: tuple[str, ...], ask: Callable[[], Awaitable[T]]) -> T:
        """The answer, which whoever asks the same gets, too."""
        return await once(self._asked, what, ask)


class Readers:
    """A webhook.inventory.cluster.ClusterReader."""

    def __init__(self, batch: Batch, namespace: str) -> None:
        self._batch, self._namespace = batch, namespace

    async def claims(self, namespace: str) -> tuple[Claim, ...]:
        """See ClusterReader."""
        return await self._batch.claims(namespace)

    async def siblings(self, namespace: str, vm_id: str, vm_uuid: str) -> tuple[Claim, ...]:
        """See ClusterReader."""
        there = await self._batch.claims(namespace)
        return tuple(claim for claim in there if claim.vm == (namespace, vm_id, vm_uuid))

    async def plan(self, namespace: str, name: str) -> KubeObject | None:
        """See ClusterReader."""
        live = self._batch.live
        return await self._batch.once(("plan", namespace, name), lambda: live.plan(namespace, name))

    async def started(self) -> frozenset[str]:
        """See ClusterReader."""
        return await self._batch.started()

    async def provider(self, namespace: str, name: str) -> Standing | None:
        """See ClusterReader."""
        live, asked = self._batch.live, ("provider", namespace, name)
        return await self._batch.once(asked, lambda: live.provider(namespace, name))

    async def standing(self, kind: Referent, namespace: str, name: str) -> Standing:
        """See ClusterReader."""
        live, asked = self._batch.live, ("standing", str(kind), namespace, name)
        return await self._batch.once(asked, lambda: live.standing(kind, namespace, name))

    async def surroundings(self, namespace: str) -> Surroundings:
        """See ClusterReader."""
        live, asked = self._batch.live, ("surroundings", namespace)
        return await self._batch.once(asked, lambda: live.surroundings(namespace))

    async def mounted(self, namespace: str) -> Mapping[str, str]:
        """See ClusterReader."""
        live = self._batch.live
        return await self._batch.once(("mounted", namespace), lambda: live.mounted(namespace))

    async def may(self, user: User, verb: str, resource: str, namespace: str, name: str) -> bool:
        """See ClusterReader. Such a reader knows the PVCs and the Plans of the namespace, and no
        Provider: an object's own keys prove its VM, and of others nothing is told."""
        return namespace == self._namespace and resource != PROVIDERS
