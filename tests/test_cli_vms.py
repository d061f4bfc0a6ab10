"""`render`, `inventory list` and `inventory show`, as a person runs them."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.command import COMMAND
from webhook.cli.known import snapshot_of
from webhook.manifests import files

SNAPSHOT = Path(__file__).parents[1] / "webhook/cli/demo/inventory.yaml"


def run(
    *args: str | Path, given: str = "", snapshot: bool = True
) -> subprocess.CompletedProcess[str]:
    where: list[str | Path] = ["--snapshot", SNAPSHOT] if snapshot else []
    return subprocess.run(
        [*COMMAND, *args, *where],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("CONVERSION_GUARD_")},
    )


@pytest.mark.parametrize("vm", ["vm-178", "production-database", "vm/production-database"])
@pytest.mark.parametrize("output", ["yaml", "json"])
def test_what_is_rendered_passes_check(vm: str, output: str) -> None:
    made = run("render", vm, "--namespace", "vms", "--plan", "networks", "--output", output)
    assert (made.returncode, made.stderr) == (0, "")
    done = run("check", "-", "--output", "json", given=made.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    results = json.loads(done.stdout)["results"]
    assert [(result["kind"], result["verdict"], result["patch"]) for result in results] == [
        ("PersistentVolumeClaim", "admitted", []),
        ("PersistentVolumeClaim", "admitted", []),
        ("Plan", "admitted", []),
    ]


def test_the_options_are_in_the_manifests() -> None:
    options = [
        "--storage-class", "fast", "--volume-mode", "Filesystem", "--access-mode",
        "ReadWriteOncePod", "--name", "{moref}-{index}",
    ]  # fmt: skip
    made = run("render", "vm-179", "--namespace", "there", *options)
    (pvc,) = [one.object for one in files.documents(made.stdout.encode(), "-")]
    assert (pvc["metadata"]["name"], pvc["metadata"]["namespace"]) == ("vm-179-0", "there")
    assert pvc["spec"] == {
        "accessModes": ["ReadWriteOncePod"],
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": "43418Mi"}},
        "storageClassName": "fast",
    }


def test_a_disk_without_a_pvc_is_named_and_is_a_finding(tmp_path: Path) -> None:
    snapshot = tmp_path / "s.yaml"
    text = SNAPSHOT.read_text().replace("capacity: 21474836480", "capacity: 1, backing: SeSparse")
    snapshot.write_text(text)
    done = run("render", "vm-178", "--namespace", "vms", "--snapshot", snapshot, snapshot=False)
    assert done.returncode == 1
    why = "Forklift does not list a disk that is backed by SeSparse"
    assert f'vm-disk-002.vmdk": {why}' in done.stderr
    assert done.stdout.count("PersistentVolumeClaim") == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["production-databse"], 'did you mean vm-178 ("production-database")?'),
        (["zzz"], "see `conversion-guard inventory list`"),
        (["golden-image"], "is a template"),
        (["vm-178", "--provider", "a/b"], "choose one of openshift-mtv/vsphere-production"),
        (["vm-178", "--name", "{x}"], "is not one of {vm}, {moref}, {index}"),
        (["vm-178", "--access-mode", "x"], "'x' is none of ReadWriteMany"),
    ],
)
def test_what_cant_be_rendered_is_one_line_and_exit_code_2(args: list[str], said: str) -> None:
    done = run("render", *args, "--namespace", "vms")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_snapshot_is_written_again_as_it_is(tmp_path: Path) -> None:
    """`export` reads where `list` and `show` do: YAML becomes JSON, which is read faster."""
    for file, read in ("one.json", SNAPSHOT), ("two.yaml", tmp_path / "one.json"):
        done = run("inventory", "export", "-o", tmp_path / file, "--snapshot", read, snapshot=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    known = [snapshot_of(file) for file in (SNAPSHOT, tmp_path / "one.json", tmp_path / "two.yaml")]
    first, *others = [[(one.name, list(one.vms)) for one in all_of] for all_of in known]
    assert others == [first, first]
    assert (tmp_path / "one.json").read_bytes().startswith(b"{")


def test_nowhere_to_look_is_said() -> None:
    done = run("inventory", "list", snapshot=False)
    assert done.returncode == 2
    assert "--snapshot FILE or --settings FILE" in done.stderr


def test_the_vms_are_listed_by_name() -> None:
    done = run("inventory", "list", "--name", "PRODUCTION", "--output", "json")
    other, vsphere = json.loads(done.stdout)["providers"]
    assert [vm["moref"] for vm in vsphere["vms"]] == ["vm-178", "vm-179"]
    assert (vsphere["type"], other["type"], other["vms"]) == ("vsphere", "openstack", [])
    table = run("inventory", "list", "--provider", "openshift-mtv/vsphere-production").stdout
    assert "vm-181  golden-image           poweredOff  yes       1" in table
    assert "openstack" not in table


def test_a_vms_disks_are_shown_with_their_exact_sources() -> None:
    done = run("inventory", "show", "vm-180", "--output", "yaml")
    (shown,) = [one.object for one in files.documents(done.stdout.encode(), "-")]
    assert [disk["diskSource"] for disk in shown["disks"]] == [
        "[vendor-ds] vendor-migrated-vm-01/disk.vmdk",
        "[fast-ds] vendor-migrated-vm-01/log.vmdk",
        "[vendor-ds] vendor-migrated-vm-01/log.vmdk",
    ]
    assert "[fast-ds] vendor-migrated-vm-01/log.vmdk " in run("inventory", "show", "vm-180").stdout
