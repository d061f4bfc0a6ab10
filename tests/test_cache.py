"""What a restarted guard still knows: on the simulator, and with files that are no good."""

import json
import os
import re
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cases import review_of
from tests.e2e.bed import Vcsim, eventually, find_vm
from tests.guard import Guard, running
from webhook.inventory.cache import Cache
from webhook.inventory.index import Index
from webhook.inventory.provider import ProviderInventory
from webhook.inventory.snapshot import load_snapshot
from webhook.model.objects import Provider
from webhook.model.vms import Disk, Folder, VirtualMachine

URL = "https://vcenter/sdk"
VM = VirtualMachine("vm-1", "web", "aaaa", "bbbb", disks=(Disk("[ds] web/web.vmdk", 2**30),))


def provider(url: str = URL, name: str = "prod") -> ProviderInventory:
    made = ProviderInventory(Provider("mtv", name))
    made.url = url
    return made


def known(*vms: VirtualMachine, age: float = 0.0) -> ProviderInventory:
    made = provider()
    made.vms = Index(vms or [VM], [Folder("group-1", "vm")])
    made.heard(time.monotonic() - age)
    return made


def recalled(folder: Path, into: ProviderInventory) -> ProviderInventory:
    Cache(folder).recall(into)
    return into


def test_what_is_saved_is_known_again_with_its_age(tmp_path: Path) -> None:
    many = [msgspec.structs.replace(VM, moref=f"vm-{number}") for number in range(250)]
    begun = time.monotonic()
    Cache(tmp_path).save([known(*many, age=100)])
    again = recalled(tmp_path, provider())
    assert list(again.vms) == many
    assert again.vms.folders == (Folder("group-1", "vm"),)
    now = time.monotonic()
    assert 99 < again.age(now) < 101 + now - begun, "a second's fraction is not kept"
    assert again.synced
    assert again.recalled
    assert not again.settled, "the first read still has to come"
    again.heard(time.monotonic())
    assert again.settled
    assert not again.recalled


def test_no_vms_are_known_again_as_none(tmp_path: Path) -> None:
    empty = provider()
    empty.heard(time.monotonic())
    Cache(tmp_path).save([empty])
    assert list(recalled(tmp_path, provider()).vms) == []


@pytest.mark.parametrize(
    "other", [provider("https://elsewhere/sdk"), provider(name="other")], ids=["url", "name"]
)
def test_another_vcenter_knows_nothing_of_it(tmp_path: Path, other: ProviderInventory) -> None:
    Cache(tmp_path).save([known()])
    assert not recalled(tmp_path, other).synced


def test_a_file_under_another_providers_name_is_not_its(tmp_path: Path) -> None:
    Cache(tmp_path).save([known()])
    (tmp_path / "mtv%2Fprod.json").rename(tmp_path / "mtv%2Fother.json")
    assert not recalled(tmp_path, provider(name="other")).synced


@pytest.mark.parametrize("damage", [lambda text: text[:-40], lambda text: b"", lambda text: b"\0"])
def test_a_damaged_file_is_ignored_and_told(
    tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    Cache(tmp_path).save([known()])
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert not recalled(tmp_path, provider()).synced
    assert "the inventory of an earlier run is ignored" in caplog.text


def test_nothing_is_written_while_nothing_changes(tmp_path: Path) -> None:
    cache, vcenter = Cache(tmp_path), known()

    def saved(patience: float = 300.0) -> bool:
        before = {file: file.stat().st_ino for file in tmp_path.iterdir()}
        cache.save([vcenter], patience)
        return {file: file.stat().st_ino for file in tmp_path.iterdir()} != before

    assert saved()
    vcenter.heard(time.monotonic() + 1)
    assert not saved(), "a little older is no change"
    assert saved(patience=0.0), "but at the end it counts"
    vcenter.vms.put(msgspec.structs.replace(VM, name="renamed"))
    assert saved()
    vcenter.vms = Index([VM])
    assert saved()
    vcenter.heard(time.monotonic() + 1000)
    assert saved(), "its age counts"


def test_what_was_recalled_is_not_written_again(tmp_path: Path) -> None:
    Cache(tmp_path).save([known()])
    (file,) = tmp_path.iterdir()
    cache, again = Cache(tmp_path), provider()
    cache.recall(again)
    before = file.stat().st_ino
    cache.save([again], patience=0.0)
    assert file.stat().st_ino == before


def test_only_what_is_read_live_is_written_and_nobody_else_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "when-needed"
    snapshot = known()
    snapshot.url = ""
    Cache(folder).save([snapshot, provider(), known()])
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    (one,) = load_snapshot(file, wall=datetime.now(UTC), monotonic=time.monotonic())
    assert (one.name, one.url) == ("mtv/prod", URL)


def test_a_folder_that_cannot_be_written_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "folder")
    for _ in range(2):
        cache.save([known()])
    assert len(caplog.records) == 1
    assert "cacheDir: " in caplog.text


def test_a_file_that_cannot_be_written_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mtv%2Fbad.part").mkdir()  # in the way of what is written first
    bad, good = known(), known()
    bad.provider = Provider("mtv", "bad")
    bad.name = "mtv/bad"
    cache = Cache(tmp_path)
    for _ in range(2):
        cache.save([bad, good])
    assert recalled(tmp_path, provider()).synced
    assert len(caplog.records) == 1
    assert "cacheDir: " in caplog.text
    (tmp_path / "mtv%2Fbad.part").rmdir()
    cache.save([bad, good])
    assert recalled(tmp_path, provider(name="bad")).synced


def test_a_provider_of_the_longest_name_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Kubernetes takes 63 and 253 characters, and a file system 255."""
    longest = [ProviderInventory(Provider("n" * 63, f"{'x' * 252}{last}")) for last in "ab"]
    for one in longest:
        one.url, one.vms = URL, Index([VM])
        one.heard(time.monotonic())
    Cache(tmp_path).save(longest)
    assert len(list(tmp_path.iterdir())) == 2
    for one in longest:
        again = ProviderInventory(one.provider)
        again.url = URL
        assert recalled(tmp_path, again).synced


def test_a_folder_that_cannot_be_read_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").touch()
    assert not recalled(tmp_path / "cache", provider()).synced
    assert "Not a directory" in caplog.text


def test_what_was_read_in_the_future_is_left_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Cache(tmp_path).save([known(age=-3600)])
    assert not recalled(tmp_path, provider()).synced
    assert "readAt is in the future" in caplog.text


def test_an_index_may_change_while_it_is_saved(tmp_path: Path) -> None:
    vcenter = known(*(msgspec.structs.replace(VM, moref=f"vm-{n}") for n in range(2000)))
    done = threading.Event()

    def change() -> None:
        number = 0
        while not done.is_set():
            number += 1
            vcenter.vms.put(msgspec.structs.replace(VM, moref=f"vm-{number}"))
            vcenter.vms.drop(f"vm-{number - 1}")

    writer = threading.Thread(target=change)
    writer.start()
    try:
        for _ in range(20):
            Cache(tmp_path).save([vcenter])
            assert recalled(tmp_path, provider()).synced
    finally:
        done.set()
        writer.join()


def _settings(vcsim: Vcsim, folder: Path, **more: Any) -> dict[str, Any]:
    (folder / "password").write_text(vcsim.password)
    return {
        "providers": [
            {
                "namespace": "mtv",
                "name": "prod",
                "url": vcsim.url,
                "user": vcsim.user,
                "passwordFile": str(folder / "password"),
                "caFile": str(vcsim.ca_file),
            }
        ],
        "deniedNetworks": [],
        "cacheDir": str(folder / "cache"),
        **more,
    }


def _ready(guard: Guard) -> None:
    with guard.client() as client:
        eventually(lambda: client.get("/readyz").status_code == 200, "it is ready")


def _pvc(vcsim: Vcsim) -> dict[str, Any]:
    with vcsim.connect() as instance:
        vm = find_vm(instance, "DC0_H0_VM0")
        disk = next(d for d in vm.config.hardware.device if hasattr(d, "capacityInKB"))
        labels = {"vmID": vm._moId, "vmUUID": vm.config.uuid}
        source = disk.backing.fileName
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "disk",
            "namespace": "default",
            "labels": labels,
            "annotations": {"forklift.konveyor.io/disk-source": source},
        },
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "volumeMode": "Block",
            "resources": {"requests": {"storage": "100Gi"}},
        },
    }


def _judged(guard: Guard, obj: dict[str, Any]) -> dict[str, Any]:
    with guard.client() as client:
        answer = client.post("/validate?timeout=5s", json=review_of(obj))
    response: dict[str, Any] = answer.json()["response"]
    return response


@pytest.mark.simulator
def test_a_restart_during_an_outage_still_knows(vcsim: Vcsim, tmp_path: Path) -> None:
    settings = _settings(vcsim, tmp_path)
    right = _pvc(vcsim)
    with running(tmp_path, settings) as guard:
        _ready(guard)
        assert _judged(guard, right)["allowed"]
        vcsim.stop()
        assert guard.stop() == 0
    with running(tmp_path, settings) as guard:
        _ready(guard)
        answer = _judged(guard, right)
        assert answer["allowed"]
        (warning,) = [
            text for text in answer["warnings"] if "checked with the inventory of" in text
        ]
        assert re.search(r"\d:\d\d:\d\d", warning)
        assert "provider mtv/prod has been unreachable since 20" in warning
        wrong = json.loads(json.dumps(right).replace(".vmdk", "-wrong.vmdk"))
        status = _judged(guard, wrong)["status"]
        assert (status["code"], status["reason"]) == (503, "ServiceUnavailable"), "not confirmed"
        vcsim.start()
        _live(guard, right)
    (tmp_path / "short").mkdir()
    stale = _settings(vcsim, tmp_path, maxAge="0.001s")
    vcsim.stop()
    with running(tmp_path / "short", stale) as guard:
        _ready(guard)
        status = _judged(guard, right)["status"]
        assert status["code"] == 503, "what is too old decides nothing"


def _live(guard: Guard, right: dict[str, Any]) -> None:
    def live() -> bool:
        answer = _judged(guard, right)
        return answer["allowed"] and "checked with the inventory" not in str(answer.get("warnings"))

    eventually(live, "the vCenter is read again")


@pytest.mark.simulator
def test_a_damaged_cache_does_not_stop_a_start(vcsim: Vcsim, tmp_path: Path) -> None:
    settings = _settings(vcsim, tmp_path)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "mtv%2Fprod.json").write_bytes(os.urandom(100))
    with running(tmp_path, settings) as guard:
        _ready(guard)
        assert "the inventory of an earlier run is ignored" in guard.log
        assert _judged(guard, _pvc(vcsim))["allowed"]
