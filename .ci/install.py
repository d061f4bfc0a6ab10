"""Set up a virtual environment from a hashed lock file, and say step by step how far it is.

    python3 .ci/install.py FOLDER LOCK [--editable | --keep]

It needs Python alone, and an older Python gets as far as being told so. `--editable`: this project
goes in, too. `--keep`: the packages stay in the user's cache for the next time, and are compiled as
they are imported.
"""

import hashlib
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

OLDEST = (3, 11)


def main(folder: str, lock: str, *options: str) -> None:
    """Ends the process with the exit code of the first command that fails."""
    if sys.version_info < OLDEST:
        wanted, there = (".".join(map(str, version[:2])) for version in (OLDEST, sys.version_info))
        sys.exit(
            f"Python {wanted} or later is needed, and {sys.executable} is {there}."
            f" Name another: make PYTHON=python{wanted} ..."
        )
    bare = ["--without-pip"] if installs_elsewhere() else []
    pip = [sys.executable, "-m", "pip", "--python", folder]
    if not bare:
        pip = [str(Path(folder) / "bin" / "python"), "-m", "pip"]
    calm = ["--quiet", "--disable-pip-version-check", "--no-deps"]
    hashed = [*calm, "--require-hashes", "--requirement", lock]
    kept = wheels(lock)
    steps = Steps(2 + ("--editable" in options) + ("--keep" in options and not kept.is_dir()))
    steps.run(
        f"Make a Python environment in {folder}", [sys.executable, "-m", "venv", *bare, folder]
    )
    offline = []
    if "--keep" in options:
        if not kept.is_dir():
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=kept.parent) as place:
                whole = Path(place) / "whole"
                what = f"Download the packages of {lock}, some 30 MB"
                steps.run(what, [*pip, "download", *hashed, "--dest", str(whole)])
                whole.rename(kept)
        # An index takes pip longer to read than all the rest. Only what has to be built needs one.
        index = ["--no-index"] if all(file.suffix == ".whl" for file in kept.iterdir()) else []
        offline = [*index, "--find-links", str(kept), "--no-compile"]
    what = f"Install the packages of {lock}, hashes checked"
    steps.run(what, [*pip, "install", *hashed, *offline])
    if "--editable" in options:
        own = [*calm, "--no-build-isolation", "--editable", "."]
        steps.run("Install conversion-guard itself, from here", [*pip, "install", *own])


def installs_elsewhere() -> bool:
    """Whether this Python has a pip that can: the environment then needs none of its own, which
    would take as long as all the packages."""
    from importlib import metadata  # here, not above: Python 3.7 has none

    try:
        return int(metadata.version("pip").partition(".")[0]) >= 23
    except metadata.PackageNotFoundError:
        return False


def wheels(lock: str) -> Path:
    """Where the packages of a lock file are kept for this Python, once all are there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    python = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
    key = hashlib.sha256(Path(lock).read_bytes()).hexdigest()[:16]
    return cache / "conversion-guard" / "wheels" / f"{python}-{key}"


class Steps:
    """So many, each told as it begins and ends. On a terminal its seconds run."""

    def __init__(self, total: int) -> None:
        self.total, self.number = total, 0
        self.terminal = sys.stdout.isatty()

    def run(self, what: str, command: "list[str]") -> None:
        """Ends the process where the command fails. What that prints goes through: it is told to
        print nothing but warnings and errors."""
        self.number += 1
        head, began = f"[{self.number}/{self.total}]", time.monotonic()
        tell(f"{head} {what} ..." + ("" if self.terminal else "\n"))
        code = None
        # In a session of its own, so that Ctrl-C is heard here only: pip answers with a traceback.
        with subprocess.Popen(command, start_new_session=True) as process:  # noqa: S603  our own
            while code is None:
                try:
                    code = process.wait(1 if self.terminal else 10)
                except KeyboardInterrupt:
                    os.killpg(process.pid, signal.SIGTERM)
                    raise
                except subprocess.TimeoutExpired:
                    passed = f"{time.monotonic() - began:.0f} s"
                    tell(f"\r{head} {what} ... {passed}" if self.terminal else f"{head} {passed}\n")
        passed = f"{time.monotonic() - began:.0f} s"
        if code:
            tell(f"\n{head} failed after {passed}\n")
            sys.exit(code)
        tell(f"\r{head} {what}: {passed}   \n" if self.terminal else f"{head} done, {passed}\n")


def tell(text: str) -> None:
    """At once."""
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main(*sys.argv[1:])
    except OSError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        tell("\nstopped: the same command goes on from here\n")
        sys.exit(130)
