"""What is kept of the cluster, and how old it says that it is, on the real API server."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cases import NAMESPACE
from tests.e2e.bed import GUARD, Bed, eventually
from tests.e2e.test_providers import becomes, kubectl
from tests.e2e.world import TARGET, World, pvc
from tests.guard import running
from tests.proxy import Proxy, proxy
from webhook.cli.demo import merged
from webhook.cluster import Cluster, LiveReader, reflectors
from webhook.inventory.cluster import Aged, Followed
from webhook.model.forklift import ARCHIVED, KeptPlan
from webhook.model.keys import DISK_SOURCE, ENFORCE, VM_ID, VM_UUID

pytestmark = [pytest.mark.e2e, pytest.mark.anyio]

SILENCE = 3.0
UUID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(scope="module", autouse=True)
def unguarded(world: World) -> None:
    """The guards of other tests are gone, and would be asked."""
    for kind in ("validatingwebhookconfigurations", "mutatingwebhookconfigurations"):
        world.bed.kubectl("delete", kind, "--all", check=True)


@asynccontextmanager
async def following(kubeconfig: Path) -> AsyncIterator[tuple[Followed, LiveReader]]:
    followed, reader = Followed(), LiveReader()
    async with Cluster.open(kubeconfig, silence=SILENCE) as reader.cluster:
        tasks = [asyncio.create_task(one.run()) for one in reflectors(reader.cluster, followed)]
        try:
            yield followed, reader
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def by(between: Proxy, bed: Bed, folder: Path, user: str = GUARD) -> Path:
    """A kubeconfig of `user` in `folder`, to go by a proxy in front of the API server."""
    config = yaml.safe_load(bed.kubeconfig(user).read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{between.port}"
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.fixture
def behind(world: World, tmp_path: Path) -> Iterator[tuple[Proxy, Path]]:
    """A proxy in front of the API server, and the kubeconfig to go through it."""
    with proxy(int(world.bed.api.url.rpartition(":")[2])) as between:
        yield between, by(between, world.bed, tmp_path)


def tables(followed: Followed) -> tuple[Aged, ...]:
    return followed.claims, followed.classes, followed.enforced, followed.plans


def current(followed: Followed) -> Callable[[], bool]:
    return lambda: all(table.age(time.monotonic()) < SILENCE for table in tables(followed))


def plan(name: str, **spec: Any) -> dict[str, Any]:
    api = {"apiVersion": "forklift.konveyor.io/v1beta1", "kind": "Plan"}
    whole: dict[str, Any] = {
        "provider": {"source": {}, "destination": {}},
        "targetNamespace": TARGET,
        "map": {"network": {}, "storage": {}},
        "vms": [],
    }
    return api | {
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": merged(whole, spec),
    }


def _type(plan: KeptPlan | None) -> str | None:
    return plan.type if plan else None


def claim(name: str, vm_id: str, namespace: str = TARGET) -> dict[str, Any]:
    made = pvc(name, {VM_ID: vm_id, VM_UUID: UUID}, {DISK_SOURCE: "[ds] a/a.vmdk"})
    return merged(made, {"metadata": {"namespace": namespace}})


async def test_claims_plans_and_labels_are_kept_as_they_change(world: World) -> None:
    async with following(world.bed.kubeconfig(GUARD)) as (followed, reader):
        await becomes(current(followed), "all is listed")
        space = {"apiVersion": "v1", "kind": "Namespace"}
        await kubectl(
            world,
            space | {"metadata": {"name": "told", "labels": {ENFORCE: "warn"}}},
            plan("turning", type="conversion"),
            plan("cold", type="cold"),
            claim("kept", "vm-8"),
            claim("other", "vm-88"),
        )
        plans = followed.plans
        await becomes(lambda: _type(plans.get(f"{NAMESPACE}/turning")) == "conversion", "the Plan")
        await becomes(lambda: _type(plans.get(f"{NAMESPACE}/cold")) == "cold", "the other one")
        await becomes(lambda: followed.enforced.get("told") == "warn", "the label")
        await becomes(lambda: followed.claims.of(TARGET, "vm-8", UUID), "the PVC")
        (found,) = await reader.siblings(TARGET, "vm-8", UUID)
        assert found.name == "kept"
        assert await reader.siblings("told", "vm-8", UUID) == ()
        await kubectl(world, plan("turning", type="conversion", archived=True))
        await becomes(
            lambda: _type(plans.get(f"{NAMESPACE}/turning")) == ARCHIVED, "it is archived"
        )
        names = ["pvc/kept", "pvc/other", "-n", TARGET]
        await asyncio.to_thread(world.bed.kubectl, "delete", *names, "--wait=false", check=True)
        world.bed.empty(TARGET, "PersistentVolumeClaim")
        world.bed.empty(NAMESPACE, "Plan")
        await becomes(lambda: not followed.claims.of(TARGET, "vm-8", UUID), "it is gone")
        await becomes(lambda: plans.get(f"{NAMESPACE}/cold") is None, "and the Plans")


async def test_a_silence_is_known_and_ends_by_itself(
    world: World, behind: tuple[Proxy, Path]
) -> None:
    """A hole that swallows what is under way: the connections stay open, and nothing comes."""
    between, kubeconfig = behind
    async with following(kubeconfig) as (followed, _):
        await becomes(current(followed), "all is listed")
        between.mood = "hole"
        await becomes(
            lambda: all(one.age(time.monotonic()) > SILENCE for one in tables(followed)),
            "each table says that it is too old",
        )
        await kubectl(world, plan("meanwhile", type="conversion"))
        assert followed.plans.get(f"{NAMESPACE}/meanwhile") is None
        between.mood = "pass"
        await becomes(current(followed), "each is current again")
        assert _type(followed.plans.get(f"{NAMESPACE}/meanwhile")) == "conversion"
        world.bed.empty(NAMESPACE, "Plan")


async def test_where_nothing_happens_nothing_is_wrong(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(world.bed.kubeconfig(GUARD)) as (followed, _):
        await becomes(current(followed), "all is listed")
        watched = time.monotonic() + 4 * SILENCE
        await becomes(lambda: time.monotonic() > watched, "some watches have ended")
        assert current(followed)()
    assert not caplog.records


def test_a_guard_that_ends_while_it_is_silent_ends_at_once_and_whole(
    world: World, behind: tuple[Proxy, Path], tmp_path: Path
) -> None:
    """Its connections have been given up, and nobody answers their TLS's goodbye."""
    between, kubeconfig = behind
    settings = {
        "kubeconfig": str(kubeconfig),
        "providerNamespaces": [NAMESPACE],
        "deniedNetworks": [],
        "silence": 5,
    }
    with running(tmp_path, settings) as guard:
        between.mood = "hole"
        eventually(lambda: len(guard.told("WARNING webhook.cluster /")) >= 5, "noticed")
        assert guard.stop() == 0
    assert "Traceback" not in guard.log
