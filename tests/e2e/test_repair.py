"""Whom the API server asks for a repair: by the shipped conditions, as it evaluates them itself."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cases import BASE, Case, all_cases
from tests.e2e.bed import path_of
from tests.e2e.world import World
from tests.guard import Guard
from webhook.cli.demo import merged
from webhook.rules import DEFAULTS

pytestmark = pytest.mark.e2e

_IDS = {default.id for default in DEFAULTS}
FILLED = [case for case in all_cases() if case.rule in _IDS and case.fails and not case.api_server]
_SOURCE = "forklift.konveyor.io/disk-source"


@pytest.fixture(scope="module")
def guard(world: World) -> Iterator[Guard]:
    with world.guarded() as guard:
        yield guard


def _asks(world: World, guard: Guard, obj: dict[str, Any]) -> bool:
    """Whether the API server asks for a repair of `obj`, when it is created."""
    before = _mutations(guard)
    with world.bed.api.client() as client:
        client.post(path_of(obj), json=obj, params={"dryRun": "All"})
    return _mutations(guard) > before


def _mutations(guard: Guard) -> int:
    lines = guard.metrics().splitlines()
    found = [one for one in lines if "reviews_total{" in one and 'webhook="mutate"' in one]
    return sum(int(float(one.rpartition(" ")[2])) for one in found)


@pytest.mark.parametrize("case", FILLED, ids=lambda case: case.id)
def test_it_asks_for_whatever_a_default_fills_in(world: World, guard: Guard, case: Case) -> None:
    assert _asks(world, guard, case.object)


# Forklift's own CRD fills in true, which an old Forklift must not have.
_RIGHT = [
    BASE["PersistentVolumeClaim"],
    merged(BASE["Plan"], {"spec": {"deleteVmOnFailMigration": False}}),
]


@pytest.mark.parametrize("right", _RIGHT, ids=lambda obj: obj["kind"])
def test_it_does_not_ask_for_what_is_right(
    world: World, guard: Guard, right: dict[str, Any]
) -> None:
    assert not _asks(world, guard, right)


@pytest.mark.parametrize(
    "source",
    [
        "[ds] a/b/disk.vmdk",
        "[a datastore] übung (1)/disk-000001.vmdk",
        "[ds] a/x-123456-000001.vmdk",
    ],
)
def test_it_does_not_ask_for_any_whole_path(world: World, guard: Guard, source: str) -> None:
    pvc = merged(BASE["PersistentVolumeClaim"], {"metadata": {"annotations": {_SOURCE: source}}})
    assert not _asks(world, guard, pvc)


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {"vmUUID": "42324a118a5e2f0d6b0c1f2e3d4c5b6a"}},
        {"labels": {"vmID": ""}},
        {"labels": {_SOURCE: "disk.vmdk"}},
        {"annotations": {_SOURCE: "ds:///vmfs/volumes/5f/a/disk.vmdk"}},
        {"annotations": {_SOURCE: "[ds] a/disk-flat.vmdk"}},
        {"annotations": {_SOURCE: "[ds] a/disk.vmdk "}},
        {"annotations": {_SOURCE: "[ds] /a/disk.vmdk"}},
        {"annotations": {_SOURCE: "[ds]a/disk.vmdk"}},
        {"annotations": {_SOURCE: "[ds] a\\disk.vmdk"}},
    ],
    ids=str,
)
def test_it_asks_for_whatever_is_written_otherwise(
    world: World, guard: Guard, metadata: dict[str, Any]
) -> None:
    assert _asks(world, guard, merged(BASE["PersistentVolumeClaim"], {"metadata": metadata}))
