"""`conversion-guard check`, as a person or a pipeline runs it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.command import COMMAND
from webhook.errors import ManifestInvalid
from webhook.manifests import files

SNAPSHOT = Path(__file__).parents[1] / "webhook/cli/demo/inventory.yaml"
RIGHT = """\
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: disk-0
  namespace: vms
  labels: {vmID: vm-179, vmUUID: 4232f3d0-7c1b-9e55-0a44-5b6c7d8e9f01}
  annotations:
    forklift.konveyor.io/disk-source: "[vendor-ds] production-webserver/vm-disk-001.vmdk"
spec:
  accessModes: [ReadWriteMany]
  volumeMode: Block
  storageClassName: fast
  resources: {requests: {storage: 40Gi}}
"""
WRONG = RIGHT.replace("40Gi", "1Gi").replace("name: disk-0", "name: disk-1")
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"


def run(*args: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "check", *args],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("CONVERSION_GUARD_")},
    )


def test_each_object_has_its_verdict_its_file_and_its_line(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(f"{SECRET}---\n{WRONG}")
    report = tmp_path / "junit.xml"
    done = run(file, "--snapshot", SNAPSHOT, "--junit", report)
    assert (done.returncode, done.stderr) == (1, "")
    first, second, finding, *_ = done.stdout.splitlines()
    assert first == f'{file}:1: Secret s: not-checked: there is no rule for "v1 Secret"'
    assert second == f"{file}:5: PersistentVolumeClaim vms/disk-1: denied"
    assert finding.startswith('  deny: spec.resources.requests.storage: "1Gi"')
    suite = ElementTree.fromstring(report.read_bytes())  # noqa: S314  our own
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "1")


def test_standard_input_that_is_right_is_0_and_json_has_it_all() -> None:
    done = run("-", "--snapshot", SNAPSHOT, "--output", "json", given=RIGHT)
    assert (done.returncode, done.stderr) == (0, "")
    (result,) = json.loads(done.stdout)["results"]
    assert (result["verdict"], result["file"], result["line"]) == ("admitted", "-", 1)


def test_settings_name_the_snapshot_too(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(json.dumps({"snapshots": [str(SNAPSHOT)]}))
    done = run("-", "--settings", settings, given=WRONG)
    assert done.returncode == 1, done.stderr


def test_without_anything_to_judge_by_it_says_what_to_give() -> None:
    done = run("-", given=RIGHT)
    assert done.returncode == 2
    assert "--snapshot FILE, --settings FILE or --server URL" in done.stderr


@pytest.mark.parametrize("given", [SECRET, "", "---\n"])
def test_where_nothing_is_judged_nothing_is_good(given: str) -> None:
    done = run("-", "--snapshot", SNAPSHOT, given=given)
    assert done.returncode == 2
    assert done.stderr.startswith("conversion-guard: 0 objects: there is no Persistent")
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_is_read_in_order_without_its_kustomization(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [a.yaml]\n")
    (tmp_path / "b.json").write_text('{"kind": "B"}')
    (tmp_path / "a.yaml").write_text("kind: A\n")
    (tmp_path / "c.txt").write_text("kind: C\n")
    assert [one.object["kind"] for one in files.read([str(tmp_path)])] == ["A", "B"]


def test_bom_crlf_empty_documents_and_dates_are_read_as_kubernetes_does() -> None:
    content = b"\xef\xbb\xbf---\r\n---\r\nday: 2024-01-01\r\n"
    (one,) = files.documents(content, "f")
    assert (one.object, one.line) == ({"day": "2024-01-01"}, 3)


def test_yaml_is_read_as_kubectl_reads_it() -> None:
    """What kubectl 1.37 makes of the same text (`kubectl label --local -o json`)."""
    text = b"""
v: [y, Y, n, on, Off, TRUE, 1e3, 010, 08, 0o14, 0x1F, 0b11, 1_000, 12:30:45, 2024-01-01, ~, null,
  .inf2, 1., +1, =, "y", 685_230.15, 42324e10, 190:20:30.15]
1: a
true: b
"""
    (one,) = files.documents(text, "f")
    assert one.object["v"] == [
        True, True, False, True, False, True, 1000, 8, 8, 12, 31, 3, 1000, "12:30:45",
        "2024-01-01", None, None, ".inf2", 1, 1, "=", "y", 685230.15, 423240000000000,
        "190:20:30.15",
    ]  # fmt: skip
    assert {key: one.object[key] for key in ("1", "true")} == {"1": "a", "true": "b"}


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans() | st.none()))
def test_what_is_written_is_read_back(obj: dict[str, Any]) -> None:
    (one, other) = files.documents(files.write([obj, {"x": [obj]}]).encode(), "f")
    assert (one.object, other.object) == (obj, {"x": [obj]})


_BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "f:2:1: "),
        ("a:\n\tb: 1\n", "f:2:1: "),
        ("a: 1\nb: 2\na: 3\n", 'f:3:1: the key "a" occurs twice'),
        ('{"a": 1, "a": 2}', 'f: the key "a" occurs twice'),
        (_BOMB, "its aliases expand to more than"),
        ("a: &a [*a]\n", "an alias to what contains it"),
        ("[" * 300 + "]" * 300, "is nested more than 200 deep"),
        ("a: !!bool maybe\n", "maybe"),
        ("a: !!int x\n", "invalid literal"),
        ("a: !!python/object:os.system {}\n", "could not determine a constructor"),
    ],
)
def test_what_cant_be_read_is_one_clear_line(text: str, said: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        list(files.documents(text.encode(), "f"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_and_a_too_big_file_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(tmp_path / "no.yaml", "--snapshot", SNAPSHOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"conversion-guard: {tmp_path / 'no.yaml'}: No such file or directory\n"
    monkeypatch.setattr(files, "LIMIT", 10)
    (tmp_path / "big.yaml").write_text("a: " + "b" * 20)
    with pytest.raises(ManifestInvalid, match="more than"):
        list(files.read([str(tmp_path / "big.yaml")]))


@pytest.fixture
def peak(tmp_path: Path) -> Callable[..., tuple[subprocess.CompletedProcess[str], int]]:
    """`check` on one file's content, and the most memory that its process had, in MiB."""

    def measured(*pieces: bytes) -> tuple[subprocess.CompletedProcess[str], int]:
        file = tmp_path / "given.yaml"
        with file.open("wb") as stream:
            stream.writelines(pieces)
        # Not getrusage: its maximum is the parent's, from before the program was there.
        program = (
            "import pathlib, sys; from webhook.cli import main\n"
            "try: main()\n"
            "finally: sys.stderr.write(pathlib.Path('/proc/self/status').read_text())"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, "check", file, "--snapshot", SNAPSHOT],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done, int(re.findall(r"VmHWM:\s+(\d+) kB", done.stderr)[0]) // 1024

    return measured


MANY = 100_000


@pytest.mark.parametrize(
    ("pieces", "code", "said", "mib"),
    [
        ([b"a: " + b"x" * (50 * 2**20)], 2, "more than 32 MiB at once: split them", 200),
        ([b"---\nkind: ConfigMap\napiVersion: v1\n"] * MANY, 2, "0 objects: ", 400),
        ([_BOMB.encode()], 2, "its aliases expand to more than", 100),
        ([b"a: 1\n" * 2], 2, 'the key "a" occurs twice', 100),
        ([b"a:\n\tb: 1\n"], 2, ":2:1: ", 100),
        ([b"\xef\xbb\xbf", RIGHT.replace("\n", "\r\n").encode()], 0, "", 100),
        ([b"a: &a [" + b"x, " * 900_000 + b"x]\n"], 1, "", 700),
    ],
    ids=["50 MB", "100,000 documents", "bomb", "twice", "tab", "BOM and CRLF", "one huge list"],
)
def test_bad_input_is_answered_in_bounded_memory(
    peak: Callable[..., tuple[subprocess.CompletedProcess[str], int]],
    pieces: list[bytes],
    code: int,
    said: str,
    mib: int,
) -> None:
    done, measured = peak(*pieces)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert measured <= mib
