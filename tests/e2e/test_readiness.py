"""`conversion-guard readiness`, on a real API server: from the cluster itself, and by the API."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cases import NAMESPACE
from tests.command import COMMAND, run
from tests.e2e.bed import eventually
from tests.e2e.parts import Parts
from tests.e2e.vendors import FORKLIFT, SNAPSHOT, Api, account, plan, pvc, serving
from tests.e2e.world import TARGET, find_ready
from webhook.cli.demo import merged
from webhook.model.keys import DISK_SOURCE, NOT_READY, VM_ID, VM_UUID, WAVE

pytestmark = pytest.mark.e2e

DATABASE = {VM_ID: "vm-178", VM_UUID: "42324a11-8a5e-2f0d-6b0c-1f2e3d4c5b6a"}
FIRST = "[vendor-ds] production-database/vm-disk-001.vmdk"
LAST = "[vendor-ds] production-database/vm-disk-002.vmdk"


@pytest.fixture(scope="module")
def api(programs: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serving(programs, tmp_path_factory.mktemp("guard")) as api:
        whole = merged(plan(), {"metadata": {"name": "whole", "labels": {WAVE: "1"}}})
        whole["spec"]["vms"] = [{"id": "vm-179"}]
        warm = merged(plan(), {"metadata": {"name": "warm"}, "spec": {"type": "warm"}})
        claims = (TARGET, "", "persistentvolumeclaims", "list")
        providers = (NAMESPACE, FORKLIFT, "providers", "get")
        api.make(
            whole,
            warm,
            *account("watcher", (NAMESPACE, FORKLIFT, "plans", "get"), claims, providers),
            *account("stranger"),
        )
        find_ready(api.bed)
        eventually(lambda: len(_plans(api, "watcher")) == 2, "the guard follows them")
        yield api


def _plans(api: Api, user: str) -> list[str]:
    return [one["name"] for one in api.get("/plans", api.token(user)).json()["plans"]]


@pytest.fixture
def here(api: Api) -> list[str | Path]:
    """The options to look from here."""
    return ["--kubeconfig", api.bed.kubeconfig(), "--snapshot", SNAPSHOT]


@pytest.fixture
def there(api: Api, tmp_path: Path) -> list[str | Path]:
    """The options to ask the guard."""
    token = tmp_path / "token"
    token.write_text(api.token("watcher"))
    ca = api.guard.ca_file
    return ["--server", api.guard.api_url, "--token-file", token, "--ca-file", ca]


@pytest.fixture
def database(api: Api) -> Iterator[str]:
    """A PVC of the database, which the vendor still copies to; the other disk has none."""
    claim = merged(
        pvc(),
        {
            "metadata": {
                "name": "db-0",
                "labels": DATABASE,
                "annotations": {DISK_SOURCE: FIRST, NOT_READY: "copied 40%"},
            }
        },
    )
    api.make(claim)
    yield "db-0"
    api.bed.empty(TARGET, "PersistentVolumeClaim")
    api.make(pvc())
    _bind(api, "web-0", "40Gi")


def _bind(api: Api, name: str, size: str) -> None:
    status = json.dumps({"status": {"phase": "Bound", "capacity": {"storage": size}}})
    how = ["-n", TARGET, "--subresource=status", "--type=merge", "-p", status]
    api.bed.kubectl("patch", "pvc", name, *how, check=True)


def test_both_calls_tell_the_same_of_every_plan(
    here: list[str | Path], there: list[str | Path], database: str
) -> None:
    for output in ("json", "table", "yaml"):
        local = run("readiness", "-A", *here, "-o", output)
        remote = run("readiness", "-A", *there, "-o", output)
        assert (local.returncode, remote.returncode) == (1, 1), local.stderr + remote.stderr
        assert local.stdout == remote.stdout
    table = run("readiness", "-A", *here).stdout
    web = next(line for line in table.splitlines() if " vm-178 " in line)
    assert web.split()[2:] == ["not-ready", "1", "1", "0", "0", "1", "1"]
    assert f'  missing: "{LAST}"' in table
    assert f'  copying: "db-0" "{FIRST}"' in table
    assert 'marked as not ready ("copied 40%"): wait until the vendor\'s copy' in table
    assert "2 Plans: 1 not-ready, 1 ready; 3 VMs: 1 not-ready, 2 ready" in table
    told = json.loads(run("readiness", "-n", NAMESPACE, *there, "-o", "json").stdout)["plans"]
    assert [(one["name"], one["wave"], one["ready"]) for one in told] == [
        ("web", "", False),
        ("whole", "1", True),
    ]
    assert {one["targetNamespace"] for one in told} == {TARGET}
    copying = told[0]["vms"][1]["copying"]
    assert copying == [{"diskSource": FIRST, "pvc": "db-0"}]


def test_the_exit_code_is_that_of_the_plans_that_are_named(
    here: list[str | Path], there: list[str | Path]
) -> None:
    for options in (here, there):
        assert run("readiness", f"{NAMESPACE}/whole", *options).returncode == 0
        assert run("readiness", "whole", "web", "-n", NAMESPACE, *options).returncode == 1
        warm = run("readiness", f"{NAMESPACE}/warm", *options)
        assert warm.returncode == 1, "what nobody checks is not ready"
        assert "not-checked: it is not a conversion Plan" in warm.stdout
        for args in ([f"{NAMESPACE}/nothing"], ["-n", "vendors"]):
            none = run("readiness", *args, *options)
            assert (none.returncode, none.stdout) == (2, "")
            assert "there is no " in none.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "which Plans?"),
        (["web"], 'PLAN "web": write NAMESPACE/NAME'),
        (["a/b/c"], 'PLAN "a/b/c": write NAMESPACE/NAME'),
        (["-A", "a/b"], "leave out PLAN"),
        (["a/b", "--timeout", "1"], "--timeout is for --wait and --watch"),
    ],
)
def test_wrong_arguments_are_named(args: list[str], says: str) -> None:
    done = run("readiness", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_only_plans_that_one_may_get_are_listed(api: Api) -> None:
    assert _plans(api, "watcher") == ["web", "whole"]
    assert _plans(api, "stranger") == []
    one = {"apiGroups": [FORKLIFT], "resources": ["plans"], "verbs": ["get"]}
    named = {**one, "resourceNames": ["whole"]}
    objects = [*account("owner", (NAMESPACE, FORKLIFT, "plans", "get"))]
    api.make(*(merged(obj, {"rules": [named]} if "rules" in obj else {}) for obj in objects))
    assert _plans(api, "owner") == ["whole"]


def _start(*args: str | Path, stdout: int = subprocess.PIPE) -> "subprocess.Popen[str]":
    program = [*COMMAND, "readiness", *args]
    return subprocess.Popen(program, stdout=stdout, stderr=subprocess.PIPE, text=True)


def test_wait_ends_when_all_are_ready(api: Api, there: list[str | Path], database: str) -> None:
    late = run("readiness", "-A", *there, "--wait", "--timeout", "1", "--interval", "1")
    assert late.returncode == 1
    assert "not-ready" in late.stdout
    with _start("-A", *there, "--wait", "--timeout", "120", "--interval", "1") as waiting:
        last = {"metadata": {"name": "db-1", "annotations": {DISK_SOURCE: LAST}}}
        api.make(merged(merged(pvc(), {"metadata": {"labels": DATABASE}}), last))
        _bind(api, "db-0", "90Gi")
        _bind(api, "db-1", "40Gi")
        assert waiting.poll() is None, "the copy isn't whole"
        api.bed.kubectl("annotate", "pvc", "db-0", f"{NOT_READY}-", "-n", TARGET, check=True)
        said, wrong = waiting.communicate(timeout=120)
    assert (waiting.returncode, wrong) == (0, "")
    assert "2 Plans: 2 ready; 3 VMs: 3 ready" in said


def test_watch_shows_what_changes(api: Api, there: list[str | Path], database: str) -> None:
    args = ("-A", *there, "--watch", "--interval", "1", "-o", "json")
    with _start(*args) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        api.bed.kubectl("annotate", "pvc", "db-0", f"{NOT_READY}-", "-n", TARGET, check=True)
        second = json.loads(watching.stdout.readline())
        watching.send_signal(signal.SIGINT)
        _, wrong = watching.communicate(timeout=60)
    assert (watching.returncode, wrong) == (1, "")
    copying = [told["plans"][0]["vms"][1]["copying"] for told in (first, second)]
    assert [len(one) for one in copying] == [1, 0]


def test_watch_on_a_terminal_is_one_table(api: Api, here: list[str | Path], database: str) -> None:
    ours, theirs = pty.openpty()
    with _start("-A", *here, "--watch", "--interval", "1", stdout=theirs) as watching:
        os.close(theirs)
        seen = b""

        def shown(what: bytes) -> Any:
            nonlocal seen
            seen += os.read(ours, 65536)
            return what in seen

        eventually(lambda: shown(b"Ctrl-C ends it"), "the table")
        assert b"copying" in seen
        assert b"\x1b[31m" in seen, "what isn't ready is red"
        watching.send_signal(signal.SIGINT)
        watching.wait(60)
    os.close(ours)
    assert watching.returncode == 1
