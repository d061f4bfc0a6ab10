"""Asks once more, before a denial: vSphere itself, and the API server itself."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from webhook.engine import doubt
from webhook.engine.ask import Asked, Views
from webhook.engine.opinion import Opinion
from webhook.engine.sources import Sources
from webhook.errors import ClusterUnreachable, TooManyReads, VsphereUnreachable
from webhook.facts.facts import F
from webhook.inventory.index import Vms
from webhook.inventory.provider import ProviderInventory
from webhook.model.objects import User
from webhook.model.review import Undecided

T = TypeVar("T")


async def afresh(
    asked: Asked[F],
    said: Opinion[F],
    usable: list[ProviderInventory],
    since: float,
    user: User,
    deadline: float,
) -> Views | Undecided:
    """The VMs of every provider as vSphere itself says now."""
    fields = {cause.field for cause in (*said.deny_vsphere, *said.unknown)}
    wanted = asked.wanted(said.facts, fields)

    late = {source.name: None for source in usable}

    async def read(source: ProviderInventory) -> tuple[str, Vms]:
        if source.reader is None:
            raise VsphereUnreachable(source.trouble)
        fresh = await source.reader.read(
            morefs=wanted.morefs,
            uuids=wanted.uuids,
            names=wanted.names,
            user=user.username,
            since=since,
        )
        del late[source.name]
        return source.name, source.vms.with_fresh(wanted.morefs, fresh)

    try:
        return dict(await _together([read(source) for source in usable], deadline))
    except TooManyReads as error:
        return Undecided(str(error), "too-many-reads")
    except VsphereUnreachable as error:
        return Undecided(str(error), "unreachable")
    except TimeoutError:
        return Undecided(f"{', '.join(late)} did not answer in time for this request", "deadline")


async def _together(reads: Sequence[Coroutine[Any, Any, T]], deadline: float) -> Sequence[T]:
    """What they return; the first that fails ends the others. One alone needs no task."""
    if len(reads) == 1:
        async with asyncio.timeout_at(deadline):
            return [await reads[0]]
    tasks = [asyncio.ensure_future(read) for read in reads]
    try:
        async with asyncio.timeout_at(deadline):
            return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def confirmed_live(
    asked: Asked[F], sources: Sources, deadline: float
) -> Asked[F] | Undecided:
    """The same, as the API server itself says now."""
    try:
        async with asyncio.timeout_at(deadline):
            return await asked.confirmed(sources)
    except (ClusterUnreachable, TimeoutError) as error:
        return doubt.of_cluster(error)
