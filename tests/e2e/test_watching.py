"""What is on the cluster is watched: each kind of drift is told of in a report, an Event, a metric,
and by the gate, in the same words. On the real API server and a simulator."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cases import NAMESPACE
from tests.e2e import world as usual
from tests.e2e.bed import (
    GUARD,
    Bed,
    Vcsim,
    add_disk,
    destroy,
    eventually,
    find_vm,
    power_off,
    rename,
    set_uuid,
    vim,
    wait_for,
)
from tests.e2e.parts import Parts
from tests.e2e.test_gate import TARGET, apply, bind, disk_of, migration, plan_of
from tests.e2e.world import MANIFESTS, OWN_CRDS, Vm, World
from tests.guard import Guard

pytestmark = pytest.mark.e2e

REPORTS = OWN_CRDS.parent / "report-crds"
OWN = "conversion-guard"
KIND = "policyreports.wgpolicyk8s.io"
PVC_REPORT = "conversion-guard-persistentvolumeclaim"
PLAN_REPORT = "conversion-guard-plan"


@pytest.fixture(scope="module")
def world(programs: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A bed of its own: reports can be written here, and the guards can hold a Lease."""
    with Bed(vcsims=1, programs=programs) as bed:
        bed.install_crds(OWN_CRDS)
        bed.kubectl("apply", "--server-side", "-f", str(crd(KIND)), check=True)
        for namespace in (NAMESPACE, TARGET, usual.TARGET, OWN):
            bed.kubectl("create", "namespace", namespace, check=True)
        for file in ("cluster-role.yaml", "lease-role.yaml"):
            bed.kubectl("apply", "-f", str(MANIFESTS / "base" / file), check=True)
        yield World(bed, bed.vcsims[0], tmp_path_factory.mktemp("world"))


def crd(kind: str) -> Any:
    plural, _, group = kind.partition(".")
    return REPORTS / f"{group}_{plural}.yaml"


@pytest.fixture(scope="module")
def vcsim(world: World) -> Vcsim:
    return world.bed.add_vcsim(vms=12)


@contextmanager
def watching(world: World, vcsim: Vcsim, **settings: Any) -> Iterator[Guard]:
    kubeconfig = str(world.bed.kubeconfig(GUARD))
    with world.guarded(vcsim, kubeconfig=kubeconfig, trustNetwork=True, **settings) as guard:
        yield guard


@pytest.fixture(scope="module")
def guard(world: World, vcsim: Vcsim) -> Iterator[Guard]:
    with watching(world, vcsim) as guard:
        eventually(lambda: guard.told("this replica watches"), 60, "it holds the Lease")
        yield guard


@pytest.fixture(autouse=True)
def clean(world: World) -> Iterator[None]:
    yield
    world.bed.empty(NAMESPACE, "Migration", "Plan", "Event")
    world.bed.empty(TARGET, "PersistentVolumeClaim", "Event")
    eventually(lambda: not reports(world), 60, "nothing is left to report on")


def reports(world: World, kind: str = KIND) -> dict[str, dict[str, Any]]:
    """The guard's own, by `namespace/name`."""
    label = "app.kubernetes.io/managed-by=conversion-guard"
    shown = world.bed.kubectl("get", kind, "-A", "-l", label, "-o", "json", check=True).stdout
    items: list[dict[str, Any]] = json.loads(shown)["items"]
    return {f"{one['metadata']['namespace']}/{one['metadata']['name']}": one for one in items}


def report(world: World, place: str = f"{TARGET}/{PVC_REPORT}", kind: str = KIND) -> dict[str, Any]:
    found: dict[str, Any] = reports(world, kind).get(place, {})
    return found


def says(world: World, place: str = f"{TARGET}/{PVC_REPORT}", kind: str = KIND) -> list[str]:
    """`result rule name` of each result."""
    return [
        f"{one['result']} {one['rule']} {one['resources'][0]['name']}"
        for one in report(world, place, kind).get("results", [])
    ]


def right(world: World, place: str = f"{TARGET}/{PVC_REPORT}", kind: str = KIND) -> bool:
    found = report(world, place, kind)
    return bool(found) and not [one for one in found["results"] if one["result"] == "fail"]


def events(world: World, namespace: str, name: str) -> list[str]:
    """Those of the audit on this object: `reason`, oldest first."""
    shown = world.bed.kubectl("get", "events.events.k8s.io", "-n", namespace, "-o", "json")
    items = json.loads(shown.stdout)["items"]
    mine = [one for one in items if one["regarding"]["name"] == name and one["action"] == "Audit"]
    return [one["reason"] for one in sorted(mine, key=lambda one: str(one["eventTime"]))]


def value(guard: Guard, metric: str) -> float:
    found = re.findall(rf"^{re.escape(metric)} (\S+)$", guard.metrics(), re.M)
    return float(found[0]) if found else 0.0


def planned(world: World, vm: Vm) -> None:
    """A VM with its one PVC, bound, and its Plan: all is right."""
    apply(world, disk_of(vm, "disk"), plan_of(vm))
    bind(world, "disk")
    eventually(lambda: right(world), 60, "the PVC's report")
    eventually(lambda: right(world, f"{NAMESPACE}/{PLAN_REPORT}"), 60, "the Plan's")


def first_disk(vm: Any) -> Any:
    return next(
        one for one in vm.config.hardware.device if isinstance(one, vim.vm.device.VirtualDisk)
    )


def edit(vm: Any, device: Any, operation: str = "edit") -> None:
    change = vim.vm.device.VirtualDeviceSpec(operation=operation, device=device)
    wait_for(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))


def move(vm: Any) -> None:
    disk = first_disk(vm)
    disk.backing.fileName = disk.backing.fileName.replace("/disk", "/moved-disk")
    edit(vm, disk)


def grow(vm: Any) -> None:
    disk = first_disk(vm)
    disk.capacityInKB = 2**28
    disk.capacityInBytes = 2**38
    edit(vm, disk)


def snapshot(vm: Any) -> None:
    disk = first_disk(vm)
    disk.backing.fileName = disk.backing.fileName.replace(".vmdk", "-000001.vmdk")
    edit(vm, disk)


DRIFTS = {
    "moved": (move, "pvc-disk-source"),
    "resized": (grow, "pvc-capacity"),
    "added": (lambda vm: add_disk(vm, 1024), ""),
    "snapshot": (snapshot, ""),
    "removed": (destroy, "pvc-vm"),
    "renamed": (lambda vm: rename(vm, "another name"), ""),
    "uuid": (lambda vm: set_uuid(vm, "11111111-2222-3333-4444-555555555555"), "pvc-vm"),
    "power": (power_off, ""),
}
"""What becomes of a VM, and the rule that says so of its PVC, if one does."""


@pytest.mark.parametrize("what", DRIFTS)
def test_what_becomes_of_a_vm_is_told_where_people_look(
    world: World, vcsim: Vcsim, guard: Guard, what: str
) -> None:
    vm = world.vm(f"DC0_H0_VM{list(DRIFTS).index(what)}", vcsim)
    planned(world, vm)
    drift, rule = DRIFTS[what]
    before = value(guard, f'conversion_guard_drift_total{{what="{what}"}}')
    with vcsim.connect() as instance:
        drift(find_vm(instance, vm.name))
    eventually(
        lambda: value(guard, f'conversion_guard_drift_total{{what="{what}"}}') > before, 60, "known"
    )
    if not rule:
        return
    eventually(lambda: f"fail {rule} disk" in says(world), 60, "the PVC is reported")
    eventually(lambda: not right(world, f"{NAMESPACE}/{PLAN_REPORT}"), 60, "and its Plan")
    eventually(lambda: events(world, TARGET, "disk") == ["ConversionWrong"], 60, "the PVC's Event")
    eventually(lambda: events(world, NAMESPACE, "gated") == ["ConversionWrong"], 60, "the Plan's")
    assert value(guard, 'conversion_guard_objects{kind="Plan",state="fail"}') == 1
    assert value(guard, 'conversion_guard_turned_total{kind="Plan",to="fail"}') >= 1
    assert world.create(migration(), dry_run=True).returncode == 1
