"""The commands against a real API server and vCenter."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cases import NAMESPACE, VSPHERE
from tests.e2e.world import TARGET, World
from webhook import manifests

pytestmark = pytest.mark.e2e


def run(*args: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "webhook", *args],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("CONVERSION_GUARD_")},
    )


@pytest.fixture
def settings(world: World, tmp_path: Path) -> Iterator[Path]:
    """By which the guard finds its vCenter in the cluster, and nowhere else."""
    values = {
        "user": world.vcsim.user,
        "password": world.vcsim.password,
        "ca.crt": world.vcsim.ca_file.read_text(),
    }
    metadata = {"name": VSPHERE, "namespace": NAMESPACE}
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "data": {key: base64.b64encode(text.encode()).decode() for key, text in values.items()},
        },
        {
            "apiVersion": "forklift.konveyor.io/v1beta1",
            "kind": "Provider",
            "metadata": metadata,
            "spec": {"type": "vsphere", "url": world.vcsim.url, "secret": metadata},
        },
    ]
    for obj in objects:
        world.bed.kubectl("apply", "-f", "-", stdin=json.dumps(obj), check=True)
    file = tmp_path / "settings.yaml"
    chosen = {
        "kubeconfig": str(world.bed.kubeconfig()),
        "providerNamespaces": [NAMESPACE],
        "deniedNetworks": [],
    }
    file.write_text(json.dumps(chosen))
    yield file
    # Every guard of this bed would find them.
    names = [f"provider/{VSPHERE}", f"secret/{VSPHERE}"]
    world.bed.kubectl("delete", *names, "-n", NAMESPACE, check=True)


def test_what_is_rendered_from_the_clusters_provider_is_admitted_by_the_guard(
    world: World, settings: Path
) -> None:
    vm = world.vm("DC0_H0_VM0")
    made = run(
        "render", vm.name, "--namespace", TARGET, "--settings", settings, "--plan", "networks"
    )
    assert made.returncode == 0, made.stderr
    objects = [one.object for one in manifests.parse(made.stdout.encode(), "-")]
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
