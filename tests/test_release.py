"""Which Forklift is there: what is believed first, and what is left without any right to look."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command import run
from tests.pages import ROOT
from tests.stand_in import standing_in
from webhook.cli.known import Where, settings_of, standing
from webhook.cluster import Cluster, ReleaseWatch, release_of
from webhook.errors import ClusterUnreachable
from webhook.inventory.cluster import Followed
from webhook.inventory.provider import Inventory
from webhook.model.forklift import Release
from webhook.runtime.following import Following
from webhook.runtime.supervise import Supervisor

pytestmark = pytest.mark.anyio

DEMO = ROOT / "webhook" / "cli" / "demo" / "inventory.yaml"
PLACE = "openshift-mtv"
OPERATORS = f"/apis/operators.coreos.com/v1alpha1/namespaces/{PLACE}/clusterserviceversions"
CONTROLLER = f"/apis/apps/v1/namespaces/{PLACE}/deployments/forklift-controller"
SCHEMAS = "/openapi/v3/apis/forklift.konveyor.io/v1beta1"


def operator(*names: str) -> dict[str, Any]:
    return {"items": [{"metadata": {"name": name}} for name in ("other.v9.9.9", *names)]}


def controller(image: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"image": image}]}}}}


def schemas(*kinds: str, **fields: Any) -> dict[str, Any]:
    spec = {"properties": {"spec": {"properties": fields}}}
    return {"components": {"schemas": {f"io.konveyor.forklift.v1beta1.{k}": spec for k in kinds}}}


@pytest.mark.parametrize(
    ("objects", "found"),
    [
        ({OPERATORS: operator("mtv-operator.v2.12.0")}, Release("deleted", "2.12.0")),
        ({OPERATORS: operator("forklift-operator.v2.12.1")}, Release("kept", "2.12.1")),
        (
            {
                OPERATORS: operator("mtv-operator.v2.9.3"),
                CONTROLLER: controller("quay.io/kubev2v/forklift-controller:v2.12.5"),
            },
            Release("deleted", "2.9.3"),
        ),
        (
            {CONTROLLER: controller("localhost:5000/forklift-controller:2.11.7@sha256:1.2.3")},
            Release("deleted", "2.11.7"),
        ),
        (
            {
                CONTROLLER: controller("quay.io/1.2.3/forklift-controller:latest"),
                SCHEMAS: schemas("Migration", "Conversion", resumeConversion={}),
            },
            Release("kept"),
        ),
        (
            {OPERATORS: operator("mtv-operator.v2.12.10", "mtv-operator.v2.9.5")},
            Release("deleted", "2.9.5"),
        ),
        ({SCHEMAS: schemas("Migration", plan={})}, Release("deleted")),
        ({SCHEMAS: schemas("Migration", "Conversion", plan={})}, Release()),
        ({SCHEMAS: schemas("Plan")}, Release()),
        ({}, Release()),
    ],
)
async def test_what_the_cluster_has(
    tmp_path: Path, objects: dict[str, Any], found: Release
) -> None:
    with standing_in(tmp_path) as api:
        api.objects = objects
        async with Cluster.open(api.kubeconfig) as cluster:
            assert await release_of(cluster, ["elsewhere", PLACE]) == found


async def test_without_any_right_what_all_may_read_is_enough(tmp_path: Path) -> None:
    with standing_in(tmp_path) as api:
        api.forbidden = "/namespaces/"
        api.objects = {SCHEMAS: schemas("Migration", "Conversion", resumeConversion={})}
        async with Cluster.open(api.kubeconfig) as cluster:
            assert await release_of(cluster, [PLACE]) == Release("kept")


async def test_an_api_server_that_fails_takes_nothing_away_that_is_known(tmp_path: Path) -> None:
    followed = Followed()
    missing = followed.unlisted
    with standing_in(tmp_path) as api:
        async with Cluster.open(api.kubeconfig) as cluster:
            api.broken = True
            with pytest.raises(ClusterUnreachable):
                await release_of(cluster, [PLACE])
            watch = ReleaseWatch(cluster, [PLACE], followed)
            async with asyncio.TaskGroup() as group:
                looking = group.create_task(watch.run())
                await _becomes(lambda: len(api.asked) > 1)
                assert followed.unlisted == missing, "readiness waits for it"
                api.broken = False
                api.objects = {OPERATORS: operator("mtv-operator.v2.12.0")}
                await _becomes(lambda: followed.unlisted == missing - 1)
                looking.cancel()
            api.broken = True
            async with asyncio.TaskGroup() as group:
                before = len(api.asked)
                looking = group.create_task(watch.run())
                await _becomes(lambda: len(api.asked) > before + 1)
                looking.cancel()
    assert followed.release == Release("deleted", "2.12.0")


async def test_whoever_asks_asks_where_forklift_runs_also_if_its_providers_are_elsewhere(
    tmp_path: Path,
) -> None:
    found = Release("deleted", "2.12.0")
    file = tmp_path / "settings.yaml"
    with standing_in(tmp_path) as api:
        api.objects = {OPERATORS: operator("mtv-operator.v2.12.0")}
        file.write_text(f"{{providerNamespaces: [team-a], kubeconfig: {api.kubeconfig}}}")
        settings = settings_of(file)
        supervisor = Supervisor(_nothing, _nothing)
        following = Following(settings, Inventory(), supervisor, _nothing, _nothing)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(supervisor.keep("cluster", following.run))
            await _becomes(lambda: following.followed.release == found)
            running.cancel()
        where = Where(snapshot=DEMO, settings=file)
        async with standing(where, settings, [PLACE], quiet=True) as (_, picture):
            assert picture.followed.release == found
        doctor = await asyncio.to_thread(run, "doctor", "--settings", file)
    assert "Forklift 2.12.0 deletes the PVCs of vendors" in doctor.stdout, doctor


def _nothing(*_: Any) -> Any:
    pass


async def _becomes(check: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not check():  # noqa: ASYNC110  it is no event of ours
            await asyncio.sleep(0.01)
