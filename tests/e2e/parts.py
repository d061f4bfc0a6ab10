"""The real programs of the test bed, built once from Go modules and kept in the user's cache.

`python -m tests.e2e.parts` builds what is missing and prints where everything is.
"""

import fcntl
import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

_MODULES = Path(__file__).parent / "parts"
_REPRODUCIBLE = ("-buildvcs=false",)
_KUBERNETES = "1.37.2"  # of parts/kube/go.mod; modules carry no version for the programs to tell


class PartMissing(Exception):
    """A real part can't be had on this machine; the message says which one and why."""


@dataclass(frozen=True)
class Parts:
    """Where the programs are, e.g. `~/.cache/conversion-guard/e2e/etcd-0123456789abcdef/etcd`."""

    etcd: Path
    kube_apiserver: Path
    kubectl: Path
    vcsim: Path


class _Recipe(NamedTuple):
    module: str  # a folder of parts/
    package: str
    takes: str  # on two cores, with nothing in Go's own cache
    ldflags: str = "-s -w"


def _kubernetes(program: str, takes: str) -> _Recipe:
    major, minor, _ = _KUBERNETES.split(".")
    version = {"gitVersion": f"v{_KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    flags = [f"-X k8s.io/component-base/version.{key}={value}" for key, value in version.items()]
    package = f"k8s.io/kubernetes/cmd/{program}"
    return _Recipe("kube", package, takes, " ".join(["-s -w", *flags]))


_RECIPES = {
    "etcd": _Recipe("etcd", "go.etcd.io/etcd/server/v3", "half a minute"),
    "kube-apiserver": _kubernetes("kube-apiserver", "5 minutes"),
    "kubectl": _kubernetes("kubectl", "2 minutes"),
    "vcsim": _Recipe("vcsim", ".", "half a minute"),
    "govmomi-read": _Recipe("vcsim", "./read", "half a minute"),  # for the benchmark only
    "forklift": _Recipe("forklift", ".", "a few seconds"),  # its compare, and nothing else of it
}


def parts() -> Parts:
    """Every program; what is neither in KUBEBUILDER_ASSETS nor in the cache is built first."""
    return Parts(**{field.name: part(field.name.replace("_", "-")) for field in fields(Parts)})


def part(program: str) -> Path:
    """One program, for tests that need no more: the simulator is built much faster than the rest.

    Raises PartMissing.
    """
    if folder := os.environ.get("KUBEBUILDER_ASSETS"):
        given = Path(folder, program)
        if given.is_file():
            return given
        if _RECIPES[program].module in ("kube", "etcd"):  # a distribution of these has no others
            raise PartMissing(f"{program} is not in KUBEBUILDER_ASSETS={folder}")
    recipe = _RECIPES[program]
    flags = [*_REPRODUCIBLE, f"-ldflags={recipe.ldflags}"]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = cache / "conversion-guard" / "e2e" / f"{program}-{_key(recipe, flags)}" / program
    if not kept.exists():
        with _locked(kept.parent.parent):
            if not kept.exists():  # another run may have built it while this one waited
                _build(program, recipe, flags, kept.parent)
    return kept


def _key(recipe: _Recipe, flags: list[str]) -> str:
    """Changes whenever the program would."""
    digest = hashlib.sha256("\0".join([recipe.package, *flags]).encode())
    folder = _MODULES / recipe.module
    for source in sorted([*folder.glob("go.*"), *folder.glob("*.go")]):
        digest.update(f"\0{source.name}\0".encode() + source.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One build at a time on this machine: two at once need more than two cores give."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(program: str, recipe: _Recipe, flags: list[str], target: Path) -> None:
    _go(program, recipe, "list", "-m")  # says in one line that Go is too old
    print(f"Building {program}, once; this may take {recipe.takes}.", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=target.parent) as building:
        made = Path(building, target.name)
        _go(program, recipe, "build", *flags, "-o", str(made / program), recipe.package)
        made.rename(target)  # whole or not at all


def _go(program: str, recipe: _Recipe, *args: str) -> None:
    try:
        ran = subprocess.run(
            ["go", *args],
            cwd=_MODULES / recipe.module,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise PartMissing(
            f"{program} can't be built: Go is not installed; install it, "
            "or set KUBEBUILDER_ASSETS to a folder that has the programs"
        ) from None
    if ran.returncode:
        last = " | ".join(ran.stdout.strip().splitlines()[-5:])
        raise PartMissing(f"{program} can't be built: {last}")


def main() -> None:
    """Print the paths under the names that Kubernetes' own test environment reads."""
    try:
        found = parts()
    except PartMissing as missing:
        sys.exit(str(missing))
    for field in fields(found):
        path = shlex.quote(str(getattr(found, field.name)))
        print(f"export TEST_ASSET_{field.name.upper()}={path}")


if __name__ == "__main__":
    main()
