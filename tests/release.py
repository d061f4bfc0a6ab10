"""What a release consists of, in dist/: `make release`.

Wheel and sdist, the image as an OCI archive, the chart's package, install.yaml, an SBOM, notes from
the CHANGELOG, and SHA256SUMS of them all. Nothing is fetched but for the image. All but the image
is the same, byte for byte, wherever it is made.
"""

import argparse
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from tests.chart import CHART, MANIFESTS
from tests.e2e.parts import PartMissing, part
from tests.image_build import ImageUntested, built
from tests.pages import ROOT
from webhook import __version__

NAME = "conversion-guard"
_THEN = 1_580_601_600
"""The time of every file in it, in seconds since 1970: the one that hatchling uses, too."""


def release(folder: Path, repository: str, *, image: bool) -> None:
    """Fill an empty folder. Raises PartMissing, ImageUntested, or CalledProcessError of a step."""
    _packages(folder)
    (folder / f"{NAME}-{__version__}.tgz").write_bytes(_chart())
    (folder / "install.yaml").write_text(_install(repository))
    (folder / "sbom.cdx.json").write_text(_sbom())
    (folder / "NOTES.md").write_text(notes((ROOT / "CHANGELOG.md").read_text(), __version__))
    if image:
        with built() as made:
            made.archive(folder / f"{NAME}-{__version__}.oci.tar")
    sums = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        for file in sorted(folder.iterdir())
    ]
    (folder / "SHA256SUMS").write_text("".join(sums))


def _packages(folder: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(_THEN)}
    _run(command, environment)


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout + done.stderr)
    return done.stdout


def _chart() -> bytes:
    """As `helm package` makes it, but with no time of today and no owner in it."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", fileobj=packed, mtime=_THEN) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in sorted(file for file in CHART.rglob("*") if file.is_file()):
            content = file.read_bytes()
            entry = tarfile.TarInfo(f"{NAME}/{file.relative_to(CHART)}")
            entry.size, entry.mtime, entry.mode = len(content), _THEN, 0o644
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _install(repository: str) -> str:
    """manifests/, in one file, with the image where the release's user pulls it from."""
    text = _run([str(part("kubectl")), "kustomize", str(MANIFESTS)])
    shipped = f"image: {NAME}:{__version__}\n"
    if text.count(shipped) != 1:
        raise SystemExit(f"install.yaml: {text.count(shipped)} images {NAME}:{__version__}, not 1")
    return text.replace(shipped, f"image: {repository}:{__version__}\n")


def _sbom() -> str:
    """The packages of the runtime's lock file, as CycloneDX: the image's, beside Debian's."""
    lock = (ROOT / "requirements.lock").read_text()
    bom = Bom()
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"{NAME} {__version__} {lock}")
    bom.metadata.timestamp = datetime.fromtimestamp(_THEN, UTC)
    bom.metadata.component = own = _component(NAME, __version__, ComponentType.APPLICATION)
    for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock, re.MULTILINE):
        component = _component(name, version, ComponentType.LIBRARY)
        bom.components.add(component)
        bom.register_dependency(own, [component])
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _component(name: str, version: str, kind: ComponentType) -> Component:
    url = PackageURL("pypi", name=name, version=version)
    return Component(name=name, version=version, type=kind, purl=url, bom_ref=str(url))


def notes(changelog: str, version: str) -> str:
    """The section of one version, without its heading."""
    sections = re.split(r"^## \[([^\]]+)\].*\n", changelog, flags=re.MULTILINE)
    found = dict(zip(sections[1::2], sections[2::2], strict=True))
    if version not in found:
        raise SystemExit(f"CHANGELOG.md has no section ## [{version}]")
    return found[version].strip() + "\n"


def main() -> int:
    """1 where something can't be made; dist/ is then left as it was."""
    parser = argparse.ArgumentParser(prog="tests.release", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="FOLDER")
    parser.add_argument(
        "--repository", default=NAME, help="where the image will be pulled from, for install.yaml"
    )
    parser.add_argument("--without-image", action="store_true", help="fetch nothing at all")
    given = parser.parse_args()
    output: Path = given.output
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".release-", dir=output.parent) as place:
        whole = Path(place, "whole")
        whole.mkdir()
        try:
            release(whole, given.repository, image=not given.without_image)
        except (PartMissing, ImageUntested) as reason:
            sys.stderr.write(f"error: {reason}\n")
            return 1
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"{error.output}\nerror: {error.cmd} failed\n")
            return 1
        shutil.rmtree(output, ignore_errors=True)
        whole.rename(output)
    for file in sorted(output.iterdir()):
        print(f"{file.stat().st_size:>11,}  {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
