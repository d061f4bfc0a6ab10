"""Updates as vCenter sends them and the simulator never does, from a server of the tests' own."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bed import Vcsim, add_disk, eventually, find_vm, rename
from tests.e2e.bed import wait_for as finished
from tests.live import following, fresh, live_address
from tests.middleman import Middleman, changed, fault, middleman, news
from webhook.inventory.provider import ProviderInventory

pytestmark = pytest.mark.simulator


@pytest.fixture
def man(vcsim: Vcsim) -> Iterator[Middleman]:
    with middleman(vcsim) as man:
        yield man


@pytest.fixture
def inventory(man: Middleman, vcsim: Vcsim, tmp_path: Path) -> Iterator[ProviderInventory]:
    url = f"https://127.0.0.1:{man.port}/sdk"
    with following(live_address(vcsim, tmp_path, url=url)) as inventory:
        eventually(lambda: inventory.synced and man.versions[-1:] not in ([], [""]), "a wait")
        yield inventory
        man.ending.set()


def morefs(inventory: ProviderInventory) -> dict[str, str]:
    return {vm.name: vm.moref for vm in inventory.vms}


def test_truncated_news_are_asked_on_for_and_age_waits_for_the_last(
    man: Middleman, inventory: ProviderInventory
) -> None:
    one, two = (morefs(inventory)[name] for name in ("DC0_H0_VM0", "DC0_H0_VM1"))
    heard = inventory.heard_at
    man.say(news("modify", one, changed("name", "first"), version="a", truncated=True))
    eventually(lambda: inventory.vms.named("first"), "the first half")
    assert inventory.heard_at == heard
    man.say(news("leave", two, version="b"))
    eventually(lambda: inventory.vms.by_moref(two) is None, "the second half")
    eventually(lambda: inventory.heard_at != heard, "all of it")
    eventually(lambda: man.versions[-2:] == ["a", "b"], "the versions to go on from")


def test_uuids_and_templates_are_followed(man: Middleman, inventory: ProviderInventory) -> None:
    moref = morefs(inventory)["DC0_H0_VM0"]
    old = inventory.vms.by_moref(moref)
    assert old is not None
    uuid = "11111111-2222-3333-4444-555555555555"
    man.say(
        news("modify", moref, changed("config.uuid", uuid) + changed("config.template", "true"))
    )
    eventually(lambda: inventory.vms.by_uuid(uuid), "the new uuid")
    new = inventory.vms.by_moref(moref)
    assert new is not None
    assert (new.uuid, new.template, new.disks) == (uuid, True, old.disks)
    assert not inventory.vms.by_uuid(old.uuid)


def test_a_part_of_a_property_makes_the_whole_vm_be_read(
    man: Middleman, inventory: ProviderInventory, vcsim: Vcsim
) -> None:
    moref = morefs(inventory)["DC0_H0_VM0"]
    with vcsim.connect() as instance:
        add_disk(find_vm(instance, "DC0_H0_VM0"), 1024, "[LocalDS_0] DC0_H0_VM0/hot.vmdk")
    assert len(inventory.vms.by_moref(moref).disks) == 1  # type: ignore[union-attr]
    man.say(news("modify", moref, changed("config.hardware.device[2000].backing.fileName", "x")))
    eventually(
        lambda: len(inventory.vms.by_moref(moref).disks) == 2,  # type: ignore[union-attr]
        "both disks",
    )


def test_a_read_by_name_knows_folders_that_its_news_have_not_told_of(
    inventory: ProviderInventory, vcsim: Vcsim
) -> None:
    """As long as nothing is scripted, none of what the simulator tells gets through."""
    with vcsim.connect() as instance:
        vm = find_vm(instance, "DC0_H0_VM0")
        above = vm.parent
        rename(above, "machines%2fold")
        finished(above.CreateFolder("100%").MoveIntoFolder_Task([vm]))
    (known,) = inventory.vms.named("DC0_H0_VM0")
    assert inventory.vms.folders_of(known) == ("vm", "DC0")
    read = fresh(inventory, names=["DC0/vm/DC0_H0_VM0"])
    view = inventory.vms.with_fresh([], read)
    (now,) = view.named("DC0_H0_VM0")
    assert view.folders_of(now) == ("100%", "machines/old", "DC0")
    (other,) = view.named("DC0_H0_VM1")
    assert view.folders_of(other) == ("machines/old", "DC0")


def test_a_disk_of_a_moment_ago_is_in_every_read_that_is_asked_for_then(
    inventory: ProviderInventory, vcsim: Vcsim
) -> None:
    (known,) = inventory.vms.named("DC0_H0_VM0")
    with vcsim.connect() as instance:
        vm = find_vm(instance, "DC0_H0_VM0")
        for number in range(1, 4):
            add_disk(vm, 1024, f"[LocalDS_0] DC0_H0_VM0/hot-{number}.vmdk")
            (now,) = fresh(inventory, morefs=[known.moref])
            assert len(now.disks) == len(known.disks) + number


def test_no_news_are_good_news(man: Middleman, inventory: ProviderInventory) -> None:
    heard, revision = inventory.heard_at, inventory.vms.revision
    man.say(news())
    eventually(lambda: inventory.heard_at != heard, "an answer without any news")
    assert inventory.vms.revision == revision


def test_after_a_break_it_is_unreachable_until_its_news_have_answered(
    man: Middleman, inventory: ProviderInventory
) -> None:
    before = inventory.vms
    man.first_wait.clear()
    man.say(fault("ManagedObjectNotFound"))
    eventually(lambda: inventory.vms is not before, "a new first read")
    assert inventory.unreachable_since, "it can be read, but who knows whether it tells of changes"
    man.first_wait.set()
    eventually(lambda: inventory.unreachable_since is None, "its news")


def test_what_its_updates_miss_is_found_by_reading_all_again(
    man: Middleman,
    inventory: ProviderInventory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    man.say(news("enter", "vm-777", changed("name", "ghost")))
    eventually(lambda: inventory.vms.named("ghost"), "a VM that the simulator has not")
    monkeypatch.setattr("webhook.vsphere.mirror._AFRESH", 0.0)
    man.say(fault("ManagedObjectNotFound"))
    eventually(lambda: len(inventory.vms) == 4, "a new first read")
    heard = inventory.heard_at
    man.say(news("enter", "vm-778", changed("name", "ghost")))
    eventually(lambda: "1 VMs differed" in caplog.text, "the difference")
    assert not inventory.vms.named("ghost")
    eventually(lambda: inventory.heard_at != heard, "it is followed on")


@pytest.mark.parametrize(
    "how", ["InvalidCollectorVersion", "NotAuthenticated", "ManagedObjectNotFound", "torn", "html"]
)
def test_a_wait_that_fails_begins_again_and_misses_no_vm_that_left(
    man: Middleman, inventory: ProviderInventory, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = inventory.vms
    man.say(news("enter", "vm-777", changed("name", "ghost")))
    eventually(lambda: inventory.vms.named("ghost"), "a VM that the simulator has not")
    answers = {"torn": news()[:-20], "html": b"<html>busy</html>"}
    man.say(answers.get(how) or fault(how))
    eventually(lambda: inventory.vms is not before, "a new first read")
    eventually(lambda: inventory.unreachable_since is None, "it is back")
    assert len(inventory.vms) == 4


def test_the_methods_called_are_those_that_the_docs_list(
    man: Middleman, vcsim: Vcsim, tmp_path: Path
) -> None:
    """All of a source's life: what its account needs the right to."""
    url = f"https://127.0.0.1:{man.port}/sdk"
    with following(live_address(vcsim, tmp_path, url=url)) as inventory:
        eventually(lambda: inventory.synced, "the first read")
        (vm, *_) = inventory.vms
        assert fresh(inventory, morefs=[vm.moref], uuids=[vm.uuid], names=[vm.name]) == (vm,)
        many = list(inventory.vms)
        assert len(many) > 1
    page = (Path(__file__).parents[1] / "docs" / "vsphere.md").read_text()
    section = page.partition("## What it calls")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`(\w+)`", section))
    called = set(man.calls)
    assert called <= listed, called - listed
    # Only a read of more than one page asks for the next one.
    assert listed - called <= {"ContinueRetrievePropertiesEx", "CancelWaitForUpdates"}
