"""The commands against a real API server and vCenter."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from tests.command import run
from tests.e2e.bed import GUARD, eventually
from tests.e2e.world import ROOT, TARGET, World
from webhook.manifests import files

pytestmark = pytest.mark.e2e


def test_what_is_rendered_from_the_clusters_provider_is_admitted_by_the_guard(
    world: World, settings: Path
) -> None:
    vm = world.vm("DC0_H0_VM0")
    made = run(
        "render", vm.name, "--namespace", TARGET, "--settings", settings, "--plan", "networks"
    )
    assert made.returncode == 0, made.stderr
    objects = [one.object for one in files.documents(made.stdout.encode(), "-")]
    sources = {"forklift.konveyor.io/disk-source": vm.files[0]}
    assert objects[0]["metadata"]["annotations"] == sources
    with world.guarded():
        applied = world.bed.kubectl("apply", "-f", "-", stdin=made.stdout)
        assert applied.returncode == 0, applied.stderr
        warned = [line for line in applied.stderr.splitlines() if "plan-guest-tools" not in line]
        assert warned == []  # the simulator's guests have no Tools
        for obj in objects:
            place, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
            world.bed.kubectl("delete", obj["kind"], name, "-n", place, "--wait=false", check=True)


def test_the_clusters_providers_are_listed_shown_and_exported(
    world: World, settings: Path, tmp_path: Path
) -> None:
    vm = world.vm("DC0_H0_VM0")
    listed = run("inventory", "list", "--settings", settings, "--output", "json")
    assert listed.returncode == 0, listed.stderr
    (provider,) = json.loads(listed.stdout)["providers"]
    assert vm.moref in [found["moref"] for found in provider["vms"]]
    snapshot = tmp_path / "snapshot.json"
    done = run("inventory", "export", "--settings", settings, "--output", snapshot)
    assert done.returncode == 0, done.stderr
    shown = run("inventory", "show", vm.moref, "--snapshot", snapshot, "--output", "json")
    assert [disk["file"] for disk in json.loads(shown.stdout)["disks"]] == vm.files


def test_a_cluster_is_named_as_kubectl_names_it(
    world: World, settings: Path, tmp_path: Path
) -> None:
    vm = world.vm("DC0_H0_VM0")
    bare = tmp_path / "bare.yaml"
    bare.write_text("deniedNetworks: []\n")  # the simulator is on loopback
    there: list[str | Path] = ["--kubeconfig", world.bed.kubeconfig(), "--settings", bare]
    (context,) = yaml.safe_load(world.bed.kubeconfig().read_text())["contexts"]
    listed = run("inventory", "list", *there, "-o", "json")
    assert listed.returncode == 0, listed.stderr
    for command in (
        ["inventory", "show", vm.name],
        ["inventory", "export", "-o", tmp_path / "snapshot.yaml"],
        ["render", vm.name, "-n", TARGET],
    ):
        done = run(*command, *there, "--context", context["name"])
        assert done.returncode == 0, done.stderr
    assert run("inventory", "list", *there, "--context", "none").returncode == 2


def test_kubectl_runs_it_as_its_plugin(world: World) -> None:
    scripts = str(Path(sys.executable).parent)
    if shutil.which("kubectl-conversion_guard", path=scripts) is None:
        pytest.fail("the environment is older than pyproject.toml: make install")
    snapshot = "webhook/cli/demo/inventory.yaml"
    path = f"PATH={scripts}:$PATH"
    version = world.bed.shell(f"{path} kubectl conversion-guard --version", ROOT)
    assert version.stdout.startswith("conversion-guard "), version
    words = f"conversion-guard inventory show --snapshot {snapshot} production-d"
    offered = world.bed.shell(f"{path} kubectl __complete {words}", ROOT)
    assert offered.stdout.splitlines()[0] == "production-database", offered


def test_doctor_asks_whether_it_is_enforcing_right_now(world: World) -> None:
    def enforcing() -> tuple[str, str]:
        done = run("doctor", "--kubeconfig", world.bed.kubeconfig(), "-o", "json")
        last = json.loads(done.stdout)["findings"][-1]
        assert last["area"] == "enforcing"
        return last["state"], last["what"]

    label = ("label", "namespace", "default", "--overwrite")
    with world.guarded(kubeconfig=str(world.bed.kubeconfig(GUARD))):
        assert enforcing()[0] == "good"
        world.bed.kubectl(*label, "conversion-guard.io/enforce=warn", check=True)
        eventually(lambda: enforcing()[0] == "note", "it is only warned of")
        world.bed.kubectl(*label, "conversion-guard.io/enforce-", check=True)
        eventually(lambda: enforcing()[0] == "good", "it is denied again")
    state, what = enforcing()
    assert (state, "can't call the guard" in what) == ("wrong", True)
    both = "validatingwebhookconfiguration,mutatingwebhookconfiguration"
    world.bed.kubectl("delete", both, "conversion-guard", check=True)
    state, what = enforcing()
    assert (state, "is admitted without a word" in what) == ("wrong", True)
