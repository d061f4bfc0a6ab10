"""What is on the cluster is watched: each kind of drift is told of in a report, an Event, a metric,
and by the gate, in the same words. On the real API server and a simulator."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import yaml

from tests.cases import NAMESPACE
from tests.command import run
from tests.e2e import world as usual
from tests.e2e.bed import (
    GUARD,
    Bed,
    Vcsim,
    add_disk,
    destroy,
    end_other_sessions,
    eventually,
    find_vm,
    power_off,
    rename,
    set_status,
    set_uuid,
    vim,
    wait_for,
)
from tests.e2e.parts import Parts
from tests.e2e.test_gate import TARGET, apply, bind, disk_of, migration, plan_of
from tests.e2e.world import MANIFESTS, OWN_CRDS, Vm, World
from tests.guard import Guard
from webhook.cli.demo import merged
from webhook.model.keys import ENFORCE

pytestmark = pytest.mark.e2e

REPORTS = OWN_CRDS.parent / "report-crds"
OWN = "conversion-guard"
KIND = "policyreports.wgpolicyk8s.io"
PVC_REPORT = "conversion-guard-persistentvolumeclaim"
PLANS = f"{NAMESPACE}/conversion-guard-plan"
MIGRATIONS = f"{NAMESPACE}/conversion-guard-migration"


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
        # Who may start Migrations, and knows no more than whoever reads the reports there.
        starts = ("--verb=create", "--resource=migrations.forklift.konveyor.io")
        bed.kubectl("create", "role", "starts", "-n", NAMESPACE, *starts, check=True)
        whom = ("--role=starts", "--user=vendor")
        bed.kubectl("create", "rolebinding", "starts", "-n", NAMESPACE, *whom, check=True)
        yield World(bed, bed.vcsims[0], tmp_path_factory.mktemp("world"))


def crd(kind: str) -> Any:
    plural, _, group = kind.partition(".")
    return REPORTS / f"{group}_{plural}.yaml"


@pytest.fixture(scope="module")
def vcsim(world: World) -> Vcsim:
    return world.bed.add_vcsim(vms=13)


@contextmanager
def watching(world: World, vcsim: Vcsim, **settings: Any) -> Iterator[Guard]:
    kubeconfig = str(world.bed.kubeconfig(GUARD))
    with world.guarded(vcsim, kubeconfig=kubeconfig, trustNetwork=True, **settings) as guard:
        yield guard


@pytest.fixture(scope="module")
def guard(world: World, vcsim: Vcsim) -> Iterator[Guard]:
    with watching(world, vcsim) as guard:
        eventually(lambda: guard.told("this replica watches"), "it holds the Lease")
        yield guard


@pytest.fixture(autouse=True)
def clean(world: World) -> Iterator[None]:
    yield
    world.bed.empty(NAMESPACE, "Migration", "Plan", "Event")
    world.bed.empty(TARGET, "Pod", "PersistentVolumeClaim", "Event")
    eventually(lambda: not reports(world), "nothing is left to report on")


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


def all_events(world: World, namespace: str) -> list[dict[str, Any]]:
    kind = ("get", "events.events.k8s.io", "-n", namespace, "-o", "json")
    items: list[dict[str, Any]] = json.loads(world.bed.kubectl(*kind, check=True).stdout)["items"]
    return items


def events(world: World, namespace: str, name: str) -> list[str]:
    """Those of the audit on this object: `reason`, oldest first."""
    items = all_events(world, namespace)
    mine = [one for one in items if one["regarding"]["name"] == name and one["action"] == "Audit"]
    return [one["reason"] for one in sorted(mine, key=lambda one: str(one["eventTime"]))]


def value(guard: Guard, metric: str) -> float:
    found = re.findall(rf"^{re.escape(metric)} (\S+)$", guard.metrics(), re.M)
    return float(found[0]) if found else 0.0


def made_ready(world: World, plan: dict[str, Any]) -> None:
    """What Forklift does, which this bed hasn't got."""
    at = {"lastTransitionTime": "2026-11-28T00:00:00Z", "category": "Required"}
    ready = {"type": "Ready", "status": "True", "reason": "", "message": "", **at}
    with world.bed.api.client() as client:
        set_status(client, plan, {"conditions": [ready], "observedGeneration": 1})


def planned(world: World, vm: Vm) -> None:
    """A VM with its one PVC, bound, and its Plan: all is right."""
    apply(world, disk_of(vm, "disk"), plan_of(vm))
    bind(world, "disk")
    made_ready(world, plan_of(vm))
    eventually(lambda: right(world), "the PVC's report")
    eventually(lambda: right(world, PLANS), "the Plan's")


def first_disk(vm: Any) -> Any:
    return next(
        one for one in vm.config.hardware.device if isinstance(one, vim.vm.device.VirtualDisk)
    )


def edit(vm: Any, device: Any, operation: str = "edit") -> None:
    change = vim.vm.device.VirtualDeviceSpec(operation=operation, device=device)
    wait_for(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))


def put(vm: Any, old: str, new: str) -> None:
    """Have its first disk in another file, which this simulator wants to be there."""
    content = vim.ServiceInstance("ServiceInstance", vm._stub).RetrieveContent()
    datacenter = content.rootFolder.childEntity[0]
    disk = first_disk(vm)
    source = disk.backing.fileName
    disk.backing.fileName = source.replace(old, new)
    names = (source, datacenter, disk.backing.fileName, datacenter)
    content.virtualDiskManager.CopyVirtualDisk_Task(*names)  # pyVmomi can't read how it goes
    folder, _, file = disk.backing.fileName.rpartition("/")
    spec = vim.host.DatastoreBrowser.SearchSpec(matchPattern=[file])
    browser = disk.backing.datastore.browser

    def copied() -> bool:
        return bool(wait_for(browser.SearchDatastore_Task(folder, spec)).file)

    eventually(copied, "the file is there")  # a disk without its file would be lost
    edit(vm, disk)


def move(vm: Any) -> None:
    put(vm, "/disk", "/moved-disk")


def move_back(vm: Any) -> None:
    """The simulator has kept the file."""
    disk = first_disk(vm)
    disk.backing.fileName = disk.backing.fileName.replace("/moved-disk", "/disk")
    edit(vm, disk)


def grow(vm: Any) -> None:
    disk = first_disk(vm)
    disk.capacityInKB = 2**28
    disk.capacityInBytes = 2**38
    edit(vm, disk)


def snapshot(vm: Any) -> None:
    put(vm, ".vmdk", "-000001.vmdk")


def identify(vm: Any) -> None:
    """By another uuid. Of that this simulator sends no news, so all is to be read again."""
    set_uuid(vm, "42000000-0000-4000-8000-0000000000ff")
    end_other_sessions(vim.ServiceInstance("ServiceInstance", vm._stub))


DRIFTS = {
    "moved": (move, "pvc-disk-source"),
    "resized": (grow, "pvc-capacity"),
    "added": (lambda vm: add_disk(vm, 1024), "migration-disks"),
    "snapshot": (snapshot, ""),
    "removed": (destroy, "pvc-vm"),
    "renamed": (lambda vm: rename(vm, "another name"), ""),
    "power": (power_off, ""),
    "uuid": (identify, "pvc-vm"),
}
"""What becomes of a VM, and the rule that says so of its PVC, or of its Plan alone, if one does."""


@pytest.mark.parametrize("what", DRIFTS)
def test_what_becomes_of_a_vm_is_told_where_people_look(
    world: World, vcsim: Vcsim, guard: Guard, what: str
) -> None:
    vm = world.vm(f"DC0_H0_VM{list(DRIFTS).index(what)}", vcsim)
    planned(world, vm)
    drift, rule = DRIFTS[what]
    metric = f'conversion_guard_drift_total{{what="{what}"}}'
    before = value(guard, metric)
    with vcsim.connect() as instance:
        drift(find_vm(instance, vm.name))
    eventually(lambda: value(guard, metric) > before, "it is counted")
    if not rule:
        return
    if rule != "migration-disks":
        eventually(lambda: f"fail {rule} disk" in says(world), "the PVC is reported")
        eventually(lambda: events(world, TARGET, "disk") == ["ConversionWrong"], "its Event")
    eventually(lambda: not right(world, PLANS), "and its Plan")
    eventually(lambda: events(world, NAMESPACE, "gated") == ["ConversionWrong"], "the Plan's")
    assert value(guard, 'conversion_guard_objects{kind="Plan",state="fail"}') == 1
    refused = world.create(migration(), dry_run=True, user="vendor")
    assert refused.returncode == 1, refused.stdout
    told = [one for one in report(world, PLANS)["results"] if one["result"] == "fail"]
    words = [one["message"].partition(": ")[2] for one in told]
    assert any(one in refused.stderr for one in words), (words, refused.stderr)
    # Whoever has the settings may know more: he gets more words, of the same rules.
    how = ("--settings", guard.ca_file.parent / "settings.yaml", "--output", "json")
    admin = ("--kubeconfig", world.bed.kubeconfig())
    ready = run("readiness", f"{NAMESPACE}/gated", *how, *admin)
    assert ready.returncode == 1, ready.stderr
    (found,) = json.loads(ready.stdout)["plans"]
    findings = [*found["findings"], *(each for vm in found["vms"] for each in vm["findings"])]
    assert {one["rule"] for one in told} & {each["rule"] for each in findings}, (told, findings)


def test_right_again_is_told_too_and_each_once(world: World, vcsim: Vcsim, guard: Guard) -> None:
    vm = world.vm("DC0_H0_VM8", vcsim)
    planned(world, vm)
    for drift, reasons in (
        (move, ["ConversionWrong"]),
        (move_back, ["ConversionWrong", "ConversionRight"]),
    ):
        with vcsim.connect() as instance:
            drift(find_vm(instance, vm.name))
        for place, name in ((TARGET, "disk"), (NAMESPACE, "gated")):
            eventually(lambda: events(world, place, name) == reasons, str(reasons))  # noqa: B023
    assert right(world)
    assert right(world, PLANS)
    described = world.bed.kubectl("describe", "pvc", "disk", "-n", TARGET, check=True).stdout
    assert "ConversionRight" in described


def migrating(world: World, vm: Vm) -> None:
    """A Migration of it has begun, and nothing is wrong with it."""
    planned(world, vm)
    apply(world, migration())
    eventually(lambda: right(world, MIGRATIONS), "the Migration's report")


def converting(world: World, vm: Vm) -> None:
    """Forklift has come past its shutdown."""
    progress = {"vms": [{"id": vm.moref, "name": vm.name, "phase": "ConvertGuest", "pipeline": []}]}
    with world.bed.api.client() as client:
        set_status(client, plan_of(vm), {"migration": progress})


def test_a_migration_is_followed_until_its_vm_is_shut_down(
    world: World, vcsim: Vcsim, guard: Guard
) -> None:
    vm = world.vm("DC0_H0_VM9", vcsim)
    migrating(world, vm)
    with vcsim.connect() as instance:
        move(find_vm(instance, vm.name))
    eventually(lambda: not right(world, MIGRATIONS), "it is wrong")
    (wrong, *_) = report(world, MIGRATIONS)["results"]
    assert wrong["severity"] == "critical"
    another = merged(migration(), {"metadata": {"name": "another"}})
    refused = world.create(another, user="vendor")
    assert wrong["message"].partition(": ")[2] in refused.stderr, "the gate's own words"
    for name in ("start", "gated"):
        eventually(lambda: "ConversionWrong" in events(world, NAMESPACE, name), name)  # noqa: B023
    notes = [one["note"] for one in all_events(world, NAMESPACE) if "note" in one]
    assert any(note.startswith("Cancel it, which costs nothing now") for note in notes)
    converting(world, vm)
    eventually(lambda: right(world, MIGRATIONS), "what is shut down is proved no more")


def test_a_pod_that_stays_pending_with_the_vm_off_is_told(
    world: World, vcsim: Vcsim, guard: Guard
) -> None:
    vm = world.vm("DC0_H0_VM12", vcsim)
    migrating(world, vm)
    with vcsim.connect() as instance:
        power_off(find_vm(instance, vm.name))
    converting(world, vm)
    world.bed.add_pod(waiting_pod("young"), timedelta(minutes=4))
    world.bed.add_pod(waiting_pod("old"), timedelta(minutes=6))
    eventually(lambda: says(world, MIGRATIONS) == ["fail conversion-pod start"], "it is wrong")
    assert value(guard, 'conversion_guard_objects{kind="Migration",state="fail"}') == 1
    for name in ("start", "gated"):
        eventually(lambda: "ConversionWrong" in events(world, NAMESPACE, name), name)  # noqa: B023
    notes = [str(one.get("note")) for one in all_events(world, NAMESPACE)]
    (note,) = (note for note in notes if note.startswith("spec.plan: "))
    assert f'"{vm.name}" is off, and its conversion pod old has been Pending since 20' in note
    assert f"Z: {WAITS_FOR}. Forklift waits for ever" in note
    assert "Cancel it, which costs nothing now" not in str(notes)
    world.bed.kubectl("delete", "pod", "old", "-n", TARGET, "--grace-period=0", check=True)
    eventually(lambda: right(world, MIGRATIONS), "it waits no more")
    eventually(lambda: "ConversionRight" in events(world, NAMESPACE, "start"), "its Event")


WAITS_FOR = "0/3 nodes are available: 3 Insufficient memory"


def waiting_pod(name: str) -> dict[str, Any]:
    """A conversion pod that no node takes."""
    volume = {"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}
    unplaced = {"type": "PodScheduled", "status": "False", "message": WAITS_FOR}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": TARGET},
        "spec": {"containers": [{"name": "virt-v2v", "image": "virt-v2v"}], "volumes": [volume]},
        "status": {"phase": "Pending", "conditions": [unplaced]},
    }


def test_what_somebody_does_to_a_report_is_mended(world: World, vcsim: Vcsim, guard: Guard) -> None:
    vm = world.vm("DC0_H0_VM10", vcsim)
    apply(world, disk_of(vm, "disk"))
    eventually(lambda: right(world), "the report")
    before = report(world)
    edited = json.dumps({"summary": {"pass": 99}, "results": [{"policy": "x", "result": "fail"}]})
    kubectl = world.bed.kubectl
    kubectl("patch", KIND, PVC_REPORT, "-n", TARGET, "--type=merge", "-p", edited, check=True)
    eventually(lambda: report(world)["summary"] == before["summary"], "it is mended")
    assert report(world)["results"] == before["results"]
    kubectl("delete", KIND, PVC_REPORT, "-n", TARGET, check=True)
    eventually(lambda: report(world), "it is there again")


def test_where_nothing_changes_nothing_is_written(world: World, vcsim: Vcsim, guard: Guard) -> None:
    vm = world.vm("DC0_H0_VM11", vcsim)
    wrong = disk_of(vm, "disk")
    planned(world, vm)
    rests = version(world)
    for number in range(3):  # each is judged again, and none changes
        label = f"n{number}=x"
        world.bed.kubectl("label", "pvc", "disk", "-n", TARGET, label, check=True)
        world.bed.kubectl("label", "plan", "gated", "-n", NAMESPACE, label, check=True)
    # What comes after them is told: so they were looked at.
    wrong["metadata"]["name"] = "other"
    apply(world, {**wrong, "metadata": {**wrong["metadata"], "namespace": usual.TARGET}})
    other = f"{usual.TARGET}/{PVC_REPORT}"
    eventually(lambda: report(world, other), "the report of another namespace")
    assert version(world) == rests
    world.bed.empty(usual.TARGET, "PersistentVolumeClaim")
    eventually(lambda: not report(world, other), "it goes with the last PVC")


def version(world: World) -> list[str]:
    names = (f"{TARGET}/{PVC_REPORT}", PLANS)
    return [report(world, name)["metadata"]["resourceVersion"] for name in names]


def test_what_is_done_about_a_finding_is_told_as_it_changes(
    world: World, vcsim: Vcsim, guard: Guard
) -> None:
    vm = world.vm("DC0_H0_VM7", vcsim)
    file = guard.ca_file.parent / "settings.yaml"
    before = file.read_text()
    apply(world, disk_of(vm, "disk"))
    eventually(lambda: right(world), "the report")
    with vcsim.connect() as instance:
        move(find_vm(instance, vm.name))
    eventually(lambda: "fail pvc-disk-source disk" in says(world), "it is wrong")
    label = ("label", "namespace", TARGET)
    world.bed.kubectl(*label, f"{ENFORCE}=warn", check=True)
    eventually(lambda: "warn pvc-disk-source disk" in says(world), "the label lowers it")
    world.bed.kubectl(*label, f"{ENFORCE}-", check=True)
    eventually(lambda: "fail pvc-disk-source disk" in says(world), "without it as before")
    file.write_text(f"{before}\nrules: {{pvc-disk-source: audit}}\n")
    eventually(lambda: "warn pvc-disk-source disk" in says(world), "so do the settings")
    file.write_text(before)
    eventually(lambda: "fail pvc-disk-source disk" in says(world), "they are as before")
    with vcsim.connect() as instance:
        move_back(find_vm(instance, vm.name))
    eventually(lambda: right(world), "and right again")


def test_a_kind_that_is_added_later_and_one_that_is_better(
    world: World, vcsim: Vcsim, guard: Guard
) -> None:
    better = "reports.openreports.io"
    vm = world.vm("DC0_H0_VM11", vcsim)
    apply(world, disk_of(vm, "disk"))
    eventually(lambda: right(world), "the older kind")
    kubectl = world.bed.kubectl
    kubectl("apply", "--server-side", "-f", str(crd(better)), check=True)
    eventually(lambda: right(world, kind=better), "the better kind")
    eventually(lambda: not reports(world), "the older ones are taken away")
    kubectl("delete", "crd", better, check=True)
    eventually(lambda: right(world), "the older kind again")
    kubectl("delete", "crd", KIND, check=True)
    eventually(lambda: guard.told("no reports are written: the cluster has no"), "it says so")
    with vcsim.connect() as instance:
        move(find_vm(instance, vm.name))
    eventually(lambda: events(world, TARGET, "disk") == ["ConversionWrong"], "Events go on")
    kubectl("apply", "--server-side", "-f", str(crd(KIND)), check=True)
    eventually(lambda: "fail pvc-disk-source disk" in says(world), "one that is added is picked up")
    assert len(guard.told("no reports are written: the cluster has no")) == 1


def test_without_the_right_to_reports_the_rest_goes_on(
    world: World, vcsim: Vcsim, guard: Guard
) -> None:
    role = MANIFESTS / "base" / "cluster-role.yaml"
    first, *_ = yaml.safe_load_all(role.read_text())
    kinds = {"reports", "policyreports"}
    less = [rule for rule in first["rules"] if not kinds & set(rule["resources"])]
    patch = json.dumps({"rules": less})
    kubectl = world.bed.kubectl
    kubectl("patch", "clusterrole", OWN, "--type=merge", "-p", patch, check=True)
    try:
        says_so = "no reports are written: the API server answers 403"
        eventually(lambda: guard.told(says_so), "it says so")
        vm = world.vm("DC0_H0_VM7", vcsim)
        apply(world, disk_of(vm, "disk"))
        metric = 'conversion_guard_objects{kind="PersistentVolumeClaim",state="warn"}'
        eventually(lambda: value(guard, metric) == 1, "it is judged")
    finally:
        kubectl("apply", "-f", str(role), check=True)
    eventually(lambda: right(world), "the right is back")


def test_a_namespace_that_is_deleted_meanwhile_keeps_nobody_waiting(
    world: World, vcsim: Vcsim, guard: Guard
) -> None:
    doomed, kubectl = "doomed", world.bed.kubectl
    kubectl("create", "namespace", doomed, check=True)
    vm = world.vm("DC0_H0_VM11", vcsim)
    apply(world, merged(disk_of(vm, "disk"), {"metadata": {"namespace": doomed}}))
    place = f"{doomed}/{PVC_REPORT}"
    eventually(lambda: report(world, place), "the report")
    # No controller deletes here what is in it: this is its first step, and the test does the rest.
    kubectl("delete", "namespace", doomed, "--wait=false", check=True)
    kubectl("delete", KIND, PVC_REPORT, "-n", doomed, check=True)
    refused = f"reports of {doomed} are not written: the API server answers 403"
    eventually(lambda: guard.told(refused), "it may not write it again")
    apply(world, disk_of(vm, "disk"))
    eventually(lambda: right(world), "others are told of")
    world.bed.empty(doomed, "PersistentVolumeClaim")
    metric = 'conversion_guard_objects{kind="PersistentVolumeClaim",state="warn"}'
    eventually(lambda: value(guard, metric) == 1, "it is forgotten")
    assert not report(world, place)
    with world.bed.api.client() as api:
        named = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": doomed}}
        api.put(f"/api/v1/namespaces/{doomed}/finalize", json={**named, "spec": {"finalizers": []}})
    eventually(lambda: kubectl("get", "namespace", doomed).returncode == 1, "it is gone")
    assert len(guard.told(refused)) == 1, "said once"


def test_another_replica_takes_over_and_says_nothing_twice(
    world: World, vcsim: Vcsim, guard: Guard
) -> None:
    """The last with this guard, which it kills."""
    vm = world.vm("DC0_H0_VM3", vcsim)
    with watching(world, vcsim) as second:
        apply(world, disk_of(vm, "disk"))
        eventually(lambda: right(world), "the report")
        with vcsim.connect() as instance:
            move(find_vm(instance, vm.name))
        eventually(lambda: says(world), "it is wrong")
        eventually(lambda: events(world, TARGET, "disk"), "the Event")
        stands = report(world)["metadata"]["resourceVersion"]
        assert not second.told("this replica watches")
        guard.process.kill()
        eventually(lambda: second.told("this replica watches"), "the second takes over")
        metric = 'conversion_guard_objects{kind="PersistentVolumeClaim",state="fail"}'
        eventually(lambda: value(second, metric) == 1, "it has judged all")
        assert report(world)["metadata"]["resourceVersion"] == stands
        with vcsim.connect() as instance:
            move_back(find_vm(instance, vm.name))
        eventually(lambda: right(world), "and goes on")
        told = ["ConversionWrong", "ConversionRight"]
        eventually(lambda: events(world, TARGET, "disk")[-1:] == told[-1:], "its Event")
        assert events(world, TARGET, "disk") == told
        world.bed.empty(TARGET, "PersistentVolumeClaim")
        eventually(lambda: not reports(world), "the report goes")


def all_right(world: World, guard: Guard) -> bool:
    """Whether the ten PVCs and the ten Plans are, but for warnings."""
    for kind, place in (("PersistentVolumeClaim", f"{TARGET}/{PVC_REPORT}"), ("Plan", PLANS)):
        metric = f'conversion_guard_objects{{kind="{kind}",state="%s"}}'
        found = {word: value(guard, metric % word) for word in ("pass", "warn", "fail", "error")}
        assert found["pass"] + found["warn"] == 10, (found, says(world, place))
    return True


def of_vcenter(number: int, vm: Vm) -> tuple[dict[str, Any], dict[str, Any]]:
    """A right PVC and a Plan of this VM."""
    source = {"name": f"vcenter-{number}", "namespace": NAMESPACE}
    plan = plan_of(vm, provider={"source": source})
    return disk_of(vm, f"disk-{number}"), merged(plan, {"metadata": {"name": f"plan-{number}"}})


def test_of_ten_vcenters_one_is_away(
    world: World, guard: Guard, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nobody's are the same VMs: those of the one that is away are in no other."""
    guard.process.kill()
    away = world.bed.add_vcsim(hosts=2)
    others = [world.bed.add_vcsim(vms=1) for _ in range(9)]
    for number, other in enumerate(others, 1):
        with other.connect() as instance:
            vm = find_vm(instance, "DC0_H0_VM0")
            set_uuid(vm, f"42000000-0000-4000-8000-{number:012}")
    vcenters = [away, *others]
    vms = [world.vm("DC0_H1_VM0", away), *(world.vm("DC0_H0_VM0", one) for one in others)]
    providers = [
        one.as_provider(NAMESPACE, f"vcenter-{number}", tmp_path_factory.mktemp("vcenter"))
        for number, one in enumerate(vcenters)
    ]
    with watching(world, away, providers=providers) as guard:
        eventually(lambda: guard.told("this replica watches"), "it holds the Lease")
        for number, vm in enumerate(vms):
            pvc, plan = of_vcenter(number, vm)
            apply(world, pvc, plan)
            bind(world, f"disk-{number}")
            made_ready(world, plan)
        eventually(lambda: all_right(world, guard), "all are right")
        away.stop()
        eventually(lambda: "error undecided plan-0" in says(world, PLANS), "it can't be judged")
        (told,) = (one for one in report(world, PLANS)["results"] if one["result"] == "error")
        assert f"provider {NAMESPACE}/vcenter-0 has been unreachable since" in told["message"]
        with others[0].connect() as instance:
            move(find_vm(instance, "DC0_H0_VM0"))
        eventually(lambda: events(world, NAMESPACE, "plan-1") == ["ConversionWrong"], "told")
        assert not [line for line in says(world, PLANS) if line.startswith("error")][1:]
        assert not events(world, NAMESPACE, "plan-0"), "nothing new is known of it"
        away.start()
        eventually(lambda: "error undecided plan-0" not in says(world, PLANS), "it is back")
        eventually(lambda: "fail pvc-disk-source disk-1" in says(world), "that is certain now")
        wrong = [line for line in says(world, PLANS) if not line.startswith("warn")]
        assert {line.rpartition(" ")[2] for line in wrong} == {"plan-1"}
        assert not events(world, NAMESPACE, "plan-0")
        world.bed.empty(NAMESPACE, "Plan")
        world.bed.empty(TARGET, "PersistentVolumeClaim")
        eventually(lambda: not reports(world), "the reports go")
    for one in vcenters:
        one.stop()


def test_it_can_be_turned_off(world: World, vcsim: Vcsim) -> None:
    vm = world.vm("DC0_H0_VM7", vcsim)
    with watching(world, vcsim, audit={"enabled": False}) as guard:
        apply(world, disk_of(vm, "disk"))
        assert "conversion_guard_objects{" not in guard.metrics()
        assert not reports(world)
    lease = ("get", "lease", "conversion-guard-audit", "-n", OWN, "-o", "json")
    held = json.loads(world.bed.kubectl(*lease, check=True).stdout)["spec"]
    assert not held.get("holderIdentity"), "who ended gave it up"
