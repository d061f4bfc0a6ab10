"""Following Providers through answers that the real API server gives once in a while."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.stand_in import StandIn, standing_in
from webhook.cluster import Cluster, FoundProvider, ProviderWatch
from webhook.cluster.providers import _decode
from webhook.inventory.provider import Inventory, ProviderInventory

pytestmark = pytest.mark.anyio

PLACE = "/apis/forklift.konveyor.io/v1beta1/namespaces/mtv/providers"
SECRET = "/api/v1/namespaces/mtv/secrets/login"
LOGIN = {
    "data": {key: base64.b64encode(key.encode()).decode() for key in ("user", "password")},
}


class Source:
    """Counts how often one was started; the first so many can't be."""

    def __init__(self) -> None:
        self.started = 0
        self.failing = 0

    def connect(self, found: FoundProvider, inventory: ProviderInventory) -> "Source":
        return self

    def start(self) -> None:
        if self.failing:
            self.failing -= 1
            raise OSError("no thread to be had")
        self.started += 1

    def stop(self) -> None:
        pass


def providers(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "prod", "namespace": "mtv"}
    whole = {"type": "vsphere", "url": "https://vc.example.com/sdk", "secret": {"name": "login"}}
    return {
        "metadata": {"resourceVersion": "1"},
        "items": [{"metadata": metadata, "spec": whole | spec}],
    }


@asynccontextmanager
async def following(api: StandIn, source: Source) -> AsyncIterator[Inventory]:
    inventory = Inventory()
    async with Cluster.open(api.kubeconfig) as cluster:
        watch = ProviderWatch(cluster, ["mtv"], inventory, source.connect, secret_seconds=0.05)
        task = asyncio.create_task(watch.run())
        try:
            yield inventory
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def becomes(check: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not check():  # noqa: ASYNC110  it is no event of ours
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("trouble", ["garbled", "no object", "no source", "500"])
async def test_a_provider_is_looked_at_again_whatever_came_first(
    tmp_path: Path, trouble: str
) -> None:
    source = Source()
    with standing_in(tmp_path) as api:
        api.objects = {PLACE: providers(), SECRET: LOGIN}
        if trouble == "no object":
            api.objects[SECRET] = [{"data": 5}]
        source.failing = 2 if trouble == "no source" else 0
        api.garbled = b"{" if trouble == "garbled" else b""
        api.broken = trouble == "500"
        async with following(api, source) as inventory:
            await becomes(lambda: len(api.asked) > 2)
            if trouble == "no object":
                await becomes(lambda: "answer can't be read" in trouble_of(inventory))
            api.garbled, api.broken = b"", False
            api.objects[SECRET] = LOGIN
            await becomes(lambda: source.started == 1)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"secret": {"name": "../../team-b/secrets/x"}}, 'its spec.secret.name: "../../team-b'),
        ({"secret": {}}, 'its spec.secret.name: "" can\'t be'),
        ({"url": "https://[::1/sdk"}, "its spec.url is not https"),
    ],
)
async def test_what_leads_elsewhere_is_never_asked_for(
    tmp_path: Path, spec: dict[str, Any], says: str
) -> None:
    with standing_in(tmp_path) as api:
        api.objects = {PLACE: providers(**spec)}
        async with following(api, Source()) as inventory:
            await becomes(lambda: says in trouble_of(inventory))
        assert {line.split(" ")[1] for line in api.asked} == {PLACE}


async def test_a_provider_that_comes_changes_and_goes_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "webhook.cluster")
    first, same, other = (
        _decode(msgspec.json.encode(providers(**spec)["items"][0]))[1]
        for spec in ({}, {}, {"url": "https://other.example.com/sdk"})
    )
    with standing_in(tmp_path) as api:
        api.objects = {SECRET: LOGIN}
        async with Cluster.open(api.kubeconfig) as cluster:
            watch = ProviderWatch(cluster, [], Inventory(), Source().connect)
            running = asyncio.create_task(watch.run())
            for found in (first, same, other):
                watch.put("mtv/prod", found)
            watch.drop("mtv/prod")
            await running
    assert caplog.messages == [
        "provider mtv/prod is there",
        "provider mtv/prod has changed",
        "provider mtv/prod is deleted",
    ]
    there, changed, _ = (getattr(record, "fields", {}) for record in caplog.records)
    assert there["secret"] == changed["secret"] == "Secret mtv/login"
    assert changed["url"] == "https://other.example.com/sdk"


def trouble_of(inventory: Inventory) -> str:
    found = inventory.get("mtv", "prod")
    return found.trouble if found else ""
