"""The stream of readiness: what it tells, why it judges again, and how it ends."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.cases import READY_PLAN, Cluster, FixedCluster
from tests.e2e.bed import eventually
from tests.guard import running
from tests.stand_in import standing_in
from tests.test_api import SNAPSHOT
from tests.test_decide import DATABASE, Vcenter
from webhook.api import app
from webhook.api.callers import STREAMS_OF_ONE
from webhook.cluster import objects
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.inventory.provider import Inventory
from webhook.metrics import Metrics
from webhook.model.forklift import KeptPlan
from webhook.model.objects import User

pytestmark = pytest.mark.anyio

PLAN = f"{READY_PLAN['metadata']['namespace']}/{READY_PLAN['metadata']['name']}"
SOURCE = READY_PLAN["spec"]["provider"]["source"]["name"]
RIGHTS = ("get plans", "get providers", "list persistentvolumeclaims")
_MOMENT = 30.0


class Reader(FixedCluster):
    """An API server that knows everybody, until it doesn't."""

    strangers = False

    async def user(self, token: str, audience: str) -> User | None:
        return None if self.strangers else User(token, proven=True)


@dataclass
class World:
    """A guard's API, without its server."""

    rights: tuple[str, ...] = RIGHTS
    ending: bool = False

    def __post_init__(self) -> None:
        self.there = Cluster(plan=READY_PLAN, rights=self.rights)
        self.cluster = Reader(self.there)
        self.followed = self.cluster.followed()
        self.vcenter = Vcenter(SOURCE, DATABASE)
        self.sources = Sources(
            Inventory([self.vcenter.inventory]),
            Policy(),
            lambda: 10_000.0,
            self.followed,
            self.cluster,
        )
        self.app = app(
            lambda: self.sources,
            self.cluster,
            Metrics(),
            audience="x",
            rate_per_user=1e6,
            ending=lambda: self.ending,
        )


@dataclass
class Client:
    """One that reads a stream, and goes when it has seen enough."""

    world: World
    token: str = "vendor"
    status: int = 0
    lines: "asyncio.Queue[dict[str, Any]]" = field(default_factory=asyncio.Queue)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> "Client":
        headers = [(b"authorization", f"Bearer {self.token}".encode())]
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": "/api/v1/readiness",
            "headers": headers,
        }
        scope |= {"query_string": b"", "root_path": "", "http_version": "1.1"}
        self.answered = asyncio.ensure_future(self.world.app(scope, self._receive(), self._send))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gone.set()
        async with asyncio.timeout(_MOMENT):
            await self.answered

    def _receive(self) -> Callable[[], Awaitable[dict[str, Any]]]:
        whole = False

        async def receive() -> dict[str, Any]:
            nonlocal whole
            if not whole:
                whole = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await self.gone.wait()
            return {"type": "http.disconnect"}

        return receive

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = dict(message["headers"])
        elif message["body"]:
            self.lines.put_nowait(msgspec.json.decode(message["body"]))

    async def next(self, kind: str) -> dict[str, Any]:
        """The next line of that type; others that come before it are dropped."""
        async with asyncio.timeout(_MOMENT):
            while (line := await self.lines.get())["type"] != kind:
                pass
        return line

    async def whole(self) -> list[str]:
        """The types of all lines until each Plan has been told."""
        kinds: list[str] = []
        async with asyncio.timeout(_MOMENT):
            while not kinds or kinds[-1] != "whole":
                kinds.append((await self.lines.get())["type"])
        return kinds


async def test_first_all_of_it_is_told_and_that_it_was() -> None:
    async with Client(World()) as client:
        assert await client.whole() == ["providers", "plan", "whole"]
        assert client.status == 200
        assert client.headers[b"content-type"] == b"application/x-ndjson"


def put_pvc(world: World) -> None:
    disk = DATABASE.disks[0]
    claim = {
        "metadata": {
            "namespace": READY_PLAN["spec"]["targetNamespace"],
            "name": "late",
            "labels": {"vmID": DATABASE.moref, "vmUUID": DATABASE.uuid},
            "annotations": {"forklift.konveyor.io/disk-source": disk.file},
        },
    }
    key, kept = objects.claim(msgspec.json.encode(claim))
    world.cluster._pvcs.append((key, kept))
    world.followed.claims.put(key, kept)


def remove_disk(world: World) -> None:
    less = msgspec.structs.replace(DATABASE, disks=DATABASE.disks[:-1])
    for index in (world.vcenter.truth, world.vcenter.inventory.vms):
        index.put(less)


def relabel(world: World) -> None:
    world.cluster._plan["metadata"]["labels"] = {"conversion-guard.io/wave": "7"}
    world.followed.plans.put(PLAN, KeptPlan("conversion"))


@pytest.mark.parametrize("change", [put_pvc, remove_disk, relabel])
async def test_a_plan_is_told_again_when_what_it_rests_on_has_changed(
    change: Callable[[World], None],
) -> None:
    world = World()
    async with Client(world) as client:
        before = (await client.next("plan"))["plan"]
        await client.next("whole")
        change(world)
        assert (await client.next("plan"))["plan"] != before


async def test_a_plan_that_is_archived_is_gone() -> None:
    world = World()
    async with Client(world) as client:
        await client.next("whole")
        world.followed.plans.put(PLAN, KeptPlan("archived"))
        told = await client.next("gone")
        assert f"{told['namespace']}/{told['name']}" == PLAN


async def test_who_may_get_no_plan_hears_of_none() -> None:
    world = World(rights=())
    async with Client(world) as client:
        assert await client.whole() == ["providers", "whole"]
        world.followed.plans.put(PLAN, KeptPlan("conversion"))
        assert await client.next("providers") == {"type": "providers", "providers": []}
        assert client.lines.empty()


@pytest.mark.parametrize("all_of_it", [True, False])
async def test_a_right_that_is_taken_away_is_gone_with_its_plans(all_of_it: bool) -> None:
    world = World()
    async with Client(world) as client:
        await client.next("whole")
        world.there.rights = ()
        if all_of_it:
            world.sources = msgspec.structs.replace(world.sources, policy=Policy())
        else:
            world.followed.plans.put(PLAN, KeptPlan("conversion"))
        await client.next("gone")


async def test_it_ends_when_the_token_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook.api.callers.TOKEN_SECONDS", 0.1)
    world = World()
    async with Client(world) as client:
        await client.next("whole")
        world.cluster.strangers = True
        assert (await client.next("end"))["status"] == 401
        await client.answered


async def test_it_ends_with_the_server() -> None:
    world = World()
    async with Client(world) as client:
        await client.next("whole")
        world.ending = True
        told = await client.next("end")
        assert (told["status"], "connect again" in told["detail"]) == (503, True)
        await client.answered


async def test_who_leaves_a_line_unread_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook.api.stream._PATIENCE", 0.1)

    class Idle(Client):
        async def _send(self, message: Any) -> None:
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

    world = World()
    clients = [Idle(world) for _ in range(STREAMS_OF_ONE)]
    for client in clients:
        await client.__aenter__()
    await asyncio.wait_for(asyncio.gather(*(one.answered for one in clients)), _MOMENT)
    async with Client(world) as another:
        await another.next("whole")


def test_a_server_that_is_told_to_end_loses_no_time_over_streams(tmp_path: Path) -> None:
    with standing_in(tmp_path) as cluster:
        settings = {
            "snapshots": [str(SNAPSHOT)],
            "audit": {"enabled": False},
            "kubeconfig": str(cluster.kubeconfig),
            "api": {"enabled": True, "listen": "127.0.0.1:0"},
        }
        cluster.rights = {"all": ["*"]}
        with (
            running(tmp_path, settings) as guard,
            httpx.Client(verify=guard.tls(), headers={"Authorization": "Bearer token-all"}) as http,
        ):
            url = f"{guard.api_url}/api/v1/readiness"
            eventually(lambda: http.get(url.replace("readiness", "plans")).is_success, "listed")
            with http.stream("GET", url, timeout=_MOMENT) as answer:
                kinds = []
                for line in answer.iter_lines():
                    kinds.append(msgspec.json.decode(line)["type"])
                    if kinds[-1] == "whole":
                        guard.process.terminate()
            assert kinds == ["providers", "whole", "end"]
            assert guard.process.wait(60) == 0
            assert "Traceback" not in guard.log


async def test_one_user_has_so_many_streams_and_one_that_has_gone_counts_no_more() -> None:
    world = World()
    async with asyncio.TaskGroup() as all_of_them:
        clients = [Client(world) for _ in range(STREAMS_OF_ONE)]
        for client in clients:
            await client.__aenter__()
            await client.next("whole")
        async with Client(world) as refused:
            told = await asyncio.wait_for(refused.lines.get(), _MOMENT)
            assert (refused.status, "close one" in told["detail"]) == (429, True)
        async with Client(world, token="other") as other:
            await other.next("whole")
        await clients.pop().__aexit__()
        async with Client(world) as again:
            await again.next("whole")
        for client in clients:
            all_of_them.create_task(client.__aexit__())
