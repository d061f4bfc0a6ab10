"""The gate: a Migration starts only when every VM's disk set is whole, on the real API server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cases import NAMESPACE
from tests.e2e.bed import GUARD, Vcsim, add_disk, eventually, find_vm, rename, set_status
from tests.e2e.test_scenarios import GUIDES_PLAN, claim, plan
from tests.e2e.world import Vm, World, find_ready
from tests.guard import Guard
from webhook.cli.demo import merged
from webhook.model.keys import (
    CONVERSION_DESTINATION_FIELD,
    CONVERSION_DISKS_FIELD,
    CONVERSION_FIELDS,
    CONVERSION_VM_FIELD,
    MIGRATION_FIELDS,
    MIGRATION_PLAN_FIELD,
    NOT_READY,
    RESUME_FIELD,
    TARGET_NAMESPACE_FIELD,
)

pytestmark = pytest.mark.e2e

TARGET = "gate"


@pytest.fixture(scope="module")
def vcsim(world: World) -> Vcsim:
    return world.bed.add_vcsim()


@pytest.fixture(scope="module")
def guard(world: World, vcsim: Vcsim) -> Iterator[Guard]:
    """With its own service account's rights, which the manifests grant."""
    world.bed.kubectl("create", "namespace", TARGET, check=True)
    kubeconfig = str(world.bed.kubeconfig(GUARD))
    with world.guarded(vcsim, kubeconfig=kubeconfig, trustNetwork=True) as guard:
        yield guard


@pytest.fixture(scope="module")
def vms(world: World, guard: Guard, vcsim: Vcsim) -> list[Vm]:
    return [world.vm(name, vcsim) for name in ("DC0_H0_VM0", "DC0_H0_VM1")]


@pytest.fixture(autouse=True)
def clean(world: World, guard: Guard) -> Iterator[None]:
    yield
    world.bed.empty(NAMESPACE, "Migration", "Plan", "Conversion")
    world.bed.empty(TARGET, "PersistentVolumeClaim")


def plan_of(*vms: Vm, **spec: Any) -> dict[str, Any]:
    made = plan(GUIDES_PLAN, *vms)
    entries = [{"id": vm.moref, "name": vm.name} for vm in vms]
    change = {"targetNamespace": TARGET, "vms": entries, **spec}
    return merged(made, {"metadata": {"name": "gated"}, "spec": change})


def cold(vm: Vm) -> dict[str, Any]:
    """Nothing repairs what isn't ours."""
    return plan_of(vm, type="cold", targetPowerState="on")


def migration(plan: str = "gated") -> dict[str, Any]:
    return {
        "apiVersion": "forklift.konveyor.io/v1beta1",
        "kind": "Migration",
        "metadata": {"name": "start", "namespace": NAMESPACE},
        "spec": {"plan": {"name": plan, "namespace": NAMESPACE}},
    }


def conversion(type_: str) -> dict[str, Any]:
    """Of type Remote or Inspection: whatever it names, it is admitted."""
    return {
        "apiVersion": "forklift.konveyor.io/v1beta1",
        "kind": "Conversion",
        "metadata": {"name": "start", "namespace": NAMESPACE},
        "spec": {
            "type": type_,
            "vm": {"id": "vm-1"},
            "connection": {"secret": {"name": "vsphere", "namespace": NAMESPACE}},
            "targetNamespace": TARGET,
            "disks": [{"name": "one", "namespace": TARGET}],
        },
    }


def disk_of(vm: Vm, name: str, **change: Any) -> dict[str, Any]:
    made = claim(name, vm, **change)
    made["metadata"]["namespace"] = TARGET
    return made


def bind(world: World, name: str, storage: str = "100Gi") -> None:
    """What the volume controller does, which this bed hasn't got."""
    status = {"status": {"phase": "Bound", "capacity": {"storage": storage}}}
    world.bed.kubectl(
        "patch", "pvc", name, "-n", TARGET, "--subresource=status", "--type=merge",
        "-p", json.dumps(status), check=True,
    )  # fmt: skip


def apply(world: World, *objects: dict[str, Any]) -> None:
    for obj in objects:
        done = world.create(obj)
        assert done.returncode == 0, done.stderr


def started(world: World) -> bool:
    done = world.create(migration(), dry_run=True)
    assert done.returncode == 0, done.stderr
    return True


def refused(world: World, says: str) -> None:
    done = world.create(migration(), dry_run=True)
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith('The Migration "start" is invalid: '), done.stderr
    assert "spec.plan: " in done.stderr
    assert says in done.stderr, done.stderr
    assert "(conversion-guard: migration-disks)" in done.stderr


def test_from_the_plan_to_the_migration(world: World, vms: list[Vm]) -> None:
    first, second = vms
    made = world.create(plan_of(*vms))
    assert made.returncode == 0, made.stderr
    assert f'no PVC in "{TARGET}" for 1 of the 1 disks of {first.moref}' in made.stderr
    refused(world, f'for 1 of the 1 disks of {second.moref} ("{second.name}")')
    apply(world, disk_of(first, "one"), disk_of(second, "two"))
    refused(world, "not bound to a volume")
    bind(world, "one")
    refused(world, '1 PVC ("two")')
    bind(world, "two", "1Mi")
    refused(world, "smaller than the disk")
    bind(world, "two")
    world.bed.kubectl("annotate", "pvc", "two", "-n", TARGET, f"{NOT_READY}=copying", check=True)
    refused(world, 'marked as not ready ("copying")')
    world.bed.kubectl("annotate", "pvc", "two", "-n", TARGET, f"{NOT_READY}-", check=True)
    for dry_run in (True, False):
        done = world.create(migration(), dry_run=dry_run)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_a_disk_is_claimed_once(world: World, vms: list[Vm]) -> None:
    apply(world, disk_of(vms[0], "one"))
    again = disk_of(vms[0], "again")
    eventually(lambda: world.create(again, dry_run=True).returncode, "the first is known")
    done = world.create(again)
    assert 'is already claimed by PVC "one"' in done.stderr
    assert f"kubectl label pvc one -n {TARGET} vmID- vmUUID-" in done.stderr
    world.bed.kubectl("label", "pvc", "one", "-n", TARGET, "vmID-", "vmUUID-", check=True)
    eventually(lambda: world.create(again).returncode == 0, "it is released")


def test_a_pvc_that_came_past_the_guard_is_found_at_the_plan(world: World, vms: list[Vm]) -> None:
    """Made by Forklift's own account, so that nobody looked at it."""
    apply(world, disk_of(vms[0], "one"))
    stray = disk_of(vms[0], "stray", source="[LocalDS_0] elsewhere/disk.vmdk")
    stray["metadata"]["labels"]["migration"] = "60000000-0000-4000-8000-000000000001"
    apply(world, stray)
    done = world.create(plan_of(vms[0]))
    assert done.returncode == 1
    assert '1 PVC ("stray") with a disk-source that is not a disk of' in done.stderr
    assert "(conversion-guard: plan-disks)" in done.stderr


def test_warm_and_cold_migrations_are_untouched(world: World, vms: list[Vm]) -> None:
    apply(world, cold(vms[0]), migration())
    world.bed.kubectl("delete", "migration", "start", "-n", NAMESPACE, check=True)
    done = world.create(migration("no-such-plan"))
    assert done.returncode == 0
    assert "Warning: spec.plan: not checked: there is no Plan" in done.stderr


def reviews_of(world: World, guard: Guard, change: dict[str, Any], kind: str = "Migration") -> int:
    """How often the guard is asked about that change of the spec of `start`, a Migration."""
    before = guard.reviews(kind)
    patch = json.dumps({"spec": change})
    world.bed.kubectl(
        "patch", kind.lower(), "start", "-n", NAMESPACE, "--type=merge", "-p", patch, check=True
    )
    return guard.reviews(kind) - before


_CHANGES: dict[str, dict[str, Any]] = {
    MIGRATION_PLAN_FIELD: {"plan": {"name": "another"}},
    RESUME_FIELD: {"resumeConversion": True},
}


@pytest.mark.parametrize("field", sorted(MIGRATION_FIELDS))
def test_each_field_that_is_judged_is_asked_about(
    world: World, vms: list[Vm], guard: Guard, field: str
) -> None:
    apply(world, cold(vms[0]), migration())
    assert reviews_of(world, guard, _CHANGES[field]) == 1


_CONVERSIONS: dict[str, dict[str, Any]] = {
    "spec.type": {"type": "Remote"},
    CONVERSION_VM_FIELD: {"vm": {"id": "vm-2"}},
    CONVERSION_DISKS_FIELD: {"disks": [{"name": "two", "namespace": TARGET}]},
    CONVERSION_DESTINATION_FIELD: {"destination": {"name": "host", "namespace": NAMESPACE}},
    TARGET_NAMESPACE_FIELD: {"targetNamespace": NAMESPACE},
}


@pytest.mark.parametrize("field", sorted(CONVERSION_FIELDS))
def test_each_field_of_a_conversion_that_is_judged_is_asked_about(
    world: World, guard: Guard, field: str
) -> None:
    apply(world, conversion("Inspection" if field == "spec.type" else "Remote"))
    assert reviews_of(world, guard, {"image": "another"}, "Conversion") == 0
    assert reviews_of(world, guard, _CONVERSIONS[field], "Conversion") == 1


def test_a_cancel_is_never_asked_about(world: World, vms: list[Vm], guard: Guard) -> None:
    apply(world, cold(vms[0]), migration())
    assert reviews_of(world, guard, {"cancel": [{"id": vms[0].moref}]}) == 0


def test_sixty_disks_under_long_names(world: World, vcsim: Vcsim, guard: Guard) -> None:
    """80 characters of Unicode, folders with brackets and blanks, and each PVC told by them."""
    name = f"Zahlungsabwicklung – 支払い {'x' * 55}"[:80]
    folder = f"[LocalDS_0] zahlung [alt] 1/{'y' * 60}"
    disks = [f"{folder}/disk {number} (1).vmdk" for number in range(60)]
    with vcsim.connect() as instance:
        vm = find_vm(instance, "DC0_C0_RP0_VM0")
        rename(vm, name)
        instance.content.fileManager.MakeDirectory(
            folder, instance.content.rootFolder.childEntity[0], True
        )
        for disk in disks:
            add_disk(vm, 1024, disk)
    vm = world.vm(name, vcsim)
    assert len(vm.files) == 61
    claims = [
        disk_of(vm, f"{'z' * 60}-{number}", source=file) for number, file in enumerate(vm.files)
    ]
    later = claims.pop()
    listed = {"apiVersion": "v1", "kind": "List", "items": [*claims, plan_of(vm)]}

    # Again where it was too soon: the VM is a moment old.
    how = ["apply", "-f", "-"]
    text = json.dumps(listed)
    eventually(lambda: world.bed.kubectl(*how, stdin=text, check=True), "they are known")
    find_ready(world.bed)
    refused(world, f'no PVC in "{TARGET}" for 1 of the 61 disks of {vm.moref} ("{name}")')
    apply(world, later)
    with world.bed.api.client() as client:
        for obj in (*claims, later):
            set_status(client, obj, {"phase": "Bound", "capacity": {"storage": "100Gi"}})
    assert started(world)


def test_without_vsphere_no_conversion_starts(world: World, vms: list[Vm], vcsim: Vcsim) -> None:
    apply(world, disk_of(vms[0], "one"), plan_of(vms[0]))
    bind(world, "one")
    assert started(world)
    vcsim.stop()
    try:
        why = "has been unreachable since 20"
        eventually(
            lambda: why in world.create(migration(), dry_run=True).stderr, "the outage counts"
        )
        known = world.create(merged(plan_of(vms[0]), {"metadata": {"name": "known"}}), dry_run=True)
        assert known.returncode == 0, known.stderr
        assert "Warning: checked with the inventory of" in known.stderr
        unknown = merged(plan_of(vms[0], vms=[{"id": "vm-99999"}]), {"metadata": {"name": "new"}})
        done = world.create(unknown, dry_run=True)
        assert "(ServiceUnavailable)" in done.stderr
        assert why in done.stderr
    finally:
        vcsim.start()
    eventually(lambda: started(world), "it is back")
