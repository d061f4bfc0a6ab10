"""Several vCenters: morefs repeat, so every one is asked before a denial, and none speaks for a VM
that it doesn't know."""

from typing import Any

import msgspec
import pytest

from tests.test_decide import DATABASE, OTHER, PVC, Vcenter, judged, patched, pvc, rules
from webhook.errors import VsphereUnreachable
from webhook.model.review import Admitted, Denied, Undecided, Verdict
from webhook.model.vms import VirtualMachine

SAME_MOREF = msgspec.structs.replace(
    DATABASE,
    name="stranger",
    uuid="4232aaaa-0000-0000-0000-000000000001",
    instance_uuid="5032aaaa-0000-0000-0000-000000000001",
)
FULL = DATABASE.disks[0].disk_source


def messages(verdict: Verdict) -> str:
    assert isinstance(verdict, Denied)
    return "\n".join(map(str, verdict.causes))


class TestBeforeADenial:
    def test_one_that_is_behind_is_asked_though_another_knows_the_moref(self) -> None:
        behind = Vcenter("b", DATABASE, known=[])
        assert isinstance(judged(PVC, Vcenter("a", SAME_MOREF), behind), Admitted)

    def test_one_out_of_reach_makes_it_undecided(self) -> None:
        away = Vcenter("b", DATABASE, known=[])
        away.fails = VsphereUnreachable("provider mtv/b is unreachable")
        verdict = judged(PVC, Vcenter("a", SAME_MOREF), away)
        assert isinstance(verdict, Undecided)
        assert verdict.doubt == "unreachable"

    def test_one_that_hangs_is_named(self) -> None:
        away = Vcenter("b", DATABASE, known=[])
        away.hangs = True
        verdict = judged(PVC, Vcenter("a", SAME_MOREF), away, patience=0.2)
        assert isinstance(verdict, Undecided)
        assert "/b did not answer" in verdict.message
        assert "/a" not in verdict.message


class TestWhoSpeaks:
    @pytest.mark.parametrize("wrong", [{"source": "[x] y.vmdk"}, {"uuid": SAME_MOREF.uuid}])
    def test_one_that_doesnt_know_the_vm_switches_no_denial_off(
        self, wrong: dict[str, Any]
    ) -> None:
        """`pvc-vm: warn` makes the other vCenter's only finding a warning."""
        lenient: Any = {"actions": {"pvc-vm": "warn"}}
        obj = pvc(**{"source": "[x] y.vmdk", **wrong})
        alone = judged(obj, Vcenter("a", DATABASE), **lenient)
        both = judged(obj, Vcenter("b"), Vcenter("a", DATABASE), **lenient)
        assert type(alone) is type(both)
        if isinstance(alone, Denied):
            assert rules(alone) == rules(both)

    def test_where_nobody_knows_it_the_chosen_action_counts(self) -> None:
        lenient: Any = {"actions": {"pvc-vm": "warn"}}
        assert isinstance(
            judged(pvc(vm_id="vm-9"), Vcenter("a"), Vcenter("b"), **lenient), Admitted
        )


class TestAdvice:
    """All candidates with their providers, or none."""

    MISSING = pvc(uuid=None)

    @pytest.mark.parametrize("obj", [MISSING, pvc(uuid="42320000-0000-4000-8000-000000000000")])
    def test_two_vcenters_have_the_moref(self, obj: dict[str, Any]) -> None:
        vcenters = Vcenter("a", SAME_MOREF), Vcenter("b", DATABASE)
        told = messages(judged(obj, *vcenters, trust_network=True))
        for vm, name in ((SAME_MOREF, "a"), (DATABASE, "b")):
            assert vm.uuid in told
            assert f"{vm} of openshift-mtv/{name}" in told
        verdict = judged(obj, *vcenters, trust_network=True)
        assert isinstance(verdict, Denied)
        assert [cause.expected for cause in verdict.causes] == [None]

    def test_one_of_them_is_unknown_yet(self) -> None:
        vcenters = Vcenter("a", SAME_MOREF), Vcenter("b", DATABASE).never_read()
        verdict = judged(self.MISSING, *vcenters, trust_network=True)
        assert isinstance(verdict, Denied)
        assert SAME_MOREF.uuid not in messages(verdict)

    def test_a_single_one_is_the_fix(self) -> None:
        verdict = judged(self.MISSING, Vcenter("a", DATABASE), Vcenter("b"), trust_network=True)
        assert f'write "{DATABASE.uuid}"' in messages(verdict)
        assert isinstance(verdict, Denied)
        assert verdict.causes[0].expected == DATABASE.uuid

    @pytest.mark.parametrize("vm_id", ["database", "VM 178", "vm-404"])
    def test_a_vmuuid_that_identifies_the_vm_tells_its_moref(self, vm_id: str) -> None:
        verdict = judged(pvc(vm_id=vm_id), Vcenter("a", DATABASE), trust_network=True)
        assert '"vm-178"' in messages(verdict)
        assert isinstance(verdict, Denied)
        assert verdict.causes[0].expected == "vm-178"
        assert "vm-178" not in messages(judged(pvc(vm_id=vm_id), Vcenter("a", DATABASE)))


class TestRepairs:
    """Only where the object proves the VM, or every provider was asked and one VM fits."""

    BARE = "disk-001.vmdk"

    def filled(self, obj: dict[str, Any], *vcenters: Vcenter) -> list[str]:
        return [str(path[-1]) for path in patched(obj, *vcenters, trust_network=True)]

    def test_a_moref_alone_while_another_is_out_of_reach(self) -> None:
        obj = pvc(uuid="4232eeee-0000-0000-0000-000000000009", source=self.BARE)
        away = Vcenter("b", SAME_MOREF).never_read()
        assert self.filled(obj, Vcenter("a", DATABASE), away) == []

    def test_a_proven_vm_while_another_is_out_of_reach(self) -> None:
        away = Vcenter("b", SAME_MOREF).never_read()
        obj = pvc(source=self.BARE)
        assert self.filled(obj, Vcenter("a", DATABASE), away) == [
            "forklift.konveyor.io/disk-source"
        ]

    def test_a_missing_vmuuid_while_another_is_out_of_reach(self) -> None:
        away = Vcenter("b", SAME_MOREF).never_read()
        assert self.filled(pvc(uuid=None), Vcenter("a", DATABASE), away) == []
        assert self.filled(pvc(uuid=None), Vcenter("a", DATABASE), Vcenter("b")) == ["vmUUID"]

    def test_two_that_have_the_moref(self) -> None:
        both = Vcenter("a", DATABASE), Vcenter("b", SAME_MOREF)
        assert self.filled(pvc(uuid=None), *both) == []

    def test_one_that_has_nothing_to_fill_in_is_no_veto(self) -> None:
        empty = msgspec.structs.replace(DATABASE, disks=())
        same = Vcenter("b", empty)  # a restored copy of the whole vCenter: one moref, one uuid
        obj = pvc(source=self.BARE)
        assert self.filled(obj, Vcenter("a", DATABASE), same) == [
            "forklift.konveyor.io/disk-source"
        ]

    def test_one_by_which_it_is_right_is_a_veto(self) -> None:
        """A copy of the vCenter, whose datastore has another name: one of them is meant."""
        disk = msgspec.structs.replace(DATABASE.disks[0], file=FULL.replace("Local", "LOCAL"))
        renamed = msgspec.structs.replace(DATABASE, disks=(disk,))
        for vcenters in (
            (Vcenter("a", DATABASE), Vcenter("b", renamed)),
            (Vcenter("a", renamed), Vcenter("b", DATABASE)),
        ):
            assert self.filled(pvc(uuid=DATABASE.uuid.upper()), *vcenters) == ["vmUUID"]


def test_what_is_to_be_written_is_no_template_and_goes_with_its_uuid() -> None:
    template = msgspec.structs.replace(DATABASE, template=True)
    told = messages(judged(pvc(vm_id="vm-9"), Vcenter("a", template), trust_network=True))
    assert DATABASE.moref not in told
    by_instance = pvc(vm_id="vm-9", uuid=DATABASE.instance_uuid)
    told = messages(judged(by_instance, Vcenter("a", DATABASE), trust_network=True))
    assert f'"{DATABASE.moref}"' in told
    assert f'with its config.uuid "{DATABASE.uuid}"' in told


@pytest.mark.parametrize("vms", [[], [DATABASE], [OTHER]])
def test_a_second_empty_vcenter_changes_no_verdict(vms: list[VirtualMachine]) -> None:
    for obj in (PVC, pvc(vm_id="vm-9"), pvc(uuid=OTHER.uuid), pvc(source="[x] y.vmdk"), pvc(None)):
        alone = judged(obj, Vcenter("a", *vms))
        assert type(judged(obj, Vcenter("b"), Vcenter("a", *vms))) is type(alone)
