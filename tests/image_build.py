"""The shipped Dockerfile, really built: with buildah, on a Debian base made by debootstrap.

No container engine and no registry is needed; root is, and Debian's packages. The base is kept in
the user's cache.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_SUITE = "bookworm"
_TOOLS = {"buildah": "buildah", "debootstrap": "debootstrap"}  # program to package
_INCLUDE = "python3,python3-venv,ca-certificates"
# What Debian's own slim images leave out as well.
_NOT_IN_A_SLIM_BASE = (
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
)
_MINUTES = 60.0


class ImageUntested(Exception):
    """The image can't be built on this machine; the message says why."""


class NothingToBuildBy(ImageUntested):
    """No buildah, or nothing to build from: neither is here, and none can be fetched."""


@dataclass(frozen=True)
class Image:
    """A built image: its files below `root`, and how its maker wants it run."""

    root: Path
    user: str
    """uid:gid"""
    environment: Mapping[str, str]
    entrypoint: Sequence[str]
    archive: Callable[[Path], object]
    """Write it as an OCI archive, a tar file that every registry's tools can push."""

    def sizes(self) -> tuple[int, int]:
        """Bytes of all files, and of those below /opt, which the Dockerfile adds."""
        return _bytes_below(self.root), _bytes_below(self.root / "opt")


@contextmanager
def built() -> Iterator[Image]:
    """The image, until the block ends. Raises ImageUntested, or CalledProcessError of a build."""
    _tools()
    base = _base()
    _package_index()
    with tempfile.TemporaryDirectory(prefix="conversion-guard-image-", dir="/var/tmp") as name:
        folder = Path(name)
        storage = ["--storage-driver", "vfs"]
        storage += ["--root", str(folder / "root"), "--runroot", str(folder / "run")]

        def buildah(command: str, *args: str) -> str:
            return _run(["buildah", *storage, command, *args])

        scratch = buildah("from", "scratch")
        buildah("add", scratch, str(base), "/")
        buildah("commit", scratch, "localhost/base")
        buildah("rm", scratch)
        buildah(
            "bud", "--isolation", "chroot", "--network", "host", "--build-arg",
            "BASE=localhost/base", *_fetching(), "--tag", "localhost/conversion-guard", str(ROOT),
        )  # fmt: skip
        made = json.loads(buildah("inspect", "--type", "image", "localhost/conversion-guard"))
        config = made["OCIv1"]["config"]
        container = buildah("from", "localhost/conversion-guard")
        try:
            yield Image(
                Path(buildah("mount", container)),
                config["User"],
                dict(variable.split("=", 1) for variable in config["Env"]),
                config["Entrypoint"],
                lambda file: buildah("push", "localhost/conversion-guard", f"oci-archive:{file}"),
            )
        finally:
            buildah("umount", container)


def _tools() -> None:
    """buildah and debootstrap, installed where they are missing and may be."""
    missing = [package for tool, package in _TOOLS.items() if not shutil.which(tool)]
    root = os.geteuid() == 0
    if missing and not (root and shutil.which("apt-get")):
        raise NothingToBuildBy(f"{' and '.join(missing)} must be installed")
    if not root:
        raise ImageUntested("a base is made, and the image run, as root only")
    if not missing:
        return
    _fetch(["apt-get", "update"], "Debian's packages")
    _fetch(
        ["apt-get", "install", "--yes", "--no-install-recommends", *missing,
         "debian-archive-keyring"],
        "Debian's packages",
    )  # fmt: skip


def _base() -> Path:
    """A tar file of a minimal Debian with Python, made once."""
    recipe = json.dumps([_SUITE, _INCLUDE, _NOT_IN_A_SLIM_BASE])
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = cache / "conversion-guard" / "image" / f"base-{key}.tar"
    if kept.exists():
        return kept
    print("Making the base, once; this may take two minutes.", file=sys.stderr, flush=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=kept.parent) as making:
        root, tar = Path(making, "root"), Path(making, "base.tar")
        command = ["debootstrap", "--variant=minbase", f"--include={_INCLUDE}", _SUITE, str(root)]
        _fetch([*command, *_mirror()], "Debian's packages")
        for folder in _NOT_IN_A_SLIM_BASE:
            shutil.rmtree(root / folder)
        _run(["tar", "--create", "--file", str(tar), "--directory", str(root), "."])
        tar.rename(kept)  # whole or not at all
    return kept


def _mirror() -> list[str]:
    """Where this machine gets that Debian itself; nothing where it is another, or another way."""
    lists = "$(REPO_URI) $(CODENAME)", "Created-By: Packages"
    for line in _run(["apt-get", "indextargets", "--format", *lists]).splitlines():
        address, _, suite = line.partition(" ")
        if suite == _SUITE and address.startswith(("http://", "https://")):
            return [address]
    return []


def _package_index() -> None:
    """Whether Python's packages can be fetched at all: a failed build would not say it so well."""
    lock = (ROOT / "requirements.lock").read_text()
    small = next(line.split()[0] for line in lock.splitlines() if line.startswith("idna=="))
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-cache-dir",
        ]
        # Not from a folder of this machine's: the build can't see it.
        environment = {**os.environ, "PIP_FIND_LINKS": ""}
        _fetch([*command, "--dest", folder, small], "Python's packages", environment)


def _fetching() -> list[str]:
    """What this machine needs for pip to reach its source: an address, a CA file, both or none."""
    options = []
    if address := _pip("index-url"):
        options += ["--build-arg", f"PIP_INDEX_URL={address}"]
    if authority := _pip("cert"):
        options += [
            "--volume",
            f"{authority}:{authority}:ro",
            "--build-arg",
            f"PIP_CERT={authority}",
        ]
    return options


def _pip(option: str) -> str:
    if given := os.environ.get(f"PIP_{option.replace('-', '_').upper()}"):
        return given
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", f"global.{option}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() if said.returncode == 0 else ""


def _fetch(command: list[str], what: str, environment: Mapping[str, str] | None = None) -> None:
    try:
        _run(command, environment)
    except subprocess.CalledProcessError as error:
        last = " | ".join(str(error.output).strip().splitlines()[-2:])
        raise NothingToBuildBy(f"{what} can't be fetched: {last}") from None


def _run(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    """What it prints on standard output; where it fails, all that it printed."""
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        timeout=15 * _MINUTES,
        check=False,
    )
    if ran.returncode:
        raise subprocess.CalledProcessError(
            ran.returncode, shlex.join(command), ran.stdout + ran.stderr
        )
    return ran.stdout.strip()


def _bytes_below(root: Path) -> int:
    seen: dict[tuple[int, int], int] = {}
    for folder, _, files in os.walk(root):
        for name in files:
            found = Path(folder, name).lstat()
            seen[found.st_dev, found.st_ino] = found.st_size
    return sum(seen.values())
