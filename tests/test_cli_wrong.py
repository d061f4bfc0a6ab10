"""The commands with wrong arguments: exit code 2 and a line that says why, never a traceback."""

import gc
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import COMMAND, run
from tests.test_cli_check import RIGHT, SNAPSHOT
from webhook.cli import main

SEED = int(os.environ.get("FUZZ_SEED", random.randrange(2**32)))
ROUNDS = 400

KUBECONFIG = """\
current-context: a
contexts: [{name: a, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {}}]
"""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["check", "right.yaml", "--junit", "no/such/folder"], "no/such/folder: No such file"),
        (["check", "right.yaml", "--junit", "folder"], "folder: Is a directory"),
        (["render", "vm-178", "--namespace", "Vms"], "namespace: write a name of a-z, 0-9 and -"),
        (["render", "vm-178", "--namespace", "v", "--storage-class", "_"], "0-9, . and -"),
        (["render", "vm-178", "-n", "v", "--plan", "Bad Map"], "plan: write a name of a-z, 0-9"),
        (["render", "vm-178", "-n", "v", "--plan", ""], "plan: write a name of a-z, 0-9, . and -"),
        (
            ["render", "vm-178", "-n", "v", "--plan", "m", "--destination", "../x"],
            "destination: write a name of a-z, 0-9, . and -",
        ),
        (
            ["render", "vm-178", "-n", "v", "--access-mode", "RWX"],
            "accessModes[0]: 'RWX' is none of ReadWriteMany, ReadWriteOnce, ReadWriteOncePod",
        ),
        (
            ["render", "vm-178", "-n", "v", "--name", ""],
            "has no letter or digit: write {vm}",
        ),
        (["render", "vm-178", "-n", "v", "--name", "x" * 64], "longer than 63 characters: shorten"),
        (["inventory", "list", "--provider", "a/b"], 'provider "a/b" is not known: choose one of'),
        (["inventory", "show", "vm-178", "--provider", "a/b"], 'provider "a/b" is not known'),
    ],
)
def test_what_is_wrong_is_one_line(args: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "right.yaml").write_text(RIGHT)
    (tmp_path / "folder").mkdir()
    places = {"right.yaml", "folder", "no/such/folder"}
    done = run(*(tmp_path / a if a in places else a for a in args), "--snapshot", SNAPSHOT)
    assert done.returncode == 2, done
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "[a-z0-9]" not in done.stderr, "no pattern is shown to anybody"


NO_URLS = (
    "", "https://", "http://x", "https://[::1", "https://[foo]", "https://a b", "https://a/b c",
    "https://a..b", "https://x:y", "https://x:99999", f"https://{'é' * 70}", "https://u@x",
)  # fmt: skip
ASKING = (
    ["check", "right.yaml"], ["inventory", "list"], ["inventory", "show", "vm-178"],
    ["render", "vm-178", "-n", "v"], ["readiness", "a/b"],
)  # fmt: skip


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
@pytest.mark.parametrize("url", NO_URLS)
def test_a_server_that_is_no_address(
    url: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "right.yaml").write_text(RIGHT)
    (tmp_path / "token").write_text("token")
    code, out, err = called(capsys, *command, "--server", url, "--token-file", "token")
    said = f"conversion-guard: --server {url}: write https://host or https://host:port\n"
    assert (code, out, err) == (2, "", said)


@pytest.mark.parametrize("closed", ["1", "2"])
def test_output_that_nobody_can_read_is_no_success(closed: str) -> None:
    script = ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *COMMAND, "inventory", "list"]
    done = subprocess.run(
        [*script, "--snapshot", SNAPSHOT], capture_output=True, text=True, check=False
    )
    said = "conversion-guard: standard output or standard error is closed: write >/dev/null\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said if closed == "1" else "")


@pytest.mark.parametrize(
    "content",
    [
        "a: [",
        "",
        "[]",
        "myhost",
        "a: {b: [1, 2",
        "contexts: 5",
        "current-context: b",
        KUBECONFIG.replace('"https://127.0.0.1:1"', "5"),
        KUBECONFIG.replace("server:", "certificate-authority-data: '!', server:"),
        KUBECONFIG.replace("https://127.0.0.1:1", "http://[::1"),
        KUBECONFIG.replace("https://127.0.0.1:1", "https://no-such-host.invalid"),
        KUBECONFIG,
    ],
)
def test_a_kubeconfig_that_is_none(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(content)
    for command in (["doctor"], ["audit", "--snapshot", str(SNAPSHOT)]):
        code, out, err = called(capsys, *command, "--kubeconfig", str(file))
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert err.startswith("conversion-guard: ")
        assert not re.search(r"[a-z](Error|Exception)\b", err), "a class says nothing to anybody"
        if content == KUBECONFIG:
            assert "https://127.0.0.1:1: the API server can't be reached: connection refused" in err


def test_files_that_cant_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    settings = tmp_path / "settings.yaml"
    settings.write_text(f'snapshots: ["{SNAPSHOT}"]')
    for args in (
        ["certs", "--folder", f"{in_the_way}/certs"],
        ["inventory", "export", "--settings", str(settings), "--output", f"{in_the_way}/x.json"],
    ):
        code, _, err = called(capsys, *args)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert err.startswith(f"conversion-guard: {in_the_way}")


@pytest.mark.parametrize("name", ["über", "", "a b", "https://guard"])
def test_a_certificate_for_what_is_no_host(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, host in (("--also", name), ("--service", f"{name}.conversion-guard.svc")):
        code, out, err = called(capsys, "certs", "--folder", str(tmp_path), option, name)
        assert (code, out) == (2, ""), err
        assert f'"{host}": write a host name or an IP address' in err
    assert not list(tmp_path.iterdir())


def test_wrong_arguments_at_random(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print(f"FUZZ_SEED={SEED}")
    dice = random.Random(SEED)
    for name, content in (
        ("right.yaml", RIGHT),
        ("kubeconfig", KUBECONFIG),
        ("broken", "a: [\n\t"),
        ("empty", ""),
        ("settings.yaml", f'snapshots: ["{SNAPSHOT}"]'),
    ):
        (tmp_path / name).write_text(content)
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "folder").mkdir()
    for _ in range(ROUNDS):
        args = list(_wrong(dice, tmp_path))
        code, _, err = called(capsys, *args)
        assert code in (0, 1, 2), (SEED, args, err)
        assert "Traceback" not in err, (SEED, args, err)
        if code == 2:
            assert err.strip(), (SEED, args)
            assert "[a-z0-9]" not in err, (SEED, args, err)


COMMANDS = [
    ["check"], ["audit"], ["doctor"], ["render"], ["certs"],
    ["inventory", "list"], ["inventory", "show"], ["inventory", "export"],
]  # fmt: skip
OPTIONS = [
    "--snapshot", "--settings", "--kubeconfig", "--context", "--namespace", "--provider", "--name",
    "--output", "--junit", "--server", "--token-file", "--ca-file", "--storage-class", "--plan",
    "--volume-mode", "--access-mode", "--destination", "--service", "--also", "--timeout", "--no",
]  # fmt: skip
WORDS = [
    "", " ", "-", "--", "vm-178", "production-database", "a/b", "a/b/c", "..", "{vm}", "{x}", "0",
    "-1", "nan", "1e400", "json", "yaml", "table", "xml", "Block", "ReadWriteMany", "über",
    "\udcff", "x" * 300, "\n", "https://127.0.0.1:1", "https://[", "http://x", "https://x:y",
    "%2f", "$(x)", "conversion-guard",
]  # fmt: skip


def _wrong(dice: random.Random, folder: Path) -> Iterator[str]:
    """A command, with some options and words that fit by chance only."""
    files = [*map(str, folder.iterdir()), str(folder / "no" / "such")]
    yield from dice.choice(COMMANDS)
    if dice.random() < 0.6:  # as in use, so that what is wrong is found further inside
        yield from ("--snapshot", str(SNAPSHOT))
    for _ in range(dice.randrange(5)):
        if dice.random() < 0.7:
            yield dice.choice(OPTIONS)
        yield dice.choice(files if dice.random() < 0.5 else WORDS)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Away from whatever the machine has, and with the garbage collection that `main` turns off."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith(("CONVERSION_GUARD_", "KUBE"))]:
        monkeypatch.delenv(name)
    yield
    gc.enable()


def called(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `conversion-guard` with these arguments."""
    before, sys.argv = sys.argv, ["conversion-guard", *args]
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else -1
    finally:
        sys.argv = before
    out, err = capsys.readouterr()
    return code, out, err
