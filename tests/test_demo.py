"""The demo, and the commands as a person runs them."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from webhook import __version__
from webhook.cli.demo import leaves
from webhook.cli.demo.server import settings
from webhook.rules import DEFAULTS, RULES
from webhook.settings import load

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "webhook" / "cli" / "demo"


def _run(*args: str, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "webhook", *args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
    )


@pytest.fixture(scope="module")
def everything() -> str:
    """Every card, as a pipe gets them; nothing of the environment changes them."""
    env = {"COLUMNS": "80", "CONVERSION_GUARD_TRUST_NETWORK": "true"}
    done = _run("demo", "--all", env=env | {"KUBERNETES_SERVICE_HOST": "127.0.0.1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_case_is_as_expected(everything: str) -> None:
    known = msgspec.yaml.decode((DEMO / "cases.yaml").read_bytes())
    count = len(known["cases"])
    assert everything.endswith(f"\n{count} of {count} as expected\n")


def test_five_cases_are_shown_and_the_rest_is_named() -> None:
    done = _run("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^\d\. ", done.stdout, re.MULTILINE)) == 5
    assert re.search(r"\n5 of 5 as expected; \d+ more: conversion-guard demo --all ", done.stdout)


def test_a_card_is_80_columns_wide_and_splits_no_value(everything: str) -> None:
    assert max(map(len, everything.splitlines())) <= 80
    known = msgspec.yaml.decode((DEMO / "cases.yaml").read_bytes())
    values = {value for case in known["cases"] for value in leaves(case["object"])}
    assert len(values) > 20
    assert {value for value in values if value not in everything} == {
        "True",
        "None",
    }  # YAML's true, "# no …"


def test_a_wider_terminal_gets_longer_lines_and_a_narrow_one_whole_words() -> None:
    wide, narrow = (_run("demo", env={"COLUMNS": width}).stdout for width in ("120", "60"))
    assert 80 < max(map(len, wide.splitlines())) <= 100
    assert wide.replace("-" * 100, "-" * 60).split() == narrow.split()


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_only_a_terminal_gets_colours(env: dict[str, str], coloured: bool) -> None:
    shown = _run("demo", env={"FORCE_COLOR": "1", "TERM": "xterm-256color", **env})
    assert ("\x1b[" in shown.stdout) == coloured


def test_a_pipe_gets_no_colours(everything: str) -> None:
    assert "\x1b" not in everything


def test_an_answer_that_is_not_as_expected_is_told_and_is_exit_code_1(tmp_path: Path) -> None:
    """On a copy of the package that expects something else of three cases."""
    shutil.copytree(ROOT / "webhook", tmp_path / "webhook")
    cases = tmp_path / "webhook" / "cli" / "demo" / "cases.yaml"
    text = cases.read_text()
    for there, instead in (
        ("rules: [pvc-vm]", "rules: [pvc-metadata]"),
        ("2f0d-6b0c-1f2e3d4c5b6a}}}", "2f0d-6b0c-000000000000}}}"),
        ("verdict: allowed", "verdict: denied"),
        ("fills: [/metadata", "fills: [/elsewhere"),
        ("write: {spec: {vms: [{name", "write: {spec: {vms: [{id"),
    ):
        assert there in text
        text = text.replace(there, instead, 1)
    cases.write_text(text)
    command = [sys.executable, "-m", "webhook", "demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    for told in (
        "refused by: ['pvc-vm'], not ['pvc-metadata']",
        'the answer does not name "42324a11-8a5e-2f0d-6b0c-000000000000"',
        "denied with what is to be written: ",
        "verdict: allowed, not denied",
        "filled in: ['/metadata/annotations/forklift.konveyor.io~1disk-source'], not ['/elsewhere",
        "to a caller who may get the Provider: denied with what is to be written: ",
    ):
        assert f"NOT AS EXPECTED: {told}" in done.stdout
    assert "\n2 of 5 as expected; " in done.stdout


def test_the_demos_server_has_the_settings_that_the_manifests_ship(tmp_path: Path) -> None:
    """All but where it listens, by which certificate, what it knows, and what outlives it."""

    def loaded(path: Path) -> dict[str, Any]:
        rules, defaults = ({one.id for one in ones} for ones in (RULES, DEFAULTS))
        chosen = load(path, {}, rules=frozenset(rules), defaults=frozenset(defaults))
        return chosen.model_dump()

    def of_demo(trusted: bool) -> dict[str, Any]:
        path = tmp_path / "settings.yaml"
        path.write_bytes(msgspec.yaml.encode(settings(tmp_path, trusted=trusted)))
        return loaded(path)

    shipped, demo = loaded(ROOT / "manifests" / "base" / "settings.yaml"), of_demo(trusted=False)
    assert {field for field in shipped if shipped[field] != demo[field]} == {
        "listen",
        "metrics_listen",
        "tls",
        "snapshots",
        "cache_dir",
        "shutdown_delay",
    }
    trusted = of_demo(trusted=True)
    assert {field for field in demo if demo[field] != trusted[field]} == {"trust_network"}


def _install(place: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    """Without any network."""
    return subprocess.run(
        [sys.executable, ROOT / ".ci" / "install.py", *args],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(place / "cache"), "PIP_NO_INDEX": "1"},
    )


def _steps(told: str) -> list[str]:
    """Without how long they take: the seconds at their ends, and the lines in between."""
    lines = re.sub(r"\b\d+ s$", "N s", told, flags=re.MULTILINE).splitlines()
    return [line for line in lines if not re.fullmatch(r"\[\d/\d\] N s", line)]


def test_what_is_installed_is_told_step_by_step_and_kept_for_the_next_time(tmp_path: Path) -> None:
    (tmp_path / "a.lock").write_text("# nothing, for it is about the steps\n")
    first = _install(tmp_path, "first", "a.lock", "--keep")
    assert first.returncode == 0, first.stdout + first.stderr
    again = _install(tmp_path, "again", "a.lock", "--keep")
    assert _steps(first.stdout) == [
        "[1/3] Make a Python environment in first ...",
        "[1/3] done, N s",
        "[2/3] Download the packages of a.lock, some 30 MB ...",
        "[2/3] done, N s",
        "[3/3] Install the packages of a.lock, hashes checked ...",
        "[3/3] done, N s",
    ]
    assert _steps(again.stdout) == [
        "[1/2] Make a Python environment in again ...",
        "[1/2] done, N s",
        "[2/2] Install the packages of a.lock, hashes checked ...",
        "[2/2] done, N s",
    ]


def test_a_step_of_the_installation_that_fails_ends_it_and_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.lock").write_text(f"no-such-package==1 --hash=sha256:{'0' * 64}\n")
    failed = _install(tmp_path, "venv", "a.lock", "--keep")
    assert failed.returncode == 1
    assert re.search(r"\n\[2/3\] failed after \d+ s\n$", failed.stdout)
    assert "no-such-package==1" in failed.stderr
    assert not list((tmp_path / "cache" / "conversion-guard" / "wheels").iterdir())


def test_a_missing_settings_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = _run("serve", "--settings", str(tmp_path / "none.yaml"))
    assert done.returncode == 2
    assert done.stderr == f"conversion-guard: {tmp_path}/none.yaml: No such file or directory\n"


def test_a_missing_certificate_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(
        f"listen: 127.0.0.1:0\ntls: {{source: files, certFile: {tmp_path}/no.crt, "
        f"keyFile: {tmp_path}/no.key}}\n"
    )
    done = _run("serve", "--settings", str(tmp_path / "settings.yaml"))
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("conversion-guard: tls: ")
    assert "no.crt" in last
    assert "Traceback" not in done.stderr


def test_certs_makes_the_three_files(tmp_path: Path) -> None:
    done = _run("certs", "--folder", str(tmp_path / "dev"), "--also", "127.0.0.1")
    assert done.returncode == 0
    assert {path.name for path in (tmp_path / "dev").iterdir()} == {"ca.crt", "tls.crt", "tls.key"}


@pytest.mark.parametrize("command", ["serve", "certs", "demo"])
def test_every_command_explains_itself(command: str) -> None:
    done = _run(command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_the_version_is_one() -> None:
    assert _run("--version").stdout == f"conversion-guard {__version__}\n"
