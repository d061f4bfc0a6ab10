"""Every case of tests/fixtures through kubectl, a real API server, the manifests and vSphere."""

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import jsonpatch
import pytest

from tests.cases import BASE, NAMESPACE, Case, all_cases
from tests.e2e.bed import GUARD, Kubectl, path_of
from tests.e2e.world import Stage, World
from webhook.cli.demo import merged

pytestmark = pytest.mark.e2e


def _guard(case: Case) -> str:
    """Its settings, and whether it has a cluster to ask."""
    there = "" if case.there is None else "cluster "
    return there + json.dumps(case.settings, sort_keys=True)


# In the order of their guards: each change of settings is another one.
CASES = sorted(all_cases(), key=_guard)


@pytest.fixture(scope="module")
def stage(world: World) -> Iterator[Stage]:
    """All cases' VMs, and what is in the cluster already, from before the guard is there."""
    stage = Stage(world.vcsim)
    cases = [case for case in CASES if not (case.simulator or case.api_server)]
    stage.put(cases)
    stage.furnish(world.bed, cases)
    # The one storage class that the cases name.
    world.bed.kubectl("create", "-f", "-", stdin=json.dumps(_STORAGE_CLASS), check=True)
    yield stage
    # Every guard of this bed would find them.
    world.bed.empty(NAMESPACE, "Provider")


_STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": BASE["PersistentVolumeClaim"]["spec"]["storageClassName"]},
    "provisioner": "vendor.example.com",
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "group",
    [list(group) for _, group in groupby(CASES, key=_guard)],
    ids=lambda group: _guard(group[0]),
)
def test_cases_on_the_api_server(
    world: World, stage: Stage, group: list[Case], subtests: pytest.Subtests
) -> None:
    settings = group[0].settings
    if group[0].there is not None:
        settings = {**settings, "kubeconfig": str(world.bed.kubeconfig(GUARD))}
    with world.guarded(**settings):
        for case in group:
            with subtests.test(case.id):
                if reason := case.simulator or case.api_server:
                    pytest.skip(reason)
                _check(world, stage, case)


def _check(world: World, stage: Stage, case: Case) -> None:
    obj = stage.placed(case, _without_empty(case.object))
    dry = _dry_run(world, obj, again=case.old is not None)
    done = world.bed.kubectl(
        "replace" if case.old else "create", "-o", "json", "-f", "-", stdin=json.dumps(obj)
    )
    _compare(stage, case, obj, done)
    if done.returncode == 0:
        made = json.loads(done.stdout)
        assert (dry["metadata"].get("annotations"), dry["spec"]) == (
            made["metadata"].get("annotations"),
            made["spec"],
        )
    else:
        told = [f"{cause['field']}: {cause['message']}" for cause in dry["details"]["causes"]]
        assert all(text in done.stderr for text in told), dry


def _dry_run(world: World, obj: dict[str, Any], *, again: bool) -> dict[str, Any]:
    """What the API server answers, by HTTP: tests/e2e/test_scenarios.py does it by kubectl."""
    path, query = path_of(obj), {"dryRun": "All"}
    with world.bed.api.client() as client:
        if again:
            path += f"/{obj['metadata']['name']}"
            there = client.get(path).json()["metadata"]["resourceVersion"]
            answer = client.put(
                path, json=merged(obj, {"metadata": {"resourceVersion": there}}), params=query
            )
        else:
            answer = client.post(path, json=obj, params=query)
    found: dict[str, Any] = answer.json()
    return found


def _compare(stage: Stage, case: Case, obj: dict[str, Any], done: Kubectl) -> None:
    expect = case.expect
    for text in (*expect.causes, *expect.warnings):
        assert stage.told(case, text) in " ".join(done.stderr.split("\n")), done.stderr
    assert ("Warning: " in done.stderr) == bool(expect.warnings), done.stderr
    if expect.verdict == "denied":
        assert done.returncode == 1
        assert done.stderr.startswith(f'The {obj["kind"]} "{obj["metadata"]["name"]}" is invalid:')
        return
    assert done.returncode == 0, done.stderr
    whole = merged({"metadata": {"labels": {}, "annotations": {}}}, obj)
    wanted = _without_empty(jsonpatch.apply_patch(whole, stage.told(case, expect.patch)))
    made = json.loads(done.stdout)
    assert merged(made, wanted) == made, "all that was sent or filled in is there"
    for keys in ("labels", "annotations"):
        assert made["metadata"].get(keys, {}) == wanted["metadata"].get(keys, {})


def _without_empty(obj: dict[str, Any]) -> dict[str, Any]:
    """The API server keeps no empty labels or annotations."""
    empty = [key for key in ("labels", "annotations") if obj["metadata"].get(key) == {}]
    return merged(obj, {"metadata": dict.fromkeys(empty)})
