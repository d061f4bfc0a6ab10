"""Which of several replicas holds a Lease, on the real API server."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_following import by
from tests.e2e.world import TARGET, World
from tests.proxy import proxy
from webhook.cluster import Cluster
from webhook.cluster.leases import SECONDS, Lease
from webhook.errors import ClusterUnreachable

pytestmark = [pytest.mark.e2e, pytest.mark.anyio]


@dataclass
class Clock:
    at: float = 1000.0

    def __call__(self) -> float:
        return self.at


def lease(name: str, holder: str, cluster: Cluster, now: Clock) -> Lease:
    return Lease(cluster, TARGET, name, holder, now=now)


def spec(world: World, name: str) -> dict[str, Any]:
    shown = world.bed.kubectl("get", "lease", name, "-n", TARGET, "-o", "json", check=True).stdout
    found: dict[str, Any] = json.loads(shown)["spec"]
    return found


async def test_one_holds_it_until_it_stops_renewing_or_gives_it_up(world: World) -> None:
    now = Clock()
    async with Cluster.open(world.bed.kubeconfig()) as cluster:
        a, b = lease("one", "a", cluster, now), lease("one", "b", cluster, now)
        assert await a.hold()
        assert (await b.hold(), a.held, b.held) == (False, True, False)
        now.at += SECONDS - 1
        assert await a.hold(), "renewed"
        now.at += SECONDS - 1
        assert not await b.hold(), "it was renewed since it was seen last"
        assert a.held
        now.at += SECONDS - 1
        assert not a.held, "who doesn't renew knows by itself that it is over"
        assert not await b.hold(), "another waits for as long after its last look"
        now.at += 1
        assert await b.hold()
        assert not await a.hold()
        assert spec(world, "one").items() >= {"holderIdentity": "b", "leaseTransitions": 1}.items()
        await b.release()
        assert not b.held
        assert await a.hold(), "at once"


async def test_of_many_that_want_it_at_once_one_gets_it(world: World) -> None:
    now = Clock()
    async with Cluster.open(world.bed.kubeconfig()) as cluster:
        many = [lease("many", f"replica-{number}", cluster, now) for number in range(5)]
        assert sum(await asyncio.gather(*(one.hold() for one in many))) == 1
        now.at += SECONDS
        for _ in range(2):
            assert sum(await asyncio.gather(*(one.hold() for one in many))) <= 1
        assert sum(one.held for one in many) == 1


async def test_what_is_held_is_given_up_at_the_end(world: World) -> None:
    async with Cluster.open(world.bed.kubeconfig()) as cluster:
        first = lease("end", "first", cluster, Clock())
        task = asyncio.create_task(first.run())
        async with asyncio.timeout(30):
            while not first.held:  # noqa: ASYNC110  it is no event of ours
                await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await lease("end", "second", cluster, Clock()).hold()


async def test_an_api_server_that_is_away_takes_nothing_away(world: World, tmp_path: Path) -> None:
    now = Clock()
    with proxy(int(world.bed.api.url.rpartition(":")[2])) as between:
        async with Cluster.open(by(between, world.bed, tmp_path, "admin")) as cluster:
            one = lease("away", "one", cluster, now)
            assert await one.hold()
            between.mood = "cut"
            between.cut_all()
            with pytest.raises(ClusterUnreachable):
                await one.hold()
            assert one.held
            now.at += SECONDS
            assert not one.held
