"""`conversion-guard inventory export`, as a person runs it, on the simulator."""

import json
import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.command import COMMAND
from tests.e2e.bed import Vcsim, eventually
from tests.live import following, live_address
from webhook.inventory.snapshot import load_snapshot

pytestmark = pytest.mark.simulator


def settings(vcsim: Vcsim, folder: Path) -> Path:
    (folder / "password").write_text(vcsim.password)
    provider = {
        "namespace": "mtv",
        "name": "prod",
        "url": vcsim.url,
        "user": vcsim.user,
        "passwordFile": str(folder / "password"),
        "caFile": str(vcsim.ca_file),
    }
    file = folder / "settings.yaml"
    file.write_text(json.dumps({"providers": [provider], "deniedNetworks": []}))
    return file


def export(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "inventory", "export", *args],
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("CONVERSION_GUARD_")},
    )


@pytest.mark.parametrize("name", ["snapshot.json", "snapshot.yaml", ""])
def test_what_is_written_is_what_a_live_source_knows(
    vcsim: Vcsim, tmp_path: Path, name: str
) -> None:
    file = tmp_path / (name or "stdout.json")
    options: list[str | Path] = ["--output", file] if name else []
    begun = time.monotonic()
    done = export("--settings", settings(vcsim, tmp_path), *options)
    assert done.returncode == 0, done.stderr
    if not name:
        file.write_text(done.stdout)
    (read,) = load_snapshot(file, wall=datetime.now(UTC), monotonic=time.monotonic())
    with following(live_address(vcsim, tmp_path)) as live:
        eventually(lambda: live.synced, "the first read")
        assert {vm.moref: vm for vm in read.vms} == {vm.moref: vm for vm in live.vms}
        assert set(read.vms.folders) == set(live.vms.folders)
    now = time.monotonic()
    assert 0 <= read.age(now) < 1 + now - begun, "a second's fraction is not kept"
    assert vcsim.password not in file.read_text()


def test_what_cannot_be_read_is_named_and_nothing_is_written(vcsim: Vcsim, tmp_path: Path) -> None:
    file = tmp_path / "snapshot.json"
    given = settings(vcsim, tmp_path)
    vcsim.stop()
    done = export("--settings", given, "--output", file)
    assert done.returncode == 2
    assert "provider mtv/prod has been unreachable since 20" in done.stderr
    assert "Traceback" not in done.stderr
    assert not file.exists()


def test_no_provider_at_all_is_said(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("{}")
    done = export("--settings", file)
    assert done.returncode == 2
    assert "no vSphere provider" in done.stderr
