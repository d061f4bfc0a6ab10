"""Providers of a real API server: found, followed, and kept apart from what they must not reach."""

import asyncio
import base64
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cases import NAMESPACE
from tests.e2e.bed import GUARD, Vcsim, eventually
from tests.e2e.test_scenarios import claim
from tests.e2e.world import TARGET, World
from tests.proxy import proxy
from webhook.cluster import Cluster, FoundProvider, ProviderWatch
from webhook.inventory.provider import Inventory, ProviderInventory

pytestmark = pytest.mark.anyio

SECRET = {"user": "administrator@vsphere.local", "password": "one", "ca.crt": "PEM"}


@pytest.fixture(autouse=True)
def clean(world: World) -> Iterator[None]:
    yield
    for namespace in (NAMESPACE, TARGET):
        world.bed.empty(namespace, "Provider", "Secret")


def secret(name: str, values: dict[str, str], namespace: str = NAMESPACE) -> dict[str, Any]:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def provider(
    name: str, url: str = "https://vcenter.example.com/sdk", namespace: str = NAMESPACE, **spec: Any
) -> dict[str, Any]:
    reference = {"name": f"{name}-credentials", "namespace": namespace}
    return {
        "apiVersion": "forklift.konveyor.io/v1beta1",
        "kind": "Provider",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": "vsphere", "url": url, "secret": reference, **spec},
    }


def apply(world: World, *objects: dict[str, Any]) -> None:
    for obj in objects:
        world.bed.kubectl("apply", "-f", "-", stdin=json.dumps(obj), check=True)


class Sources:
    """Stands for what reads vSphere: what it was told, and whether it runs."""

    def __init__(self) -> None:
        self.told: list[FoundProvider] = []
        self.running: list[FoundProvider] = []

    def connect(self, found: FoundProvider, inventory: ProviderInventory) -> "Sources.One":
        self.told.append(found)
        return self.One(self, found)

    class One:
        def __init__(self, all_: "Sources", found: FoundProvider) -> None:
            self.all, self.found = all_, found

        def start(self) -> None:
            self.all.running.append(self.found)

        def stop(self) -> None:
            self.all.running.remove(self.found)


class Following:
    """A ProviderWatch at work, and what came of it."""

    def __init__(self, inventory: Inventory, sources: Sources) -> None:
        self.inventory, self.sources = inventory, sources

    def trouble(self, name: str) -> str:
        found = self.inventory.get(NAMESPACE, name)
        return found.trouble if found else "not there"


@asynccontextmanager
async def following(kubeconfig: Path, secret_seconds: float = 0.1) -> AsyncIterator[Following]:
    inventory, sources = Inventory(), Sources()
    async with Cluster.open(kubeconfig) as cluster:
        watch = ProviderWatch(cluster, [NAMESPACE], inventory, sources.connect, secret_seconds)
        task = asyncio.create_task(watch.run())
        try:
            yield Following(inventory, sources)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert not sources.running


async def becomes(check: Callable[[], object], what: str) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            while not check():  # noqa: ASYNC110  it is no event of ours
                await asyncio.sleep(0.02)
            return
    raise AssertionError(f"not within a minute: {what}")


async def kubectl(world: World, *objects: dict[str, Any]) -> None:
    await asyncio.to_thread(apply, world, *objects)


async def test_added_changed_and_deleted_providers_and_rotated_secrets(world: World) -> None:
    async with following(world.bed.kubeconfig(GUARD)) as now:
        await becomes(lambda: not now.inventory.unlisted, "the first list")
        assert list(now.inventory) == []
        await kubectl(world, provider("prod"))
        await becomes(lambda: "prod-credentials does not exist" in now.trouble("prod"), "no secret")
        await kubectl(world, secret("prod-credentials", SECRET))
        await becomes(lambda: len(now.sources.running) == 1, "a source")
        found = now.sources.running[0]
        assert (found.url, found.user, found.password, found.ca, found.insecure) == (
            "https://vcenter.example.com/sdk",
            "administrator@vsphere.local",
            "one",
            "PEM",
            False,
        )
        assert "one" not in repr(found)
        rotated = {"user": "u", "password": "two", "cacert": "OLD", "insecureSkipVerify": "true"}
        await kubectl(world, secret("prod-credentials", rotated))
        await becomes(lambda: [s.password for s in now.sources.running] == ["two"], "the new one")
        assert (now.sources.running[0].ca, now.sources.running[0].insecure) == ("OLD", True)
        before = now.inventory.get(NAMESPACE, "prod")
        await kubectl(world, provider("prod") | {"status": {"phase": "Ready"}})
        labelled = provider("prod")
        labelled["metadata"]["labels"] = {"new": "label"}
        await kubectl(world, labelled, provider("openstack-lab", type="openstack"))
        await becomes(lambda: now.inventory.get(NAMESPACE, "openstack-lab"), "the other type")
        assert now.inventory.get(NAMESPACE, "prod") is before, "nothing that counts has changed"
        assert [str(p.provider) for p in now.inventory.vsphere()] == [f"{NAMESPACE}/prod"]
        await kubectl(world, provider("prod", "https://other.example.com/sdk"))
        await becomes(
            lambda: [s.url for s in now.sources.running] == ["https://other.example.com/sdk"],
            "the new address",
        )
        await asyncio.to_thread(
            world.bed.kubectl, "delete", "provider", "prod", "-n", NAMESPACE, check=True
        )
        await becomes(lambda: now.inventory.get(NAMESPACE, "prod") is None, "it is gone")
        await becomes(lambda: not now.sources.running, "its source has stopped")


@pytest.mark.parametrize(
    ("change", "values", "says"),
    [
        ({"url": "http://vcenter.example.com/sdk"}, SECRET, "spec.url is not https"),
        ({"url": "https://vcenter.example.com/"}, SECRET, "spec.url is not https"),
        ({"url": "https://me:secret@vcenter.example.com/sdk"}, SECRET, "spec.url is not https"),
        (
            {"secret": {"name": "prod-credentials", "namespace": TARGET}},
            SECRET,
            "another namespace",
        ),
        (
            {"secret": {"name": f"../../{TARGET}/secrets/prod-credentials"}},
            SECRET,
            "its spec.secret.name",
        ),
        ({}, {"user": "u"}, "no password"),
        ({}, {}, "no user and no password"),
    ],
)
async def test_a_provider_that_cannot_be_used_says_why(
    world: World, change: dict[str, Any], values: dict[str, str], says: str
) -> None:
    for namespace in (NAMESPACE, TARGET):
        apply(world, secret("prod-credentials", values, namespace))
    apply(world, provider("prod", **change))
    async with following(world.bed.kubeconfig(GUARD)) as now:
        await becomes(lambda: says in now.trouble("prod"), says)
        assert "secret@" not in now.trouble("prod")
        assert not now.sources.told


async def test_an_api_server_that_is_away_takes_nothing_away(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    apply(world, secret("prod-credentials", SECRET), provider("prod"))
    with proxy(int(world.bed.api.url.rpartition(":")[2])) as between:
        config = yaml.safe_load(world.bed.kubeconfig(GUARD).read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{between.port}"
        file = tmp_path / "kubeconfig"
        file.write_text(yaml.safe_dump(config))
        async with following(file) as now:
            await becomes(lambda: now.sources.running, "a source")
            between.mood = "hole"
            between.cut_all()
            await kubectl(world, provider("second", type="ova"))
            assert now.sources.running
            between.mood = "pass"
            between.cut_all()  # what fell into the hole need not wait for its time-out
            await becomes(lambda: now.inventory.get(NAMESPACE, "second"), "what came meanwhile")
            between.mood, between.budgets = "cut", itertools.repeat(300)
            between.cut_all()
            await becomes(lambda: between.cuts, "an answer was cut")
            between.mood = "pass"
            await kubectl(world, provider("third", type="ova"))
            await becomes(lambda: now.inventory.get(NAMESPACE, "third"), "the next change")
            assert [s.password for s in now.sources.running] == ["one"]
            assert len(now.sources.told) == 1


async def test_without_rights_every_provider_is_in_doubt(world: World) -> None:
    async with following(world.bed.kubeconfig("viewer")) as now:
        await becomes(lambda: "403" in now.inventory.unlisted[NAMESPACE].why(), "the refusal")


def test_verdicts_follow_the_clusters_providers(world: World, vcsim: Vcsim) -> None:
    """The shipped manifests, the service account's own rights, and no provider in the settings."""
    values = {
        "user": vcsim.user,
        "password": vcsim.password,
        "ca.crt": vcsim.ca_file.read_text(),
    }
    found = provider("found", vcsim.url)
    apply(world, secret("found-credentials", values), found)
    kubeconfig = str(world.bed.kubeconfig(GUARD))
    with world.guarded(vcsim, providers=[], kubeconfig=kubeconfig, trustNetwork=True) as guard:
        vm = world.vm("DC0_H0_VM0", vcsim)
        right, wrong = claim("right", vm), claim("wrong", vm, vmID="vm-99999")
        eventually(lambda: world.post(wrong)["code"] == 422, "the Provider is read")
        assert world.create(right, dry_run=True).returncode == 0
        world.bed.kubectl("delete", "provider", "found", "-n", NAMESPACE, check=True)
        eventually(lambda: world.post(right)["code"] == 503, "it is gone")
        assert "no vSphere provider is known" in world.post(right)["message"]
        apply(world, found)
        eventually(lambda: world.create(right, dry_run=True).returncode == 0, "it is there again")
        assert vcsim.password not in guard.log


@pytest.fixture
def vcsim(world: World) -> Vcsim:
    return world.vcsim


def test_a_denied_network_is_never_spoken_to(world: World, vcsim: Vcsim) -> None:
    values = {"user": vcsim.user, "password": vcsim.password}
    with proxy(vcsim.port) as between:
        apply(
            world,
            secret("inside-credentials", values),
            provider("inside", f"https://localhost:{between.port}/sdk"),
        )
        kubeconfig = str(world.bed.kubeconfig(GUARD))
        with world.guarded(
            vcsim, providers=[], kubeconfig=kubeconfig, deniedNetworks=["127.0.0.0/8", "::1/128"]
        ) as guard:
            eventually(lambda: "deniedNetworks" in guard.log, "it is named")
        assert between.connections == 0
