"""What a Plan's owner reads on it when a Migration was refused: on the real API server."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cases import NAMESPACE
from tests.command import run
from tests.e2e.bed import GUARD, Vcsim, eventually
from tests.e2e.test_gate import migration, plan_of
from tests.e2e.world import MANIFESTS, Vm, World
from tests.guard import Guard
from webhook.cli.demo import merged

pytestmark = pytest.mark.e2e

TARGET = "told"
ROLE = MANIFESTS / "base" / "cluster-role.yaml"


@pytest.fixture(scope="module")
def vcsim(world: World) -> Vcsim:
    return world.bed.add_vcsim()


@pytest.fixture(scope="module")
def guard(world: World, vcsim: Vcsim) -> Iterator[Guard]:
    """With the rights of its own service account."""
    world.bed.kubectl("create", "namespace", TARGET, check=True)
    kubeconfig = str(world.bed.kubeconfig(GUARD))
    with world.guarded(vcsim, kubeconfig=kubeconfig) as guard:
        yield guard


@pytest.fixture
def vm(world: World, guard: Guard, vcsim: Vcsim) -> Vm:
    return world.vm("DC0_H0_VM0", vcsim)


@pytest.fixture(autouse=True)
def clean(world: World, guard: Guard) -> Iterator[None]:
    yield
    world.bed.empty(NAMESPACE, "Migration", "Plan", "Event")


def events(world: World, plan: str) -> list[dict[str, Any]]:
    """Those on this Plan; other tests' are there, too."""
    found = world.bed.kubectl("get", "events", "-n", NAMESPACE, "-o", "json", check=True).stdout
    items: list[dict[str, Any]] = json.loads(found)["items"]
    about = {"kind": "Plan", "name": plan}
    return [item for item in items if item["involvedObject"].items() >= about.items()]


def counted(guard: Guard, result: str) -> int:
    pattern = rf'^conversion_guard_events_total{{result="{result}"}} (\S+)$'
    return int(float(re.findall(pattern, guard.metrics(), re.MULTILINE)[0]))


def planned(world: World, vm: Vm, name: str) -> None:
    plan = merged(plan_of(vm, targetNamespace=TARGET), {"metadata": {"name": name}})
    made = world.create(plan)
    assert made.returncode == 0, made.stderr


def test_a_refused_migration_is_told_of_on_its_plan_once(
    world: World, guard: Guard, vm: Vm
) -> None:
    planned(world, vm, "refused")
    spared = counted(guard, "spared")
    for _ in range(4):
        refused = world.create(migration("refused"))
        assert "(conversion-guard: migration-disks)" in refused.stderr
    eventually(lambda: events(world, "refused"), "the Event")
    assert counted(guard, "spared") == spared + 3
    (event,) = events(world, "refused")
    assert (event["type"], event["reason"]) == ("Warning", "MigrationRefused")
    assert event["message"] == "A Migration of this Plan was denied by migration-disks"
    assert vm.moref not in json.dumps(event)
    assert vm.uuid not in json.dumps(event)
    described = world.bed.kubectl("describe", "plan", "refused", "-n", NAMESPACE, check=True)
    assert "MigrationRefused" in described.stdout


def test_a_dry_run_is_told_of_nowhere(world: World, guard: Guard, vm: Vm) -> None:
    planned(world, vm, "dry")
    before = {result: counted(guard, result) for result in ("sent", "spared", "failed")}
    assert world.create(migration("dry"), dry_run=True).returncode == 1
    assert {result: counted(guard, result) for result in before} == before


def test_without_the_right_to_tell_a_refusal_is_the_same(
    world: World, guard: Guard, vm: Vm
) -> None:
    planned(world, vm, "untold")
    kubectl = world.bed.kubectl
    first, *_ = yaml.safe_load_all(ROLE.read_text())
    rules = [rule for rule in first["rules"] if rule["resources"] != ["events"]]
    less = json.dumps({"rules": rules})
    kubectl("patch", "clusterrole", "conversion-guard", "--type=merge", "-p", less, check=True)
    may = ("auth", "can-i", "create", "events.events.k8s.io", "--as", GUARD, "-n", NAMESPACE)
    eventually(lambda: kubectl(*may).returncode, "the right is gone")
    try:
        failed = counted(guard, "failed")
        refused = world.create(migration("untold"))
        assert "(conversion-guard: migration-disks)" in refused.stderr
        eventually(lambda: counted(guard, "failed") == failed + 1, "it is counted")
        assert "an Event was not sent: the API server answers 403" in guard.log
    finally:
        kubectl("apply", "-f", str(ROLE), check=True)


def test_a_namespaces_label_that_is_a_slip_is_told_of_in_it_once(
    world: World, guard: Guard
) -> None:
    def told() -> list[dict[str, Any]]:
        found = world.bed.kubectl("get", "events", "-n", TARGET, "-o", "json", check=True).stdout
        items: list[dict[str, Any]] = json.loads(found)["items"]
        return [item for item in items if item["reason"] == "LabelUnknown"]

    label = ("label", "namespace", TARGET, "--overwrite")
    sent = counted(guard, "sent")
    world.bed.kubectl(*label, "conversion-guard.io/enforce=wran", check=True)
    (event,) = eventually(told, "the Event")
    assert event["involvedObject"]["kind"] == "Namespace"
    assert 'is "wran", which changes nothing: write deny, warn or audit' in event["message"]
    world.bed.kubectl(*label, "another=label", check=True)
    world.bed.kubectl(*label, "conversion-guard.io/enforce=x", check=True)
    eventually(lambda: counted(guard, "sent") == sent + 2, "one for each value")
    assert len(told()) == 2
    doctor = run("doctor", "--kubeconfig", world.bed.kubeconfig(), "--output", "json")
    (finding,) = (
        one for one in json.loads(doctor.stdout)["findings"] if one["area"] == "namespaces"
    )
    assert (finding["state"], finding["fix"]) == (
        "wrong",
        f"kubectl label namespace {TARGET} --overwrite conversion-guard.io/enforce=deny",
    )
    world.bed.kubectl("label", "namespace", TARGET, "conversion-guard.io/enforce-", check=True)
