"""Every case of tests/fixtures through kubectl, a real API server, the manifests and vSphere."""

import json
from itertools import groupby
from typing import Any

import jsonpatch
import pytest

from tests.cases import Case, all_cases
from tests.e2e.bed import Kubectl
from tests.e2e.world import Stage, World
from webhook.cli.demo import merged

pytestmark = pytest.mark.e2e


def _settings(case: Case) -> str:
    return json.dumps(case.settings, sort_keys=True)


# In the order of their settings: each change of settings is another guard.
CASES = sorted(all_cases(), key=_settings)


@pytest.fixture(scope="module")
def stage(world: World) -> Stage:
    """All cases' VMs, and what an UPDATE starts from, from before the guard was there."""
    stage = Stage(world.vcsim)
    stage.put([case for case in CASES if not case.simulator])
    for number, case in enumerate(CASES):
        world.bed.kubectl("create", "namespace", _namespace(number), check=True)
        if case.old and not (case.simulator or case.api_server):
            old = stage.told(case, _placed(case.old, number))
            made = world.create(old)
            assert made.returncode == 0, made.stderr
    return stage


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "group",
    [list(group) for _, group in groupby(CASES, key=_settings)],
    ids=lambda g: _settings(g[0]),
)
def test_cases_on_the_api_server(
    world: World, stage: Stage, group: list[Case], subtests: pytest.Subtests
) -> None:
    with world.guarded(**group[0].settings):
        for case in group:
            with subtests.test(case.id):
                if reason := case.simulator or case.api_server:
                    pytest.skip(reason)
                _check(world, stage, case)


def _check(world: World, stage: Stage, case: Case) -> None:
    obj = stage.told(case, _placed(case.object, CASES.index(case)))
    for dry_run in (True, False):
        if case.old:
            how = ["--dry-run=server"] if dry_run else []
            done = world.bed.kubectl(
                "replace", "-o", "json", "-f", "-", *how, stdin=json.dumps(obj)
            )
        else:
            done = world.create(obj, dry_run=dry_run)
        _compare(stage, case, obj, done)


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


def _placed(obj: dict[str, Any], number: int) -> dict[str, Any]:
    return _without_empty(merged(obj, {"metadata": {"namespace": _namespace(number)}}))


def _without_empty(obj: dict[str, Any]) -> dict[str, Any]:
    """The API server keeps no empty labels or annotations."""
    empty = [key for key in ("labels", "annotations") if obj["metadata"].get(key) == {}]
    return merged(obj, {"metadata": dict.fromkeys(empty)})


def _namespace(number: int) -> str:
    return f"case-{number}"
