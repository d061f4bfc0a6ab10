"""Which VM an entry of a Plan means: one function, whoever asks, as Forklift looks VMs up."""

from typing import Any

import msgspec
import pytest

from tests.cases import NAMESPACE, VSPHERE
from tests.test_decide import DATABASE, PLAN, Vcenter, judged
from webhook.cli.demo import merged
from webhook.facts.lookup import look_up
from webhook.inventory.index import Index
from webhook.model.review import Admitted, Denied
from webhook.model.vms import Folder, VirtualMachine

FOLDERS = (
    Folder("datacenter-1", "DC0"),
    Folder("group-v1", "vm", "datacenter-1"),
    Folder("group-v2", "blue", "group-v1"),
    Folder("group-v3", "green", "group-v1"),
)


def vm(moref: str, name: str, parent: str = "group-v1", **more: Any) -> VirtualMachine:
    return VirtualMachine(moref, name, uuid=f"uuid-of-{moref}", parent=parent, **more)


def index(*vms: VirtualMachine) -> Index:
    return Index(vms, FOLDERS)


WEB = vm("vm-1", "web")


@pytest.mark.parametrize("path", ["web", "vm/web", "/DC0/vm/web", "DC0/vm/web", "elsewhere/web"])
def test_a_paths_folders_count_only_among_namesakes(path: str) -> None:
    assert look_up("", path, index(WEB)).vm == WEB


def test_among_namesakes_the_path_chooses() -> None:
    blue, green = vm("vm-1", "web", "group-v2"), vm("vm-2", "web", "group-v3")
    vms = index(blue, green)
    assert look_up("", "blue/web", vms).vm == blue
    assert look_up("", "/DC0/vm/green/web", vms).vm == green
    assert look_up("", "vm/web", vms).outcome == "none"
    assert look_up("", "web", vms).outcome == "several"


def test_by_name_templates_and_ghosts_are_left_out_by_id_nothing_is() -> None:
    template = vm("vm-2", "web", template=True)
    ghost = VirtualMachine("vm-3", "web")
    vms = index(WEB, template, ghost)
    assert look_up("", "web", vms).vm == WEB
    assert look_up("vm-2", "", vms).outcome == "template"
    assert look_up("vm-3", "", vms).vm == ghost
    assert look_up("", "web", index(template)).outcome == "template"


def test_a_template_among_namesakes_makes_the_folders_count() -> None:
    template = vm("vm-2", "web", "group-v2", template=True)
    assert look_up("", "elsewhere/web", index(WEB, template)).outcome == "none"
    assert look_up("", "vm/web", index(WEB, template)).vm == WEB


@pytest.mark.parametrize("name", ["web 100%", "a/b", "CORP\\x", "ü", "%2f", "a%zz", "[x] <&>"])
def test_any_name_can_be_named(name: str) -> None:
    odd = vm("vm-1", name)
    assert look_up("", name, index(odd, vm("vm-2", "other"))).vm == odd


def test_an_id_wins_over_the_name() -> None:
    assert look_up("vm-1", "other", index(WEB, vm("vm-2", "other"))).vm == WEB


@pytest.mark.parametrize(("moref", "name"), [("vm-1", ""), ("vm-1", "web"), ("", "web")])
def test_what_has_succeeded_is_done_however_it_is_named(moref: str, name: str) -> None:
    assert look_up(moref, name, index(WEB), {"vm-1"}).outcome == "done"


def test_what_has_succeeded_is_done_also_when_the_vm_is_gone() -> None:
    assert look_up("vm-1", "", index(), {"vm-1"}).outcome == "done"
    assert look_up("", "", index(WEB)).outcome == "none"


def plan(*vms: dict[str, Any], **more: Any) -> dict[str, Any]:
    return merged(PLAN, {"spec": {"vms": list(vms)}, **more})


def test_a_plan_is_judged_the_same_after_a_fresh_read() -> None:
    """A fresh read must not lose the folders: the one denied entry makes all be read again."""
    blue, green = vm("vm-1", "web", "group-v2"), vm("vm-2", "web", "group-v3")
    vcenter = Vcenter(VSPHERE)
    vcenter.truth = vcenter.inventory.vms = index(blue, green)
    verdict = judged(plan({"name": "blue/web"}, {"id": "vm-404"}), vcenter)
    assert isinstance(verdict, Denied)
    assert [cause.field for cause in verdict.causes] == ["spec.vms[1].id"]


@pytest.mark.parametrize(
    ("old", "new", "twins"),
    [
        ([], [{"id": "vm-178"}, {"name": "database"}], [1]),
        ([{"id": "vm-178"}], [{"id": "vm-178"}, {"id": "vm-178"}], [1]),
        ([{"id": "vm-178"}], [{"name": "database"}, {"id": "vm-178"}], [0]),
        ([{"id": "vm-178"}, {"id": "vm-178"}], [{"id": "vm-178"}, {"id": "vm-178"}], []),
    ],
)
def test_the_same_vm_twice_is_found_at_the_entry_that_is_new(
    old: list[Any], new: list[Any], twins: list[int]
) -> None:
    before = plan(*old) if old else None
    verdict = judged(plan(*new), Vcenter(VSPHERE, DATABASE), old=before, trust_network=True)
    if not twins:
        assert isinstance(verdict, Admitted)
        return
    assert isinstance(verdict, Denied)
    fields = [cause.field for cause in verdict.causes if "is the same VM as" in cause.message]
    assert [int(field[len("spec.vms[")]) for field in fields] == twins


def test_a_rerun_skips_what_has_succeeded_by_name() -> None:
    status = {
        "migration": {
            "vms": [{"id": "vm-178", "conditions": [{"type": "Succeeded", "status": "True"}]}]
        }
    }
    template = msgspec.structs.replace(DATABASE, template=True, power_state="poweredOff")
    done = plan({"name": "database"}, status=status)
    old = merged(done, {"spec": {"targetNamespace": "before"}})
    assert isinstance(judged(done, Vcenter(VSPHERE, DATABASE), old=old), Admitted)
    assert isinstance(judged(done, Vcenter(VSPHERE, template), old=old), Denied)
    assert NAMESPACE
