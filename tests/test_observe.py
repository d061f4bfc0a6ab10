"""What is told: metrics as a scrape reads them, and log lines."""

import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.cases import BASE, base_settings, review_of
from tests.e2e.bed import eventually
from tests.guard import Guard, running
from webhook import __version__, logs
from webhook.cli.demo import merged
from webhook.inventory.provider import PROVIDER_STATES, ProviderInventory
from webhook.model.objects import Provider
from webhook.vsphere import LiveSource, VsphereAddress

PVC = BASE["PersistentVolumeClaim"]
WRONG = merged(PVC, {"metadata": {"labels": {"vmID": "vm-9"}}})


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    folder = tmp_path_factory.mktemp("guard")
    with running(folder, {**base_settings(folder), "logFormat": "json"}) as guard:
        yield guard


def _send(guard: Guard, obj: Any, **request: Any) -> httpx.Response:
    with guard.client() as client:
        return client.post("/validate", json=review_of(obj, **request))


def _scraped(guard: Guard) -> dict[str, float]:
    text = guard.metrics()
    found = re.findall(r"^([a-z]\S*?(?:\{.*\})?) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def _rise(guard: Guard, series: str, obj: Any, **request: Any) -> float:
    before = _scraped(guard).get(series, 0.0)
    _send(guard, obj, **request)
    return _scraped(guard)[series] - before


def test_a_denial_is_counted_by_rule_and_action(guard: Guard) -> None:
    series = 'conversion_guard_findings_total{action="deny",rule="pvc-vm"}'
    assert _rise(guard, series, WRONG) == 1


def test_a_skip_is_counted_by_its_reason(guard: Guard) -> None:
    mark = {"metadata": {"labels": {"migration": "60000000-0000-4000-8000-000000000001"}}}
    series = 'conversion_guard_skipped_total{reason="forklift-mark"}'
    assert _rise(guard, series, merged(PVC, mark)) == 1


def test_a_request_that_is_no_review_is_counted_by_its_code(guard: Guard) -> None:
    with guard.client() as client:
        assert client.get("/validate").status_code == 405
    assert _scraped(guard)['conversion_guard_refused_requests_total{code="405"}'] == 1


@pytest.mark.parametrize("undecided", ["deny", "warn"])
def test_an_undecided_review_is_counted_by_its_cause(tmp_path: Path, undecided: str) -> None:
    with running(tmp_path, {"undecided": undecided}) as guard:
        series = 'conversion_guard_undecided_total{cause="no-provider"}'
        assert _rise(guard, series, PVC) == 1
        scraped = _scraped(guard)
    assert scraped['conversion_guard_undecided_total{cause="unreachable"}'] == 0
    denied = 'kind="Plan",operation="UPDATE",verdict="denied",webhook="validate"'
    assert scraped[f"conversion_guard_reviews_total{{{denied}}}"] == 0


def test_a_provider_is_told_of_and_no_vm_is(guard: Guard) -> None:
    scraped = _scraped(guard)
    name = 'provider="openshift-mtv/vsphere-production"'
    assert scraped[f"conversion_guard_inventory_vms{{{name}}}"] == len(BASE["vsphere"])
    assert scraped[f"conversion_guard_inventory_age_seconds{{{name}}}"] == 0
    states = {s: scraped[f'conversion_guard_provider_state{{{name},state="{s}"}}'] for s in (
        PROVIDER_STATES
    )}  # fmt: skip
    assert states == dict.fromkeys(PROVIDER_STATES, 0.0) | {"known": 1.0}
    assert scraped[f'conversion_guard_build_info{{version="{__version__}"}}'] == 1
    text = "\n".join(scraped)
    for vm in BASE["vsphere"].values():
        assert vm["name"] not in text
        assert vm["uuid"] not in text


def test_what_a_caller_writes_makes_no_series(guard: Guard) -> None:
    _send(guard, WRONG)
    _send(guard, PVC, kind={"group": "", "version": "v1", "kind": "Seen"})
    before = set(_scraped(guard))
    for number in range(20):
        kind = {"group": f"g{number}", "version": "v1", "kind": f"Kind{number}"}
        _send(guard, PVC, kind=kind, userInfo={"username": f"user-{number}"})
        label = {"metadata": {"name": f"n{number}", "labels": {"vmID": f"vm-9{number}"}}}
        _send(guard, merged(PVC, label))
    assert set(_scraped(guard)) == before


def test_a_start_tells_version_and_settings(guard: Guard) -> None:
    told = json.loads(guard.told(f"conversion-guard {__version__} starts")[0])
    known = {key: told[key] for key in ("maxAge", "undecided", "certificate", "api")}
    assert known == {"maxAge": "3600s", "undecided": "deny", "certificate": "files", "api": "False"}
    assert told["settings"].endswith("settings.yaml")


def test_what_goes_on_is_told_again_every_ten_minutes() -> None:
    now = 0.0
    repeated = logs.Repeated(lambda: now)
    told = []
    for now, line in (
        (0, "a"),
        (1, "a"),
        (2, "b"),
        (601, "b"),
        (602, "b"),
        (603, "b"),
        (1202, "b"),
    ):
        told += [now] if repeated.due(line) else []
    assert told == [0, 2, 602, 1202]
    repeated.over()
    assert repeated.due("b"), "it has begun anew"


def test_an_unreachable_vcenter_is_told_of_with_its_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inventory = ProviderInventory(Provider("mtv", "prod"))
    inventory.secret = "Secret mtv/login"
    source = LiveSource(VsphereAddress("https://127.0.0.1:1/sdk", "me", lambda: "x"), inventory)
    source.start()
    try:
        eventually(lambda: inventory.unreachable_since, "it is tried")
    finally:
        source.stop()
    (line,) = (line for line in caplog.messages if "is unreachable" in line)
    assert line.startswith("mtv/prod is unreachable: ")
    assert line.endswith("(user me, Secret mtv/login)")


def test_a_denial_is_one_json_line(guard: Guard) -> None:
    user = 'vendor" level="error\n{}'
    _send(guard, WRONG, uid="u-json", userInfo={"username": user})
    (line,) = eventually(lambda: guard.told("u-json"), "it is told")
    told = json.loads(line)
    assert datetime.fromisoformat(told.pop("time")).tzinfo == UTC
    assert told.pop("ms") >= 0
    metadata = WRONG["metadata"]
    text = told.pop("text")
    assert text.startswith("metadata.labels[vmUUID]: ")
    assert '"vm-9"' in text
    assert told == {
        "level": "info",
        "logger": "webhook",
        "message": "denied",
        "uid": "u-json",
        "kind": "PersistentVolumeClaim",
        "operation": "CREATE",
        "object": f"{metadata['namespace']}/{metadata['name']}",
        "user": user,
        "dryRun": False,
        "rules": "pvc-vm",
    }


def test_a_finding_that_stands_in_nobodys_way_is_logged_once_for_an_object(guard: Guard) -> None:
    warned = merged(PVC, {"metadata": {"name": "warned"}, "spec": {"volumeMode": "Filesystem"}})
    for uid in ("u-first", "u-again"):
        _send(guard, warned, uid=uid, name="warned", dryRun=True)
    _send(guard, merged(warned, {"metadata": {"name": "other"}}), uid="u-other", name="other")

    def told() -> list[dict[str, Any]]:
        lines = map(json.loads, guard.told('"message": "finding"'))
        return [line for line in lines if line["rule"] == "pvc-volume-mode"]

    eventually(lambda: "u-other" in [line["uid"] for line in told()], "it is told")
    assert [line["uid"] for line in told()] == ["u-first", "u-other"]
    first = told()[0]
    assert (first["action"], first["dryRun"], first["count"]) == ("warn", True, 1)
    assert first["object"].endswith("/warned")
    assert (first["field"], bool(first["text"])) == ("spec.volumeMode", True)


def test_a_repair_is_counted_and_logged_by_its_default(guard: Guard) -> None:
    name = 'conversion_guard_repairs_total{default="pvc-disk-source-path"}'
    assert _scraped(guard)[name] == 0, "it is there before the first one"
    key = "forklift.konveyor.io/disk-source"
    bare = PVC["metadata"]["annotations"][key].rpartition("/")[2]
    with guard.client() as client:
        sent = review_of(merged(PVC, {"metadata": {"annotations": {key: bare}}}), uid="u-repair")
        answer = client.post("/mutate", json=sent).json()["response"]
    assert "patch" in answer
    assert _scraped(guard)[name] == 1
    (line,) = eventually(lambda: guard.told("u-repair"), "it is told")
    assert json.loads(line)["default"] == "pvc-disk-source-path"


@pytest.fixture
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("restored")
def test_a_console_line_cannot_be_forged() -> None:
    stream = io.StringIO()
    logs.log_to(stream)
    logs.log_line(logging.getLogger("webhook"), "denied", user='x\nERROR webhook " a=b', ms=1.5)
    logs.log_line(logging.getLogger("webhook"), "denied", user="y" * 1000)
    first, second = stream.getvalue().splitlines()
    assert first.endswith(r'INFO webhook denied user="x\nERROR webhook \" a=b" ms=1.5')
    assert len(second) < 400


@pytest.mark.usefixtures("restored")
def test_a_traceback_is_part_of_its_json_line() -> None:
    stream = io.StringIO()
    logs.log_to(stream, "error", "json")
    logger = logging.getLogger("webhook")
    logger.info("not told at this level")
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("it failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: broken" in json.loads(line)["exception"]


class _Broken(io.StringIO):
    def write(self, _: str) -> int:
        raise BrokenPipeError


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_line_that_can_not_be_told_harms_nobody(log_format: logs.LogFormat) -> None:
    stream = io.StringIO()
    logs.log_to(stream, log_format=log_format)
    logger = logging.getLogger("webhook")
    logger.info("%d of them", "no number: SECRET")
    logger.info("fields", extra={"fields": {"x": object()}})
    logger.info("and on")
    lines = stream.getvalue().splitlines()
    assert "was lost: TypeError" in lines[0]
    assert "and on" in lines[-1]
    assert len(lines) == 3
    assert "SECRET" not in stream.getvalue()
    closed = io.StringIO()
    for broken in (_Broken(), closed):
        logs.log_to(broken)
        closed.close()
        logger.info("nobody hears")


def test_a_providers_state_follows_what_happens_to_it() -> None:
    provider, earlier = (ProviderInventory(Provider("mtv", "prod")) for _ in range(2))
    earlier.heard(5.0)
    states: list[str] = [provider.state]
    provider.recall(earlier)
    states.append(provider.state)
    provider.lost("gone", datetime.now(UTC))
    states.append(provider.state)
    provider.heard(7.0)
    states.append(provider.state)
    assert states == ["first-read", "recalled", "unreachable", "known"]


def test_the_format_follows_the_settings_file(tmp_path: Path) -> None:
    with running(tmp_path, {}) as guard:
        file = tmp_path / "settings.yaml"
        settings = msgspec.yaml.decode(file.read_bytes())
        file.write_bytes(msgspec.yaml.encode(settings | {"logFormat": "json"}))
        what = '"message": "the settings have been reloaded"'
        eventually(lambda: what in guard.log, "the change is seen")
