"""Every case of tests/fixtures through kubectl, a real API server, the manifests and vSphere."""

import json
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

import jsonpatch
import pytest

from tests.cases import BASE, NAMESPACE, Case, Cluster, all_cases
from tests.e2e.bed import GUARD, path_of
from tests.e2e.world import Stage, World
from webhook.cli.demo import merged

pytestmark = pytest.mark.e2e


_CLASS = BASE["PersistentVolumeClaim"]["spec"]["storageClassName"]
"""The one that the cases name, and that is there unless a case says otherwise."""
_USUAL = Cluster(classes=[{"metadata": {"name": _CLASS}}])


def _around(case: Case) -> list[dict[str, Any]]:
    """What there is but once in a cluster: its storage classes, and another Forklift than that of
    the CRDs."""
    there = case.there or _USUAL
    classes = [merged(_STORAGE_CLASS, found) for found in there.classes or _USUAL.classes]
    return classes if there.forklift == _USUAL.forklift else [*classes, _controller(there.forklift)]


def _guard(case: Case) -> str:
    """Its settings, whether it has a cluster to ask, and what there is but once in it."""
    there = "" if case.there is None else "cluster "
    around = _around(case)
    unlike = "" if around == [_STORAGE_CLASS] else " " + json.dumps(around)
    return there + json.dumps(case.settings, sort_keys=True) + unlike


def _controller(version: str) -> dict[str, Any]:
    """Forklift's Deployment, by whose image its version is known."""
    image = f"quay.example.com/kubev2v/forklift-controller:v{version}"
    labels = {"app": "forklift"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "forklift-controller", "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
        },
    }


_STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": _CLASS},
    "provisioner": "vendor.example.com",
    "volumeBindingMode": "Immediate",
}

# In the order of their guards: each change of settings is another one.
CASES = sorted(all_cases(), key=_guard)


@pytest.fixture(scope="module")
def stage(world: World) -> Iterator[Stage]:
    """All cases' VMs, and what is in the cluster already, from before the guard is there."""
    stage = Stage(world.vcsim)
    cases = [case for case in CASES if not (case.simulator or case.api_server)]
    stage.put(cases)
    stage.furnish(world.bed, cases)
    yield stage
    # Every guard of this bed would find them.
    world.bed.empty(NAMESPACE, "Provider")


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
    with world.bed.having(*_around(group[0])), world.guarded(**settings):
        for case in group:
            with subtests.test(case.id):
                if reason := case.simulator or case.api_server:
                    pytest.skip(reason)
                _check(world, stage, case)


class Answer(NamedTuple):
    """Of the API server, by kubectl or as it came."""

    told: str
    """To the user: findings as `field: message`, and warnings."""
    warned: bool
    made: dict[str, Any] | None


def _check(world: World, stage: Stage, case: Case) -> None:
    obj = stage.placed(case, _without_empty(case.object))
    _compare(stage, case, obj, _dry_run(world, obj, again=case.old is not None))
    done = world.bed.kubectl(
        "replace" if case.old else "create", "-o", "json", "-f", "-", stdin=json.dumps(obj)
    )
    made = json.loads(done.stdout) if done.returncode == 0 else None
    told = " ".join(done.stderr.split("\n"))
    _compare(stage, case, obj, Answer(told, "Warning: " in told, made))
    if made is None:
        assert done.returncode == 1
        assert f'The {obj["kind"]} "{obj["metadata"]["name"]}" is invalid:' in done.stderr


def _dry_run(world: World, obj: dict[str, Any], *, again: bool) -> Answer:
    """By HTTP: tests/e2e/test_scenarios.py does it by kubectl."""
    path, query = path_of(obj), {"dryRun": "All"}
    with world.bed.api.client() as client:
        if again:
            path += f"/{obj['metadata']['name']}"
            there = client.get(path).json()["metadata"]["resourceVersion"]
            obj = merged(obj, {"metadata": {"resourceVersion": there}})
            answer = client.put(path, json=obj, params=query)
        else:
            answer = client.post(path, json=obj, params=query)
    found = answer.json()
    # RFC 9110, Warning as the API server writes it: 299 - "text".
    warnings = [re.sub(r"\\(.)", r"\1", text[7:-1]) for text in answer.headers.get_list("warning")]
    if answer.is_success:
        return Answer(" ".join(warnings), bool(warnings), found)
    assert (found["code"], found["reason"]) == (422, "Invalid"), found
    causes = [f"{cause['field']}: {cause['message']}" for cause in found["details"]["causes"]]
    return Answer(" ".join((*causes, *warnings)), bool(warnings), None)


def _compare(stage: Stage, case: Case, obj: dict[str, Any], answer: Answer) -> None:
    expect, made = case.expect, answer.made
    for text in (*expect.causes, *expect.warnings):
        assert stage.told(case, text) in answer.told, answer.told
    assert answer.warned == bool(expect.warnings), answer.told
    if expect.verdict == "denied":
        assert made is None
        return
    assert made is not None, answer.told
    whole = merged({"metadata": {"labels": {}, "annotations": {}}}, obj)
    wanted = _without_empty(jsonpatch.apply_patch(whole, stage.told(case, expect.patch)))
    assert merged(made, wanted) == made, "all that was sent or filled in is there"
    for keys in ("labels", "annotations"):
        assert made["metadata"].get(keys, {}) == wanted["metadata"].get(keys, {})


def _without_empty(obj: dict[str, Any]) -> dict[str, Any]:
    """The API server keeps no empty labels or annotations."""
    empty = [key for key in ("labels", "annotations") if obj["metadata"].get(key) == {}]
    return merged(obj, {"metadata": dict.fromkeys(empty)})
