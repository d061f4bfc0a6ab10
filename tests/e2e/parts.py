"""The real programs of the test bed, built once from Go modules and kept in the user's cache.

`python -m tests.e2e.parts [PROGRAM...]` builds those that are missing; with none named, all that
the tests need. Tests only look here, and build nothing.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from tests.e2e.steps import Step

_MODULES = Path(__file__).parent / "parts"
_REPRODUCIBLE = ("-buildvcs=false",)
_KUBERNETES = "1.37.2"  # of parts/kube/go.mod; modules carry no version for the programs to tell
_HELM = "4.2.4"  # of parts/helm/go.mod
_GO = "1.26"  # the most that a go.mod of parts/ asks for
_HOW = (
    f"install Go {_GO} or later and run `make parts`, or set KUBEBUILDER_ASSETS to a folder that "
    "has etcd, kube-apiserver and kubectl"
)
_BUILDING = ".building-"


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
    takes: str  # on two cores, after those above it, with nothing in Go's own cache
    ldflags: str = "-s -w"

    @property
    def flags(self) -> list[str]:
        return [*_REPRODUCIBLE, f"-ldflags={self.ldflags}"]


def _kubernetes(program: str, takes: str) -> _Recipe:
    major, minor, _ = _KUBERNETES.split(".")
    version = {"gitVersion": f"v{_KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    flags = [f"-X k8s.io/component-base/version.{key}={value}" for key, value in version.items()]
    package = f"k8s.io/kubernetes/cmd/{program}"
    return _Recipe("kube", package, takes, " ".join(["-s -w", *flags]))


_RECIPES = {
    "etcd": _Recipe("etcd", "go.etcd.io/etcd/server/v3", "2 minutes"),
    "kube-apiserver": _kubernetes("kube-apiserver", "5 minutes"),
    "kubectl": _kubernetes("kubectl", "2 minutes"),
    "helm": _Recipe(  # of kubectl's libraries, which so are compiled already
        "helm",
        "helm.sh/helm/v4/cmd/helm",
        "a minute",
        f"-s -w -X helm.sh/helm/v4/internal/version.version=v{_HELM}",
    ),
    "vcsim": _Recipe("vcsim", ".", "half a minute"),
    "forklift": _Recipe("forklift", ".", "some seconds"),  # its compare, and nothing else of it
    "govmomi-read": _Recipe("vcsim", "./read", "some seconds"),  # for a benchmark only
    "go-webhook": _Recipe("go-webhook", ".", "2 minutes"),  # likewise
    "load": _Recipe("go-webhook", "./load", "some seconds"),  # likewise
}
_DOWNLOADS = {"etcd": "half a minute", "kube-apiserver": "a minute"}
"""What takes longer than some seconds; kubectl's are the API server's."""

OF_THE_TESTS = ("etcd", "kube-apiserver", "kubectl", "helm", "vcsim", "forklift")
_OF_KUBEBUILDER = OF_THE_TESTS[:3]
"""None of them is built where KUBEBUILDER_ASSETS names a folder for them."""


class PartMissing(Exception):
    """Real programs that are not on this machine; the message names them and how to get them."""

    def __init__(self, programs: Sequence[str]) -> None:
        super().__init__(f"{_listed(programs)} missing: {_HOW}")


class _NotToBeHad(Exception):
    """By no fault of a recipe: there is no Go, or its modules can't be downloaded."""


class _BuildFailed(Exception):
    """The message has the end of what the compiler said."""


def parts() -> Parts:
    """All that a test bed is made of. Raises PartMissing."""
    names = {field.name: field.name.replace("_", "-") for field in fields(Parts)}
    if absent := missing(names.values()):
        raise PartMissing(absent)
    return Parts(**{name: _place(program) for name, program in names.items()})


def part(program: str) -> Path:
    """One program, for who needs no more. Raises PartMissing."""
    if absent := missing([program]):
        raise PartMissing(absent)
    return _place(program)


def missing(programs: Iterable[str] = OF_THE_TESTS) -> list[str]:
    """Those that are not there."""
    return [program for program in programs if not _place(program).is_file()]


def _place(program: str) -> Path:
    """Where it is, once it is there: in KUBEBUILDER_ASSETS, or else in the cache."""
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        given = Path(assets, program)
        if given.is_file() or program in _OF_KUBEBUILDER:
            return given
    return _cache() / f"{program}-{_key(_RECIPES[program])}" / program


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "conversion-guard/e2e")


def _key(recipe: _Recipe) -> str:
    """Changes whenever the program would."""
    digest = hashlib.sha256("\0".join([recipe.package, *recipe.flags]).encode())
    folder = _MODULES / recipe.module
    own = folder / recipe.package  # no folder where it is not ours
    for source in sorted([*folder.glob("go.*"), *own.glob("*.go")]):
        digest.update(f"\0{source.name}\0".encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def _listed(programs: Sequence[str]) -> str:
    *others, last = programs
    return f"{', '.join(others)} and {last} are" if others else f"{last} is"


def _get(programs: Sequence[str]) -> list[str]:
    """Build what is missing, one after the other; why some can't be had, if so."""
    if not missing(programs):
        return []
    with _locked(_cache()):
        absent = missing(programs)  # another run may have built some while this one waited
        assets = os.environ.get("KUBEBUILDER_ASSETS")
        theirs = [program for program in absent if assets and program in _OF_KUBEBUILDER]
        reasons = [f"KUBEBUILDER_ASSETS={assets} has no {program}" for program in theirs]
        todo = [program for program in absent if program not in theirs]
        if todo and not shutil.which("go"):
            return [*reasons, "Go is not installed"]
        if todo:
            print(f"Building what the tests need, once; it is kept in {_cache()}.", flush=True)
        proxy: dict[str, str] = {}
        for number, program in enumerate(todo, 1):
            try:
                _build(f"{number} of {len(todo)} {program}", program, proxy)
            except _NotToBeHad as why:
                # From now on only what is here already: no waiting again, nor told again.
                reasons += [] if proxy else [str(why)]
                proxy = {"GOPROXY": "off"}
        return reasons


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One build at a time on this machine: two at once need more than two cores give."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another run is building; waiting for it.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob(f"{_BUILDING}*"):  # by a run that was killed
            shutil.rmtree(left)
        yield


def _build(title: str, program: str, proxy: Mapping[str, str]) -> None:
    recipe, target = _RECIPES[program], _place(program).parent
    with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=target.parent) as building:
        made = Path(building, target.name)
        env = {**os.environ, "GOTMPDIR": building, "GOWORK": "off"}
        folder = _MODULES / recipe.module

        doing = f"downloading modules, usually {_DOWNLOADS.get(program, 'some seconds')}"
        step = Step(title, doing, "downloaded")
        if said := step.run(["go", "mod", "download"], folder, {**env, **proxy}):
            raise _NotToBeHad(f"{program} can't be downloaded: {said}")
        step = Step(title, f"building, usually {recipe.takes}", "built")
        build = ["go", "build", *recipe.flags, "-o", str(made / program), recipe.package]
        if said := step.run(build, folder, env):
            raise _BuildFailed(f"{program} can't be built: {said}")
        made.rename(target)  # whole or not at all


def main() -> int:
    """1 if something can't be had, 130 if it was stopped."""
    parser = argparse.ArgumentParser(prog="tests.e2e.parts", description=__doc__)
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=f"of {', '.join(_RECIPES)}")
    parser.add_argument(
        "--or-skip",
        action="store_true",
        help="0 also where some can't be had, for the tests that need them are skipped then; "
        "with CI=true, 1",
    )
    given = parser.parse_args()
    if unknown := set(given.programs) - set(_RECIPES):
        parser.error(f"no such PROGRAM: {', '.join(sorted(unknown))}")
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)  # all unwind as Ctrl-C does
    programs = given.programs or OF_THE_TESTS
    try:
        reasons = _get(programs)
    except KeyboardInterrupt:
        print("Stopped; the next run goes on from here.", file=sys.stderr)
        return 130
    except (_BuildFailed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not reasons:
        return 0
    why = f"{'; '.join(reasons)}; so {_listed(missing(programs))} missing"
    if given.or_skip and os.environ.get("CI") != "true":
        print(f"warning: {why}, and the tests that need them will be skipped", file=sys.stderr)
        return 0
    print(f"error: {why}: {_HOW}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
