"""The commands by kubectl's habits: its letters, its plugins, completion, and a guard's API."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import run
from tests.test_api import SNAPSHOT, Api, serving
from tests.test_cli_check import RIGHT, WRONG
from webhook.manifests import files

ROOT = Path(__file__).parents[1]
HERE = ("--snapshot", str(SNAPSHOT))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, list[str | Path]]]:
    folder = tmp_path_factory.mktemp("api")
    with serving(folder) as api:
        (folder / "token").write_text("token-all")
        how: list[str | Path] = ["--token-file", folder / "token", "--ca-file", api.guard.ca_file]
        yield api, ["--server", api.guard.api_url, *how]


def test_each_command_tells_its_help_by_one_letter() -> None:
    for command in ([], ["check"], ["audit"], ["doctor"], ["inventory", "list"], ["render"]):
        done = run(*command, "-h")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Usage: ")


def test_files_and_output_by_their_letters_and_json_for_a_person(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(RIGHT)
    (tmp_path / "b.yaml").write_text(WRONG.replace("namespace: vms", ""))
    done = run(
        "check", "-f", tmp_path / "a.yaml", "-f", tmp_path / "b.yaml", "-n", "vms", "-o", "json",
        *HERE,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert [one["verdict"] for one in json.loads(done.stdout)["results"]] == ["admitted", "denied"]
    assert done.stdout.startswith('{\n  "results": [\n    {\n')
    assert run("check", *HERE).returncode == 2, "no file at all"


def test_the_providers_of_one_namespace_or_of_all() -> None:
    def listed(*args: str) -> list[str]:
        done = run("inventory", "list", *HERE, "-o", "json", *args)
        assert done.returncode == 0, done.stderr
        return [one["name"] for one in json.loads(done.stdout)["providers"]]

    everything = listed("-A")
    assert everything == listed("-n", "openshift-mtv") == listed()
    assert listed("-n", "openshift-mtv", "--provider", "openstack-lab") == everything[:1]
    for wrong in (
        ["-n", "vms"],
        ["-n", "vms", "-A"],
        ["-n", "vms", "--provider", "openshift-mtv/openstack-lab"],
    ):
        done = run("inventory", "list", *HERE, *wrong)
        assert (done.returncode, done.stdout) == (2, ""), done


def test_a_guards_api_tells_the_same_as_the_inventory_itself(
    asked: tuple[Api, list[str | Path]],
) -> None:
    _, there = asked
    for command in (
        ["inventory", "list", "-o", "json"],
        ["inventory", "list", "--name", "PRODUCTION"],
        ["inventory", "list", "--provider", "openshift-mtv/vsphere-production"],
        ["inventory", "show", "production-database", "-o", "yaml"],
        ["inventory", "show", "/DC0/vm/production-database"],
        ["inventory", "show", "vm-180"],
        ["render", "vm-178", "-n", "vms", "--plan", "networks"],
        ["render", "production-webserver", "-n", "vms", "--storage-class", "fast", "-o", "json"],
    ):
        by_api, by_file = run(*command, *there), run(*command, *HERE)
        assert (by_api.returncode, by_api.stderr) == (0, ""), command
        assert by_api.stdout == by_file.stdout, command


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["show", "vm-999"], 'has a VM "vm-999"'),
        (["show", "production-databse"], "inventory list"),
        (["list", "--provider", "a/b"], 'provider "a/b" is not known: choose one of'),
        (["list", *HERE], "leave out --snapshot"),
    ],
)
def test_what_the_api_doesnt_know_is_one_line(
    asked: tuple[Api, list[str | Path]], args: list[str], said: str
) -> None:
    done = run("inventory", *args, *asked[1])
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def completed(*words: str | Path) -> list[str]:
    """What kubectl is told after TAB."""
    program = "from webhook.cli.complete import main; main()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    *offered, directive = done.stdout.splitlines()
    assert directive == ":0"
    return [word for word in offered if word]


def test_names_are_offered_after_tab(asked: tuple[Api, list[str | Path]], tmp_path: Path) -> None:
    vms = ["production-database", "production-webserver"]
    provider = ["openshift-mtv/vsphere-production"]
    config = tmp_path / "kubeconfig"
    config.write_text("contexts: [{name: lab}, {name: live}, {name: other}]\n")
    for there in (HERE, asked[1]):
        assert completed("inventory", "show", *there, "prod") == vms
        assert completed("render", *there, "--provider", *provider, "prod") == vms
        assert completed("inventory", "list", *there, "--provider", "openshift-mtv/v") == provider
    assert completed("doctor", "--kubeconfig", config, "--context", "l") == ["lab", "live"]
    assert "inventory" in completed("")
    assert completed("inventory", "show", "--snapshot", tmp_path / "no", "x") == []


def test_kubectl_finds_the_plugin_and_its_completion() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["kubectl-conversion_guard"] == scripts["conversion-guard"]
    program = "import sys; sys.argv[0] = '/bin/kubectl-conversion_guard'; "
    done = subprocess.run(
        [sys.executable, "-c", f"{program}from webhook.cli import main; main()", "-h"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("Usage: kubectl conversion-guard ")
    assert "kubectl_complete-conversion_guard" in scripts


def test_render_by_the_letters(tmp_path: Path) -> None:
    done = run("render", "vm-179", "-n", "vms", "-o", "json", *HERE)
    assert done.returncode == 0, done.stderr
    (listed,) = (one.object for one in files.documents(done.stdout.encode(), "-"))
    assert listed["items"][0]["metadata"]["namespace"] == "vms"
