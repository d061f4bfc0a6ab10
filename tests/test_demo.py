"""The commands as a person runs them, and what the README shows of them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from webhook import __version__

ROOT = Path(__file__).parents[1]


def _run(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "webhook", *args], capture_output=True, text=True, check=False
    )


def test_the_demo_is_as_expected_and_the_readme_shows_what_it_says() -> None:
    done = _run("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b(\d+) of \1 as expected", done.stdout)
    column = [line.split("│")[-2] for line in done.stdout.splitlines() if line.startswith("│")]
    said = "".join("".join(column).split())
    shown = re.findall(r"```\n(The (?:PersistentVolumeClaim|Plan) .*?)```", _readme(), re.DOTALL)
    assert len(shown) == 2
    for denial in shown:
        assert "".join(denial.split()) in said


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


def _readme() -> str:
    return (ROOT / "README.md").read_text()
