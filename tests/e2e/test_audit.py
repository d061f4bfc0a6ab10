"""`conversion-guard audit`, and `check` with a cluster behind it, on the real API server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree

import pytest

from tests.cases import NAMESPACE, VSPHERE
from tests.command import run
from tests.e2e.test_providers import SECRET, provider, secret
from tests.e2e.test_scenarios import GUIDES_PLAN, claim, plan
from tests.e2e.world import Vm, World
from webhook.cli.demo import merged
from webhook.manifests import files

pytestmark = pytest.mark.e2e

PLACE = "audited"


@pytest.fixture(scope="module")
def vm(world: World) -> Vm:
    world.bed.kubectl("create", "namespace", PLACE, check=True)
    return world.vm("DC0_H0_VM0")


@pytest.fixture(autouse=True)
def clean(world: World, vm: Vm) -> Iterator[None]:
    """Nobody guards this bed now, so whatever a test makes is taken."""
    configurations = "validatingwebhookconfigurations,mutatingwebhookconfigurations"
    world.bed.kubectl("delete", configurations, "--all", check=True)
    yield
    world.bed.empty(NAMESPACE, "Migration", "Plan", "Conversion")
    world.bed.empty(PLACE, "PersistentVolumeClaim")


def disk_of(vm: Vm, name: str, **labels: str) -> dict[str, Any]:
    change = {"metadata": {"namespace": PLACE, "labels": labels}}
    return merged(claim(name, vm), change)


def plan_of(vm: Vm) -> dict[str, Any]:
    entries = [{"id": vm.moref, "name": vm.name}]
    source = {"source": {"name": VSPHERE, "namespace": NAMESPACE}}
    spec = {"targetNamespace": PLACE, "vms": entries, "provider": source}
    spec |= {"targetPowerState": "on", "map": {"storage": {}}}
    return merged(plan(GUIDES_PLAN, vm), {"metadata": {"name": "audited"}, "spec": spec})


def migration() -> dict[str, Any]:
    return {
        "apiVersion": "forklift.konveyor.io/v1beta1",
        "kind": "Migration",
        "metadata": {"name": "started", "namespace": NAMESPACE},
        "spec": {"plan": {"name": "audited", "namespace": NAMESPACE}},
    }


def make(world: World, *objects: dict[str, Any]) -> None:
    for obj in objects:
        done = world.create(obj)
        assert done.returncode == 0, done.stderr


def audited(world: World, settings: Path, *args: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = run("audit", "--settings", settings, "--namespace", PLACE, "--output", "json", *args)
    assert done.stderr == ""
    results = json.loads(done.stdout)["results"]
    return done.returncode, {f"{one['kind']} {one['name']}": one for one in results}


def test_what_came_past_the_guard_is_found(world: World, vm: Vm, settings: Path) -> None:
    lost = merged(disk_of(vm, "lost"), {"metadata": {"labels": {"vmID": "vm-9999"}}})
    make(world, disk_of(vm, "right"), lost, plan_of(vm), migration())
    code, found = audited(world, settings)
    assert code == 1
    assert found["PersistentVolumeClaim right"]["verdict"] == "admitted"
    lies = found["PersistentVolumeClaim lost"]["findings"]
    assert [f["rule"] for f in lies if f["action"] == "deny"] == ["pvc-vm"]
    # Nothing binds a PVC on this bed, and a Plan that runs is judged as its Migration is.
    for running in ("Plan audited", "Migration started"):
        assert found[running]["verdict"] == "denied"
        assert "not bound to a volume" in str(found[running]["findings"])


def test_where_all_is_right_it_says_so_and_ends_with_0(
    world: World, vm: Vm, settings: Path
) -> None:
    make(world, disk_of(vm, "right"), plan_of(vm))
    done = run("audit", "--settings", settings, "--namespace", PLACE)
    assert (done.returncode, done.stderr) == (0, "")
    last = done.stdout.splitlines()[-1]
    assert last == "1 PersistentVolumeClaim: 1 admitted; 1 Plan: 1 admitted"


def test_a_mark_that_no_migration_stands_behind_is_named_and_the_pvc_judged(
    world: World, vm: Vm, settings: Path
) -> None:
    make(world, plan_of(vm), migration())
    kubectl = world.bed.kubectl
    uid = kubectl(
        "get", "migration", "started", "-n", NAMESPACE, "-o", "jsonpath={.metadata.uid}"
    ).stdout
    stray = str(uuid4())
    make(
        world,
        disk_of(vm, "owned", migration=uid, vmID="vm-9999"),
        disk_of(vm, "forged", migration=stray, vmID="vm-9999"),
        disk_of(vm, "prime-of-nothing", vmID="vm-9999", vmUUID=""),
    )
    _, found = audited(world, settings)
    owned, forged = found["PersistentVolumeClaim owned"], found["PersistentVolumeClaim forged"]
    assert (owned["verdict"], owned["notes"]) == ("skipped", [])
    assert forged["verdict"] == "denied"
    assert f'"{stray}", which is not the uid of any Migration' in forged["notes"][0]["message"]
    assert "no PVC has that uid" in str(found["PersistentVolumeClaim prime-of-nothing"]["notes"])


def test_a_vcenter_out_of_reach_leaves_undecided_what_may_be_its_own(
    world: World, vm: Vm, settings: Path
) -> None:
    right = disk_of(vm, "right")
    make(world, right, disk_of(vm, "whose", vmID="vm-9999"))
    dead = [secret("dead-credentials", SECRET), provider("dead", "https://127.0.0.1:1/sdk")]
    make(world, *dead)
    named = "--settings", settings, "--namespace", PLACE
    done = run("audit", *named, "--output", "json")
    world.bed.kubectl("delete", "provider", "dead", "-n", NAMESPACE, check=True)
    world.bed.kubectl("delete", "secret", "dead-credentials", "-n", NAMESPACE, check=True)
    assert done.returncode == 1
    assert f"conversion-guard: provider {NAMESPACE}/dead has been unreachable since" in done.stderr
    verdicts = {one["name"]: one["verdict"] for one in json.loads(done.stdout)["results"]}
    assert verdicts == {"right": "admitted", "whose": "undecided"}


def test_junit_names_each_object_for_a_pipeline(world: World, vm: Vm, settings: Path) -> None:
    make(world, disk_of(vm, "right"), disk_of(vm, "twice"))
    done = run("audit", "--settings", settings, "--namespace", PLACE, "--output", "junit")
    suite = ElementTree.fromstring(done.stdout)  # noqa: S314  our own
    assert (done.returncode, suite.get("tests"), suite.get("failures")) == (1, "2", "2")


def test_it_asks_as_kubectl_does_and_by_a_snapshot_where_one_is_given(
    world: World, vm: Vm, settings: Path, tmp_path: Path
) -> None:
    make(world, disk_of(vm, "right"))
    snapshot = tmp_path / "snapshot.json"
    exported = run("inventory", "export", "--settings", settings, "--output", snapshot)
    assert exported.returncode == 0, exported.stderr
    for env in (
        {"KUBECONFIG": str(world.bed.kubeconfig())},
        {"KUBECONFIG": "/nowhere", "HOME": str(home(world, tmp_path))},
    ):
        named = ["--kubeconfig", str(world.bed.kubeconfig())] if "HOME" in env else []
        done = run("audit", "--snapshot", snapshot, "--namespace", PLACE, *named, env=env)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    done = run("audit", "--snapshot", snapshot, env={"HOME": str(home(world, tmp_path))})
    assert done.returncode in (0, 1), done.stderr  # whatever other tests have left in the cluster
    assert "PersistentVolumeClaim" in done.stdout


def home(world: World, folder: Path) -> Path:
    (folder / ".kube").mkdir(exist_ok=True)
    (folder / ".kube" / "config").write_text(world.bed.kubeconfig().read_text())
    return folder


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--kubeconfig", "/nowhere"], "kubeconfig /nowhere: "),
        (["--context", "elsewhere"], "elsewhere"),
    ],
)
def test_a_cluster_that_cant_be_had_is_2_and_named(
    settings: Path, args: list[str], said: str
) -> None:
    done = run("audit", "--settings", settings, *args)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_who_may_not_list_is_told_what(world: World, settings: Path) -> None:
    kubeconfig = str(world.bed.kubeconfig("viewer"))
    done = run("audit", "--settings", settings, "--kubeconfig", kubeconfig)
    assert done.returncode == 2
    assert "answers 403 to GET /apis/storage.k8s.io/v1/storageclasses" in done.stderr


def test_check_counts_in_what_the_cluster_has(world: World, vm: Vm, settings: Path) -> None:
    make(world, disk_of(vm, "there"))
    given = files.write([disk_of(vm, "again"), plan_of(vm)])
    done = run("check", "-", "--settings", settings, "--output", "json", given=given)
    assert done.returncode == 1, done.stderr
    pvc, plan = json.loads(done.stdout)["results"]
    assert [f["rule"] for f in pvc["findings"] if f["action"] == "deny"] == ["pvc-disk-claimed"]
    assert 'PVC "there"' in pvc["findings"][0]["message"]
    assert (plan["verdict"], plan["notes"]) == ("admitted", [])
