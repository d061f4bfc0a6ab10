"""The runbook at night: its commands work as they stand there, and do what it says of them."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cases import BASE, NAMESPACE
from tests.e2e.bed import Bed, eventually
from tests.e2e.parts import Parts
from tests.e2e.test_gate import plan_of
from tests.e2e.test_install_guide import BLOCK, GUIDE, runs
from tests.e2e.test_overlays import crds_of_cert_manager
from tests.e2e.test_scenarios import claim
from tests.e2e.world import MANIFESTS, OWN_CRDS, ROOT, TARGET, World
from webhook.cli.demo import merged

pytestmark = pytest.mark.e2e

PAGES = [*sorted((ROOT / "docs" / "runbook").iterdir()), ROOT / "docs" / "runbook.md"]
"""The last one ends with its removal."""
COMMANDS = [
    " ".join(command.split())
    for command in dict.fromkeys(
        command
        for page in PAGES
        for command in re.findall(r"^kubectl .*$|(?<=`)kubectl [^`]+(?=`)", page.read_text(), re.M)
    )
]
IMAGE = "registry.example.com/conversion-guard:0.1.0"
NO_PODS = ("logs deployment/",)
"""What this bed has no controllers for."""


@pytest.fixture
def bed(programs: Parts) -> Iterator[Bed]:
    with Bed(vcsims=1, programs=programs) as bed:
        bed.install_crds(OWN_CRDS)
        for namespace in (NAMESPACE, TARGET):
            bed.kubectl("create", "namespace", namespace, check=True)
        yield bed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where docs/install.md was followed."""
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    (tmp_path / "my-cluster").mkdir()
    for _, text in BLOCK.findall(GUIDE.read_text()):
        name = text.partition("\n")[0].removeprefix("# ")
        if name.startswith("my-cluster/"):
            (tmp_path / name).write_text(text)
    return tmp_path


def _run(
    bed: Bed, command: str, folder: Path = ROOT, **places: str
) -> "subprocess.CompletedProcess[str]":
    """As an operator types it, with his own names in place of the capitals."""
    for place, name in places.items():
        command = re.sub(rf"\b{place}\b", name, command)
    # No controller of this bed ends a namespace.
    command = command.replace("kubectl delete -k", "kubectl delete --wait=false -k")
    return bed.shell(command, folder)


def _the(words: str) -> str:
    """The one command that has these words."""
    (command,) = (command for command in COMMANDS if words in command)
    return command


def test_each_command_works(bed: Bed, folder: Path) -> None:
    crds_of_cert_manager(bed)
    finished = {"metadata": {"name": TARGET, "namespace": NAMESPACE, "labels": None}}
    bare = merged(BASE["PersistentVolumeClaim"], finished)
    bed.kubectl("create", "-f", "-", stdin=json.dumps(bare), check=True)
    bed.kubectl("apply", "-k", str(folder / "my-cluster"), check=True)
    secret = ["secret", "generic", "conversion-guard-tls", "-n", "conversion-guard"]
    bed.kubectl("create", *secret, check=True)
    assert len(COMMANDS) > 8
    for command in COMMANDS:
        if any(words in command for words in NO_PODS):
            continue
        done = _run(bed, command, folder, NAME=TARGET, NAMESPACE=NAMESPACE, PLAN="gated")
        assert done.returncode == 0, (command, done.stderr)
        assert runs(bed) in ("", IMAGE), f"{command} keeps what is the reader's"


def test_they_do_what_it_says(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> None:
    world = World(bed, bed.vcsims[0], tmp_path_factory.mktemp("world"))
    vm = world.vm("DC0_H0_VM0")
    wrong = claim("wrong", vm, vmID="vm-99999")
    with world.guarded(trustNetwork=True, kubeconfig=str(bed.kubeconfig()), providerNamespaces=[]):
        for obj in (plan_of(vm, targetNamespace=TARGET), claim("unbound", vm)):
            assert world.create(obj).returncode == 0
        proof = _run(bed, _the("proof-"), NAMESPACE=NAMESPACE, PLAN="gated")
        assert "not bound to a volume" in proof.stderr, proof
        assert world.create(wrong, dry_run=True).returncode == 1
        assert _run(bed, _the("enforce=warn"), NAME=TARGET).returncode == 0
        eventually(
            lambda: world.create(wrong, dry_run=True).returncode == 0, "it is only a warning"
        )
        bed.kubectl("label", "namespace", TARGET, "conversion-guard.io/enforce-", check=True)
        eventually(lambda: world.create(wrong, dry_run=True).returncode == 1, "it is refused")
        assert _run(bed, _the("delete validatingwebhookconfiguration")).returncode == 0
        eventually(lambda: world.create(wrong, dry_run=True).returncode == 0, "it is off")


def test_alerts_lead_to_where_the_pages_are_served(bed: Bed, tmp_path: Path) -> None:
    there = tmp_path / "monitoring"
    shutil.copytree(MANIFESTS / "monitoring", there)
    values = there / "values.yaml"
    values.write_text(
        values.read_text().replace("conversion-guard.example.com", "wiki.example.org")
    )
    built = bed.kubectl("kustomize", str(there), check=True).stdout
    urls = re.findall(r"runbook_url: (\S+)", built)
    assert len(urls) == len(PAGES) - 1
    assert all(url.startswith("https://wiki.example.org/docs/runbook/Conv") for url in urls)
    assert "conversion-guard-monitoring" not in built, "it is not applied"
