"""A start that goes wrong, or is called off: what is told, and what goes on all the same."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cases import BASE, review_of
from tests.command import COMMAND
from tests.e2e.bed import Vcsim, eventually
from tests.guard import Guard, running
from tests.stand_in import standing_in
from webhook import tls
from webhook.errors import SettingsInvalid
from webhook.inventory.provider import ProviderInventory
from webhook.model.objects import Provider
from webhook.runtime import sources
from webhook.runtime.supervise import PARTS, REPEATED
from webhook.settings import Settings
from webhook.vsphere import LiveSource, VsphereAddress

PVC = BASE["PersistentVolumeClaim"]
_RESTARTS = re.compile(r'^conversion_guard_part_restarts_total\{part="([\w-]+)"\} (\S+)$', re.M)


def _restarts(guard: Guard) -> dict[str, float]:
    return {part: float(count) for part, count in _RESTARTS.findall(guard.metrics())}


def _asked(guard: Guard, path: str) -> tuple[int, str]:
    with guard.client() as client:
        answer = client.get(path)
    return answer.status_code, answer.text


def _status(guard: Guard) -> dict[str, Any]:
    with guard.client() as client:
        answer: dict[str, dict[str, Any]] = client.post("/validate", json=review_of(PVC)).json()
    status: dict[str, Any] = answer["response"]["status"]
    return status


@contextmanager
def _beginning(folder: Path, settings: dict[str, Any]) -> Iterator["subprocess.Popen[str]"]:
    """A guard that has begun to start, and waits for its settings: SIGTERM has come meanwhile."""
    file = folder / "settings.yaml"
    os.mkfifo(file)
    command = [*COMMAND, "serve", "--settings", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            with file.open("wb") as given:  # waits until it is read
                process.send_signal(signal.SIGTERM)
                given.write(msgspec.yaml.encode(settings))
            yield process
        finally:
            process.kill()


def test_a_start_that_is_called_off_at_once_ends_with_0(tmp_path: Path) -> None:
    settings = {"listen": "127.0.0.1:0", "metricsListen": "127.0.0.1:0", "shutdownDelay": 0}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("{")
    with _beginning(tmp_path, {**settings, "kubeconfig": str(kubeconfig)}) as process:
        assert process.stderr is not None
        log = process.stderr.read()
        assert process.wait(60) == 0
        assert "Traceback" not in log


@pytest.mark.simulator
def test_a_start_that_is_called_off_has_logged_out(vcsim: Vcsim, tmp_path: Path) -> None:
    tls.write(tls.issue(["localhost"], datetime.now(UTC)), tmp_path)
    (tmp_path / "password").write_text(vcsim.password)
    provider = {
        "namespace": "mtv",
        "name": "prod",
        "url": vcsim.url,
        "user": vcsim.user,
        "passwordFile": str(tmp_path / "password"),
        "caFile": str(vcsim.ca_file),
    }
    files = {"certFile": str(tmp_path / "tls.crt"), "keyFile": str(tmp_path / "tls.key")}
    settings = {
        "listen": "127.0.0.1:0",
        "metricsListen": "127.0.0.1:0",
        "shutdownDelay": "1s",  # long enough to log in
        "tls": {"source": "files", **files},
        "providers": [provider],
        "deniedNetworks": [],
    }
    with vcsim.connect() as instance, _beginning(tmp_path, settings) as process:
        assert process.stderr is not None
        log = process.stderr.read()
        assert process.wait(60) == 0
        assert "listening on" in log
        assert "Traceback" not in log
        assert len(instance.RetrieveContent().sessionManager.sessionList) == 1, "only the test's"


def test_a_cluster_that_can_not_be_opened_is_tried_until_it_can(tmp_path: Path) -> None:
    file = tmp_path / "mounted"
    with standing_in(tmp_path) as api, running(tmp_path, {"kubeconfig": str(file)}) as guard:
        eventually(lambda: _restarts(guard)["cluster"] >= REPEATED, "it is tried again")
        told = "failing again and again, see the log: cluster\n"
        assert _asked(guard, "/readyz") == (503, told)
        assert _asked(guard, "/livez")[0] == 200
        status = _status(guard)
        assert (status["code"], status["reason"]) == (503, "ServiceUnavailable"), "undecided"
        assert f"kubeconfig {file}: " in status["message"]
        (line,) = guard.told("the part cluster has ended")
        assert f"kubeconfig {file}: " in line
        assert "Traceback" not in guard.log
        api.kubeconfig.rename(file)
        eventually(lambda: _asked(guard, "/readyz")[0] == 200, "it is followed")
        assert "kubeconfig" not in _status(guard)["message"]


def test_an_api_server_that_is_away_at_the_start_is_no_failing_part(tmp_path: Path) -> None:
    with standing_in(tmp_path) as api:
        api.broken = True
        with running(tmp_path, {"kubeconfig": str(api.kubeconfig)}) as guard:
            eventually(lambda: len(api.asked) > 8, "it is asked again")
            assert _status(guard)["code"] == 503
            assert "first reads not finished" in _asked(guard, "/readyz")[1]
            api.broken = False
            eventually(lambda: _asked(guard, "/readyz")[0] == 200, "it is followed")
            assert _restarts(guard) == dict.fromkeys(PARTS, 0.0)
            assert "Traceback" not in guard.log


def test_a_provider_of_two_snapshots_is_told(tmp_path: Path) -> None:
    """The second would hide the first."""
    for name in ("a", "b"):
        (tmp_path / name).write_text("providers: [{namespace: mtv, name: prod}]")
    settings = Settings(snapshots=(tmp_path / "a", tmp_path / "b"))
    with pytest.raises(SettingsInvalid, match=f"snapshots: {tmp_path}/b: mtv/prod is there alre"):
        sources.known(settings)


def test_a_fault_in_the_thread_of_a_source_is_counted_and_it_goes_on() -> None:
    counted: list[int] = []
    inventory = ProviderInventory(Provider("mtv", "prod"))
    broken: Any = (None,)  # no network at all: nobody has foreseen that
    address = VsphereAddress("https://127.0.0.1:1/sdk", "user", lambda: "", denied=broken)
    source = LiveSource(address, inventory, lambda: counted.append(1))
    source.start()
    try:
        eventually(lambda: len(counted) > 1, "it has begun anew")
        assert inventory.cause.endswith("Error")
    finally:
        source.stop()


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for field in ("listen", "metricsListen"):
            with pytest.raises(AssertionError) as raised, running(tmp_path, {field: address}):
                pass
            assert f"{field}: {address}: Address already in use" in str(raised.value)
            assert "Traceback" not in str(raised.value)
