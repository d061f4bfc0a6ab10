"""`make release`: the same files each time, and all that an installation needs."""

import hashlib
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.bed import Bed
from tests.e2e.parts import Parts, part
from tests.e2e.test_chart import helm
from tests.e2e.world import OWN_CRDS
from tests.pages import ROOT
from tests.release import notes
from webhook import __version__

pytestmark = pytest.mark.e2e

REPOSITORY = "registry.example.com/conversion-guard"
FILES = {
    "NOTES.md",
    "SHA256SUMS",
    f"conversion-guard-{__version__}.tgz",
    f"conversion_guard-{__version__}-py3-none-any.whl",
    f"conversion_guard-{__version__}.tar.gz",
    "install.yaml",
    "sbom.cdx.json",
}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("released") / "dist")


def made(folder: Path) -> Path:
    """The image is made by `make image-test`'s way, which takes minutes: not here."""
    part("kubectl")
    command = [sys.executable, "-m", "tests.release", "--without-image", "--repository", REPOSITORY]
    command += ["--output", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_it_is_whole_and_its_sums_are_right(released: Path) -> None:
    assert {file.name for file in released.iterdir()} == FILES
    lines = (released / "SHA256SUMS").read_text().splitlines()
    sums = {name: wanted for wanted, _, name in (line.partition("  ") for line in lines)}
    assert sums.keys() == FILES - {"SHA256SUMS"}
    for name, wanted in sums.items():
        assert hashlib.sha256((released / name).read_bytes()).hexdigest() == wanted


def test_made_again_it_is_the_same(released: Path, tmp_path: Path) -> None:
    again = made(tmp_path / "dist")
    assert (again / "SHA256SUMS").read_text() == (released / "SHA256SUMS").read_text()


def test_the_sbom_has_what_the_lock_file_has(released: Path) -> None:
    bom = json.loads((released / "sbom.cdx.json").read_text())
    assert (bom["bomFormat"], bom["metadata"]["component"]["version"]) == ("CycloneDX", __version__)
    lock = (ROOT / "requirements.lock").read_text()
    pinned = re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)
    assert sorted(one["name"] for one in bom["components"]) == sorted(pinned)
    assert all(one["purl"].startswith("pkg:pypi/") for one in bom["components"])


def test_the_notes_are_of_this_version() -> None:
    log = "# Changelog\n\n## [0.2.0] - 2026-12-01\n\n### Added\n\n- New.\n\n## [0.1.0]\n\n- Old.\n"
    assert notes(log, "0.2.0") == "### Added\n\n- New.\n"
    assert notes(log, "0.1.0") == "- Old.\n"
    with pytest.raises(SystemExit, match="no section"):
        notes(log, "0.3.0")


@pytest.fixture(scope="module")
def bed(programs: Parts) -> Iterator[Bed]:
    with Bed(programs=programs) as bed:
        bed.install_crds(OWN_CRDS)
        bed.kubectl("create", "namespace", "openshift-mtv", check=True)
        yield bed


def test_it_installs_from_these_files_only(bed: Bed, released: Path, tmp_path: Path) -> None:
    done = bed.kubectl("apply", "-f", str(released / "install.yaml"))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    bed.kubectl("delete", "-f", str(released / "install.yaml"), "--wait=false", check=True)

    package = str(released / f"conversion-guard-{__version__}.tgz")
    where = ["-n", "by-chart", "--set", f"image.repository={REPOSITORY}"]
    config = bed.kubeconfig()
    for command in (
        ["install", "guard", package, "--create-namespace", *where],
        ["uninstall", "guard", "-n", "by-chart"],
    ):
        ran = helm(*command, kubeconfig=config, home=tmp_path)
        assert ran.returncode == 0, ran.stderr

    images = re.findall(r"image: (\S+)", (released / "install.yaml").read_text())
    assert images == [f"{REPOSITORY}:{__version__}"]
    rendered = helm("template", "guard", package, *where, "--skip-tests").stdout
    objects = [item for item in yaml.safe_load_all(rendered) if item]
    (deployment,) = [item for item in objects if item["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == images[0]


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_the_command_runs_from_the_package(released: Path, tmp_path: Path, kind: str) -> None:
    """By pip, without an index; its libraries are this environment's."""
    names = {"wheel": "*.whl", "sdist": "conversion_guard-*.tar.gz"}
    (package,) = released.glob(names[kind])
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    pip += ["--no-build-isolation", "--disable-pip-version-check", "--no-warn-conflicts"]
    pip += ["--target", str(tmp_path / "there"), str(package)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    script = "import webhook, sys; print(webhook.__file__); from webhook.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", script, "--version"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "there"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    file, told = ran.stdout.splitlines()
    assert file.startswith(str(tmp_path))
    assert __version__ in told


def test_the_sdist_holds_nothing_of_this_machine(released: Path) -> None:
    with tarfile.open(released / f"conversion_guard-{__version__}.tar.gz") as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"webhook/__init__.py", "pyproject.toml", "LICENSE", "README.md"} <= names
    assert not [name for name in names if name.startswith((".venv", "dist", ".git/"))]
