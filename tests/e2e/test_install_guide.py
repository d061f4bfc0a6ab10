"""docs/install.md as its reader follows it: its files written, its commands run, in their order."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cases import NAMESPACE
from tests.e2e.bed import Bed
from tests.e2e.parts import Parts
from tests.e2e.test_combinations import said
from tests.e2e.test_overlays import crds_of_cert_manager
from tests.e2e.world import OWN_CRDS, ROOT

pytestmark = pytest.mark.e2e

GUIDE = ROOT / "docs" / "install.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FOLDERS = ("my-cluster", "providers-team-a", "elsewhere", "providers-elsewhere", "manifests")


@pytest.fixture(scope="module")
def bed(programs: Parts) -> Iterator[Bed]:
    with Bed(programs=programs) as bed:
        bed.install_crds(OWN_CRDS)
        crds_of_cert_manager(bed)
        for namespace in (NAMESPACE, "team-a", "konveyor-forklift"):
            bed.kubectl("create", "namespace", namespace, check=True)
        yield bed


def test_every_command_of_the_guide(bed: Bed, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    blocks = BLOCK.findall(GUIDE.read_text())
    for _, text in (block for block in blocks if block[0] == "yaml"):
        file = tmp_path / text.partition("\n")[0].removeprefix("# ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    commands = [
        shlex.split(line) for kind, text in blocks if not kind for line in text.splitlines()
    ]
    ran = [args for program, *args in commands if program == "kubectl"]
    assert len(ran) > 10
    for args in ran:
        _run(bed, [_placed(arg, tmp_path) for arg in args])


def _placed(arg: str, folder: Path) -> str:
    return str(folder / arg) if arg.split("/")[0] in _FOLDERS else arg


def _run(bed: Bed, args: list[str]) -> None:
    if "rollout" in args:
        return  # this bed has no controllers that could roll anything out
    if args[0] == "delete":
        args = [*args, "--wait=false"]  # nor one that empties a namespace
    done = bed.kubectl(*args)
    assert runs(bed) in ("", "registry.example.com/conversion-guard:0.1.0"), "it stays the reader's"
    good = (0, 1) if args[0] == "diff" else (0,)  # 1: there is a difference
    assert done.returncode in good, (args, done.stderr)
    if "-l" in args and "default" not in args:
        left = [line for line in done.stdout.splitlines() if "Terminating" not in line]
        assert [line for line in left if not line.startswith("NAME")] == [], (args, done.stdout)
    if args[0] == "kustomize" and args[1].endswith("my-cluster"):
        assert "registry.example.com/conversion-guard:0.1.0" in done.stdout
        assert "providerNamespaces: [openshift-mtv, team-a]" in done.stdout
    if args[0] == "kustomize" and args[1].endswith("elsewhere"):
        assert said(done.stdout) == {"my-guard", "konveyor-forklift"}


def runs(bed: Bed) -> str:
    """The image of the Deployment that is there."""
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    own = "conversion-guard"
    return bed.kubectl(
        "get", "deployment", own, "-n", own, "-o", image, "--ignore-not-found"
    ).stdout


def test_it_names_every_overlay_and_component() -> None:
    text = GUIDE.read_text()
    for folder in (ROOT / "manifests" / "overlays").iterdir():
        assert f"manifests/overlays/{folder.name}" in text
    for file in (ROOT / "manifests").glob("*/kustomization.yaml"):
        shared = file.parent.name == "serving-secret"  # by two components, and of no use alone
        if "kind: Component" in file.read_text() and not shared:
            assert f"../manifests/{file.parent.name}" in text
