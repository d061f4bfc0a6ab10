"""How the test bed comes by its programs, or does without: real processes, and a `go` that is a
script."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.bed import eventually
from tests.e2e.parts import OF_THE_TESTS

ROOT = Path(__file__).parents[1]

_GO = f"""#!{sys.executable} -IS
import os, pathlib, subprocess, sys, time
_, command, *rest = sys.argv
folder = pathlib.Path(os.environ["HOME"])
with (folder / "calls").open("a") as calls:
    print(command, pathlib.Path(rest[-1]).name, os.environ.get("GOPROXY", ""), file=calls)
if command == "mod":
    sys.exit("dial tcp: no route to host" if (folder / "offline").exists() else 0)
target = pathlib.Path(rest[rest.index("-o") + 1])
if (folder / "broken").exists():
    sys.exit("main.go:1:1: syntax error")
target.parent.mkdir()
target.write_text("half of it")
if (folder / "stays-at").exists() and (folder / "stays-at").read_text() == target.name:
    child = subprocess.Popen([sys.executable, "-ISc", "input()"], stdin=subprocess.PIPE)
    (folder / "pids").write_text(f"{{os.getpid()}} {{child.pid}}")
    while (folder / "stays-at").exists():
        time.sleep(0.01)
    child.communicate()
target.write_text("whole")
"""


class Machine:
    """A home with nothing in it but, on the PATH, this go. It does as files there say: offline,
    broken, stays-at (the program at which it goes no further)."""

    def __init__(self, home: Path, go: bool = True) -> None:
        self.home = home
        (home / "bin").mkdir()
        if go:
            (home / "bin" / "go").write_text(_GO)
            (home / "bin" / "go").chmod(0o755)
        self.env = {"HOME": str(home), "PATH": str(home / "bin")}

    def parts(self, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return self._run("-m", "tests.e2e.parts", *args, **env)

    def pytest(self, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        plain = ("-p", "no:cacheprovider", "--numprocesses", "2")
        return self._run("-m", "pytest", *plain, *args, **env)

    @contextmanager
    def building(self, program: str) -> Iterator["subprocess.Popen[str]"]:
        """A run that has come to this program, and stays there."""
        (self.home / "stays-at").write_text(program)
        with subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.parts"],
            cwd=ROOT,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as run:
            eventually(lambda: self.pids, "it is there")
            yield run

    @property
    def pids(self) -> list[int]:
        """Of the go that stays, and of a child of it."""
        return [int(pid) for pid in (self.home / "pids").read_text().split()]

    @property
    def calls(self) -> list[str]:
        """What go was asked for: its command, the last argument's name, and GOPROXY."""
        file = self.home / "calls"
        return [line.strip() for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def kept(self) -> dict[str, str]:
        """Every file in the cache but the lock, and its content."""
        files = (self.home / ".cache").rglob("*")
        return {f.name: f.read_text() for f in files if f.is_file() and f.name != "lock"}

    def _run(self, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *args],
            cwd=ROOT,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def without_go(tmp_path: Path) -> Machine:
    return Machine(tmp_path, go=False)


WHOLE = dict.fromkeys(OF_THE_TESTS, "whole")


def test_each_is_built_in_turn_and_told_and_only_once(machine: Machine) -> None:
    done = machine.parts()
    assert (done.returncode, done.stderr) == (0, "")
    told = re.sub(r"\d+:\d\d", "0:00", done.stdout).splitlines()
    assert told[0].startswith("Building what the tests need, once; it is kept in ")
    assert told[5:9] == [
        "2 of 6 kube-apiserver: downloading modules, usually a minute",
        "2 of 6 kube-apiserver: downloaded after 0:00",
        "2 of 6 kube-apiserver: building, usually 5 minutes",
        "2 of 6 kube-apiserver: built after 0:00",
    ]
    assert [line.partition(":")[0] for line in told[1::4]] == [
        f"{number} of 6 {program}" for number, program in enumerate(OF_THE_TESTS, 1)
    ]
    assert machine.kept == WHOLE
    before = machine.calls
    again = machine.parts()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert machine.calls == before


def test_on_a_terminal_a_step_is_one_line_that_counts_on(machine: Machine) -> None:
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "tests.e2e.parts", "vcsim"]
    with subprocess.Popen(command, cwd=ROOT, env=machine.env, stdout=its) as run:
        os.close(its)
        shown = b""
        with open(ours, "rb", buffering=0) as terminal:  # noqa: PTH123  it has no path
            while piece := _read(terminal.fileno()):
                shown += piece
    assert run.returncode == 0
    lines = shown.decode().split("\r\n")
    assert len(lines) == 4, "what it is about, two steps, and the end"
    assert re.search(r"\r\x1b\[K1 of 1 vcsim: building, usually half a minute; 0:\d\d", lines[2])
    assert re.search(r"\r\x1b\[K1 of 1 vcsim: built after 0:\d\d$", lines[2])


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # nobody writes to it any more
        return b""


def test_without_go_it_is_said_what_is_missing(without_go: Machine) -> None:
    names = "etcd, kube-apiserver, kubectl, helm, vcsim and forklift"
    done = without_go.parts("--or-skip")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        f"warning: Go is not installed; so {names} are missing, and the tests that need them will "
        "be skipped\n"
    )
    for failed in (without_go.parts(), without_go.parts("--or-skip", CI="true")):
        assert (failed.returncode, failed.stdout) == (1, "")
        assert failed.stderr.startswith(
            f"error: Go is not installed; so {names} are missing: install Go 1."
        )
        assert failed.stderr.count("\n") == 1


def test_where_nothing_can_be_downloaded_that_is_said_and_tried_once(machine: Machine) -> None:
    (machine.home / "offline").touch()
    done = machine.parts("--or-skip")
    assert done.returncode == 0
    (told,) = done.stderr.splitlines()
    assert told.startswith("warning: etcd can't be downloaded: dial tcp: no route to host; so etcd")
    assert machine.calls == ["mod download", *["mod download off"] * 5]
    failed = machine.parts("--or-skip", CI="true")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: etcd can't be downloaded: dial tcp: no route to host")


def test_what_does_not_compile_is_an_error_in_any_case(machine: Machine) -> None:
    (machine.home / "broken").touch()
    done = machine.parts("--or-skip")
    assert done.returncode == 1
    assert done.stderr == "error: etcd can't be built: main.go:1:1: syntax error\n"
    assert machine.kept == {}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_it_leaves_nothing_half_made_and_goes_on_from_there(
    machine: Machine, how: signal.Signals
) -> None:
    with machine.building("kube-apiserver") as run:
        run.send_signal(how)
        told, error = run.communicate()
    assert run.returncode == 130
    assert re.search(r"\n2 of 6 kube-apiserver: stopped after 0:\d\d\n$", told)
    assert error == "Stopped; the next run goes on from here.\n"
    assert machine.kept == {"etcd": "whole"}
    eventually(lambda: not any(map(_lives, machine.pids)), "nothing of it goes on")
    (machine.home / "stays-at").unlink()
    done = machine.parts()
    assert done.returncode == 0
    assert "1 of 5 kube-apiserver: building" in done.stdout
    assert machine.kept == WHOLE


def test_killed_its_leavings_are_no_program_and_go_with_the_next_run(machine: Machine) -> None:
    with machine.building("etcd") as run:
        run.kill()
    assert machine.kept == {"etcd": "half of it"}
    (machine.home / "stays-at").unlink()
    eventually(lambda: not any(map(_lives, machine.pids)), "the go that it left has ended")
    assert machine.parts().returncode == 0
    assert machine.kept == WHOLE


def test_a_second_run_waits_for_the_first_and_builds_nothing_twice(machine: Machine) -> None:
    with machine.building("etcd") as first:
        command = [sys.executable, "-m", "tests.e2e.parts"]
        how = {"cwd": ROOT, "env": machine.env, "text": True, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, **how) as second:  # type: ignore[call-overload]
            told = second.stdout.readline()
            assert told == "Another run is building; waiting for it.\n"
            (machine.home / "stays-at").unlink()
            assert second.communicate()[0] == ""
        first.communicate()
    assert (first.returncode, second.returncode) == (0, 0)
    assert sum(call.startswith("build") for call in machine.calls) == len(OF_THE_TESTS)


def test_kubebuilders_programs_are_taken_and_never_built(machine: Machine) -> None:
    assets = machine.home / "assets"
    assets.mkdir()
    for program in ("etcd", "kube-apiserver"):
        (assets / program).touch()
    done = machine.parts("--or-skip", KUBEBUILDER_ASSETS=str(assets))
    assert done.returncode == 0
    assert f"KUBEBUILDER_ASSETS={assets} has no kubectl; so kubectl is missing" in done.stderr
    (assets / "kubectl").touch()
    assert machine.parts(KUBEBUILDER_ASSETS=str(assets)).stdout == ""
    assert machine.kept.keys() == {"helm", "vcsim", "forklift"}


def _lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


NEEDY = (
    "tests/test_forklift.py",
    "tests/test_vsphere.py",
    "tests/e2e/test_cli.py",
    "tests/e2e/test_chart.py",  # in the test itself, not in a fixture
)


def test_tests_without_their_programs_are_skipped_in_one_line(without_go: Machine) -> None:
    done = without_go.pytest(*NEEDY)
    assert done.returncode == 0, done.stdout
    (told,) = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert "etcd, kube-apiserver, kubectl, helm, vcsim and forklift are missing: install Go" in told
    skipped = re.findall(r"(\d+) skipped", done.stdout.splitlines()[-1])
    assert re.findall(r"\[(\d+)\]", told) == skipped


def test_in_ci_no_test_begins_without_them(without_go: Machine) -> None:
    done = without_go.pytest(*NEEDY, CI="true")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert (
        "ERROR: etcd, kube-apiserver, kubectl, helm, vcsim and forklift are missing" in done.stderr
    )
    assert "passed" not in done.stdout + done.stderr


def test_forklifts_own_crds_are_left_out_in_one_line(without_go: Machine) -> None:
    for program in OF_THE_TESTS:
        (without_go.home / program).touch()
    given = {"KUBEBUILDER_ASSETS": str(without_go.home)}
    done = without_go.pytest("tests/e2e/test_cli.py", "-k", "forklift", **given)
    assert done.returncode == 0, done.stdout
    (told,) = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert "left out without Forklift's own CRDs: set FORKLIFT_CRDS to a folder" in told


def test_a_folder_without_them_is_a_usage_error(without_go: Machine) -> None:
    done = without_go.pytest("tests/e2e/test_cli.py", FORKLIFT_CRDS=str(without_go.home))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: FORKLIFT_CRDS={without_go.home}: no CustomResourceDefinition of" in done.stderr


PICTURED = "tests/e2e/test_board.py::test_a_report_is_a_page_for_everybody"


def test_without_a_browser_its_tests_are_skipped_in_one_line(without_go: Machine) -> None:
    done = without_go.pytest(PICTURED)
    assert done.returncode == 0, done.stdout
    (told,) = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert "left out without Chromium: apt-get install chromium" in told


def test_in_ci_the_browser_is_installed_or_missed_at_once(without_go: Machine) -> None:
    for program in OF_THE_TESTS:
        (without_go.home / program).touch()
    given = {"KUBEBUILDER_ASSETS": str(without_go.home), "CI": "true"}
    done = without_go.pytest(PICTURED, **given)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: left out without Chromium" in done.stderr
    wanted = [sys.executable, "-m", "tests.e2e.browser"]
    for env, code, says in (
        (given, 1, "error: the tests of the board are left out without Chromium"),
        ({}, 0, "warning: the tests of the board are left out without Chromium"),
    ):
        told = subprocess.run(
            wanted, cwd=ROOT, env={**without_go.env, **env}, capture_output=True, text=True
        )
        assert (told.returncode, told.stdout) == (code, "")
        assert told.stderr.startswith(says)
        assert len(told.stderr.splitlines()) == 1
