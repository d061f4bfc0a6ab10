"""Verdicts that no single object decides: several vCenters, age, fresh reads, and deadlines."""

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from tests.cases import BASE, NAMESPACE, PATIENCE, READY_PLAN, VSPHERE, repaired, review_of
from webhook.cli.demo import merged
from webhook.engine.judge import decide
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.errors import VsphereUnreachable
from webhook.inventory.index import Index
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.inventory.snapshot import SnapshotReader
from webhook.model.keys import DISK_SOURCE, VM_ID, VM_UUID
from webhook.model.objects import Provider
from webhook.model.review import Admitted, Denied, Undecided, Verdict
from webhook.model.vms import Disk, VirtualMachine
from webhook.rules import RULES
from webhook.server.codec import read_review

PVC: dict[str, Any] = BASE["PersistentVolumeClaim"]
PLAN: dict[str, Any] = READY_PLAN
DATABASE = msgspec.convert({"moref": "vm-178", **BASE["vsphere"]["vm-178"]}, VirtualMachine)
NOW = 10_000.0


class Vcenter:
    """A vSphere whose truth may differ from what the inventory knows, and that counts its reads."""

    def __init__(self, name: str, *vms: VirtualMachine, known: Any = None, age: float = 0) -> None:
        self.truth = Index(vms)
        self.reads = 0
        self.fails: Exception | None = None
        self.hangs = False
        self.inventory = ProviderInventory(Provider(NAMESPACE, name), self)
        self.inventory.vms = Index(vms if known is None else known)
        self.inventory.heard(NOW - age)

    async def read(
        self,
        *,
        morefs: Collection[str],
        uuids: Collection[str],
        names: Collection[str],
        user: str = "",
        since: float,
    ) -> tuple[VirtualMachine, ...]:
        self.reads += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails:
            raise self.fails
        reader = SnapshotReader(self.truth)
        return await reader.read(morefs=morefs, uuids=uuids, names=names, since=since)

    def never_read(self) -> "Vcenter":
        """One whose first read has not finished."""
        self.inventory = ProviderInventory(self.inventory.provider, self)
        return self


def judged(
    obj: dict[str, Any],
    *vcenters: Vcenter,
    old: Any = None,
    patience: float = PATIENCE,
    **policy: Any,
) -> Verdict:
    async def judge() -> Verdict:
        review = read_review(msgspec.json.encode(review_of(obj, old)))
        deadline = asyncio.get_running_loop().time() + patience
        return await decide(review, sources(*vcenters, **policy), deadline)

    return asyncio.run(judge())


def sources(*vcenters: Vcenter, **policy: Any) -> Sources:
    inventory = Inventory(vcenter.inventory for vcenter in vcenters)
    return Sources(inventory, Policy(**policy), lambda: NOW)


def patched(obj: dict[str, Any], *vcenters: Vcenter, **policy: Any) -> list[tuple[str | int, ...]]:
    review = read_review(msgspec.json.encode(review_of(obj)))
    return [op.path for op in repaired(review, sources(*vcenters, **policy)).patch]


def pvc(vm_id: str | None = "vm-178", uuid: str | None = DATABASE.uuid, source: Any = ...) -> Any:
    keys = {} if source is ... else {DISK_SOURCE: source}
    labels = {VM_ID: vm_id, VM_UUID: uuid}
    return merged(PVC, {"metadata": {"labels": labels, "annotations": keys}})


def rules(verdict: Verdict) -> set[str]:
    assert isinstance(verdict, Denied)
    return {cause.rule for cause in verdict.causes}


OTHER = msgspec.structs.replace(
    DATABASE, name="other", uuid="4232aaaa-0000-0000-0000-000000000001", instance_uuid="", disks=()
)


class TestFreshReads:
    def test_an_admission_never_asks_vsphere(self) -> None:
        vcenter = Vcenter("a", DATABASE)
        assert isinstance(judged(PVC, vcenter), Admitted)
        assert vcenter.reads == 0

    def test_a_denial_asks_once_and_stands_if_it_is_so(self) -> None:
        vcenter = Vcenter("a", DATABASE)
        assert rules(judged(pvc(source="[x] y.vmdk"), vcenter)) == {"pvc-disk-source"}
        assert vcenter.reads == 1

    @pytest.mark.parametrize(
        "obj", [PVC, PLAN, merged(PLAN, {"spec": {"vms": [{"name": "database"}]}})]
    )
    def test_what_the_inventory_has_not_heard_of_yet_is_admitted(self, obj: dict[str, Any]) -> None:
        name = "vsphere-production"
        assert isinstance(judged(obj, Vcenter(name, DATABASE, known=[])), Admitted)

    def test_a_disk_that_was_just_added_is_admitted(self) -> None:
        known = msgspec.structs.replace(DATABASE, disks=DATABASE.disks[1:])
        assert isinstance(judged(PVC, Vcenter("a", DATABASE, known=[known])), Admitted)

    def test_a_vm_that_moved_to_a_new_moref_is_judged_by_what_it_is_now(self) -> None:
        moved = msgspec.structs.replace(DATABASE, moref="vm-200")
        verdict = judged(
            pvc(vm_id="vm-177"), Vcenter("a", moved, known=[DATABASE]), trust_network=True
        )
        assert isinstance(verdict, Denied)
        assert '"vm-200"' in str(verdict.causes[0])

    def test_a_denial_that_cannot_be_confirmed_is_undecided(self) -> None:
        vcenter = Vcenter("a", DATABASE)
        vcenter.fails = VsphereUnreachable("provider mtv/a has been unreachable since noon")
        verdict = judged(pvc(source="[x] y.vmdk"), vcenter)
        why = "provider mtv/a has been unreachable since noon"
        assert verdict == Undecided(why, "unreachable", audit=verdict.audit)

    def test_a_vsphere_that_does_not_answer_in_time_makes_it_undecided(self) -> None:
        vcenter = Vcenter("a", DATABASE)
        vcenter.hangs = True
        verdict = judged(pvc(source="[x] y.vmdk"), vcenter, patience=0.05)
        assert isinstance(verdict, Undecided)
        assert "did not answer in time for this request" in verdict.message

    def test_what_the_object_alone_proves_wrong_is_denied_whatever_vsphere_does(self) -> None:
        vcenter = Vcenter("a", DATABASE)
        vcenter.fails = VsphereUnreachable("gone")
        assert rules(judged(pvc(source=None), vcenter)) == {"pvc-metadata"}
        assert vcenter.reads == 0
        both_wrong = pvc(uuid=OTHER.uuid, source=None)
        assert rules(judged(both_wrong, vcenter)) == {"pvc-metadata"}
        vcenter.fails = None
        assert rules(judged(both_wrong, vcenter)) == {"pvc-metadata", "pvc-vm"}

    def test_only_the_entries_in_doubt_are_read(self) -> None:
        asked: list[Collection[str]] = []

        class Counting(Vcenter):
            async def read(self, **wanted: Any) -> tuple[VirtualMachine, ...]:
                asked.append(wanted["morefs"])
                return await super().read(**wanted)

        plan = merged(PLAN, {"spec": {"vms": [{"id": "vm-178"}, {"id": "vm-9"}]}})
        assert rules(judged(plan, Counting("vsphere-production", DATABASE))) == {"plan-vm"}
        assert asked == [{"vm-9"}]


class TestSeveralVcenters:
    def test_one_that_is_satisfied_is_enough(self) -> None:
        verdict = judged(PVC, Vcenter("a", OTHER), Vcenter("b", DATABASE), Vcenter("c"))
        assert isinstance(verdict, Admitted)
        assert verdict.audit["provider"] == f"{NAMESPACE}/b"

    def test_one_that_was_never_read_makes_an_unknown_vm_undecided_by_name(self) -> None:
        verdict = judged(pvc(vm_id="vm-9"), Vcenter("a", DATABASE), Vcenter("b").never_read())
        assert isinstance(verdict, Undecided)
        assert f"{NAMESPACE}/b" in verdict.message
        assert verdict.retry_after_seconds == 2

    def test_one_that_is_unreachable_is_not_worth_a_retry(self) -> None:
        gone = Vcenter("b").never_read()
        gone.inventory.lost("connection refused", datetime(2026, 11, 24, tzinfo=UTC))
        verdict = judged(pvc(vm_id="vm-9"), Vcenter("a", DATABASE), gone)
        assert isinstance(verdict, Undecided)
        assert verdict.retry_after_seconds is None
        assert "unreachable since 2026-11-24T00:00:00Z (connection refused)" in verdict.message

    def test_an_ignored_one_is_silent(self) -> None:
        verdict = judged(
            pvc(vm_id="vm-9"),
            Vcenter("a", DATABASE),
            Vcenter("b").never_read(),
            ignore_providers=frozenset({f"{NAMESPACE}/b"}),
        )
        assert rules(verdict) == {"pvc-vm"}

    def test_the_best_candidate_speaks_but_all_are_asked(self) -> None:
        right, stranger = Vcenter("a", DATABASE), Vcenter("b", OTHER)
        verdict = judged(pvc(source="[x] y.vmdk"), stranger, right)
        assert rules(verdict) == {"pvc-disk-source"}
        assert (right.reads, stranger.reads) == (1, 1)

    def test_nobody_knows_the_vm_so_all_are_asked(self) -> None:
        late = Vcenter("b", DATABASE, known=[])
        asked = Vcenter("a")
        assert isinstance(judged(PVC, asked, late), Admitted)
        assert (asked.reads, late.reads) == (1, 1)

    def test_a_uuid_of_another_vcenter_is_named_to_who_may_know(self) -> None:
        elsewhere = msgspec.structs.replace(DATABASE, moref="vm-7")
        vcenters = Vcenter("a", OTHER), Vcenter("b", elsewhere)
        told = judged(PVC, *vcenters, trust_network=True)
        untold = judged(PVC, *vcenters)
        assert isinstance(told, Denied)
        assert isinstance(untold, Denied)
        assert f'vm-7 ("database") of {NAMESPACE}/b' in "".join(map(str, told.causes))
        assert "vm-7" not in str(untold.causes[0])
        assert OTHER.uuid not in str(untold.causes[0])

    def test_two_that_agree_fill_in_and_two_that_differ_do_not(self) -> None:
        bare = pvc(source="disk-001.vmdk")
        disk = Disk("[other] z/disk-001.vmdk", 1)
        differing = msgspec.structs.replace(DATABASE, disks=(disk,))
        assert patched(bare, Vcenter("a", DATABASE), Vcenter("b", DATABASE))
        assert not patched(bare, Vcenter("a", DATABASE), Vcenter("b", differing))
        assert patched(bare, Vcenter("a", DATABASE), Vcenter("b", OTHER))

    def test_the_only_one_of_its_kind_is_not_certain_while_a_vcenter_is_silent(self) -> None:
        alone, silent = Vcenter("a", DATABASE), Vcenter("b").never_read()
        half = pvc(uuid=None)
        assert patched(half, alone, trust_network=True)
        assert not patched(half, alone, silent, trust_network=True)
        assert not patched(half, alone)

    def test_a_plan_asks_its_own_provider_only(self) -> None:
        silent = Vcenter("b").never_read()
        assert isinstance(judged(PLAN, Vcenter("vsphere-production", DATABASE), silent), Admitted)


class TestAge:
    def test_past_the_limit_an_admission_is_undecided_too(self) -> None:
        for obj, name in ((PVC, "a"), (PLAN, "vsphere-production")):
            verdict = judged(obj, Vcenter(name, DATABASE, age=3601))
            assert isinstance(verdict, Undecided)
            assert "1:00:01 old, maxAge is 1:00:00" in verdict.message
            assert isinstance(judged(obj, Vcenter(name, DATABASE, age=3599)), Admitted)

    def test_an_outage_within_the_limit_admits_with_a_warning(self) -> None:
        vcenter = Vcenter("a", DATABASE, age=90)
        vcenter.inventory.lost("connection refused", datetime(2026, 11, 24, tzinfo=UTC))
        verdict = judged(PVC, vcenter)
        assert isinstance(verdict, Admitted)
        (warning,) = verdict.warnings
        assert "0:01:30 ago" in warning
        assert "unreachable since 2026-11-24T00:00:00Z" in warning

    def test_undecided_may_warn(self) -> None:
        verdict = judged(PVC, Vcenter("a").never_read(), undecided="warn")
        assert isinstance(verdict, Admitted)
        assert verdict.warnings[0].startswith("not checked: ")

    def test_no_provider_at_all_is_undecided(self) -> None:
        verdict = judged(PVC)
        assert isinstance(verdict, Undecided)
        assert "no vSphere provider is known" in verdict.message

    def test_what_asks_nothing_of_vsphere_needs_none(self) -> None:
        lone = pvc(uuid=None, source=None)
        assert isinstance(judged(lone), Admitted)
        assert isinstance(judged(merged(PLAN, {"spec": {"type": "cold"}})), Admitted)


class TestVmsThatCannotBeRead:
    @pytest.mark.parametrize(
        "change",
        [{"uuid": ""}, {"connection_state": "disconnected"}, {"connection_state": "orphaned"}],
        ids=str,
    )
    def test_a_claim_is_undecided_and_a_plan_warned(self, change: dict[str, str]) -> None:
        vm = msgspec.structs.replace(DATABASE, **change)
        assert isinstance(judged(PVC, Vcenter("a", vm)), Undecided)
        planned = judged(PLAN, Vcenter("vsphere-production", vm), trust_network=True)
        assert isinstance(planned, Admitted)
        assert "fix that before" in planned.warnings[0]


class TestRatchet:
    def test_only_new_entries_of_a_plan_are_judged(self) -> None:
        old = merged(PLAN, {"spec": {"vms": [{"id": "vm-9"}]}})
        new = merged(PLAN, {"spec": {"vms": [{"id": "vm-9"}, {"id": "vm-10"}]}})
        verdict = judged(new, Vcenter("vsphere-production", DATABASE), old=old)
        assert isinstance(verdict, Denied)
        assert [cause.field for cause in verdict.causes] == ["spec.vms[1].id"]

    @pytest.mark.parametrize(
        "change",
        [
            {"targetNamespace": "elsewhere"},
            {"type": "cold"},
            {"provider": {"source": {"name": "b"}}},
        ],
        ids=str,
    )
    def test_all_are_judged_when_the_plan_turns_elsewhere(self, change: dict[str, Any]) -> None:
        new = merged(PLAN, {"spec": {"vms": [{"id": "vm-9"}]}})
        old = merged(new, {"spec": change})
        verdict = judged(new, Vcenter("vsphere-production", DATABASE), old=old)
        assert rules(verdict) == {"plan-vm"}

    def test_a_vm_that_is_migrated_is_not_judged_again(self) -> None:
        done = {"type": "Succeeded", "status": "True"}
        status = {"migration": {"vms": [{"id": "vm-9", "conditions": [done]}]}}
        new = {**merged(PLAN, {"spec": {"vms": [{"id": "vm-9"}]}}), "status": status}
        old = merged(new, {"spec": {"targetNamespace": "elsewhere"}})
        vcenter = Vcenter("vsphere-production", DATABASE)
        assert isinstance(judged(new, vcenter, old=old), Admitted)

    def test_an_archived_plan_is_nobodys_business(self) -> None:
        archived = merged(PLAN, {"spec": {"archived": True, "vms": [{"id": "vm-9"}]}})
        assert judged(archived, Vcenter("vsphere-production")) == Admitted()


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_whoever_cant_tell_keeps_another_from_denying_whatever_their_names(
    names: tuple[str, str],
) -> None:
    replace = msgspec.structs.replace
    moved = replace(DATABASE, disks=(Disk("[DR] database/disk-001.vmdk", 10 << 30),))
    away = replace(DATABASE, connection_state="disconnected")
    one, other = (Vcenter(name, vm) for name, vm in zip(names, (moved, away), strict=True))
    assert isinstance(judged(PVC, one, other), Undecided)
    assert isinstance(judged(PVC, one), Denied)


def test_a_vm_that_another_name_once_meant_is_read_afresh_too() -> None:
    """What was deleted a moment ago is still known, and must deny nothing."""
    gone = msgspec.structs.replace(DATABASE, moref="vm-179", uuid="", instance_uuid="")
    named = {"id": "vm-178", "name": "old-name"}
    cases = ({"name": "team-a/database"}, gone.name), (named, "old-name")
    for entry, name in cases:
        plan = merged(PLAN, {"spec": {"vms": [entry]}})
        known = (DATABASE, msgspec.structs.replace(gone, name=name))
        verdict = judged(plan, Vcenter(VSPHERE, DATABASE, known=known), trust_network=True)
        assert isinstance(verdict, Admitted), entry
        renamed = msgspec.structs.replace(gone, name="x")
        vcenter = Vcenter(VSPHERE, DATABASE, renamed, known=known)
        assert isinstance(judged(plan, vcenter, trust_network=True), Admitted), entry


@pytest.mark.parametrize(
    "source",
    [
        "database.vmdk",
        "database/database.vmdk",
        "/vmfs/volumes/5f3c2b1a-0a1b2c3d-1a2b-001122334455/database/database.vmdk",
    ],
)
def test_a_disk_that_forklift_does_not_list_may_be_meant_as_well(source: str) -> None:
    """Its copy must not become the other's."""
    one = Disk("[ds1] database/database.vmdk", 10 << 30)
    two = Disk("[ds2] database/database.vmdk", 10 << 30, backing="SeSparse")
    both = msgspec.structs.replace(DATABASE, disks=(one, two))
    assert not patched(pvc(source=source), Vcenter(VSPHERE, both))
    verdict = judged(pvc(source=source), Vcenter(VSPHERE, both))
    assert isinstance(verdict, Denied)
    (cause,) = verdict.causes
    assert cause.expected is None
    assert 'not for a copy of "[ds2] database/database.vmdk"' in cause.message
    alone = msgspec.structs.replace(DATABASE, disks=(one,))
    assert patched(pvc(source=source), Vcenter(VSPHERE, alone))


@pytest.mark.parametrize("obj", [PVC, PLAN], ids=["pvc", "plan"])
def test_where_nobodys_word_counts_a_warning_says_that_and_nothing_else(obj: Any) -> None:
    warn = {rule.id: "warn" for rule in RULES if rule.action == "deny"}
    away = Vcenter(VSPHERE, DATABASE).never_read()
    verdict = judged(obj, away, actions=warn)
    assert isinstance(verdict, Admitted)
    (said,) = verdict.warnings
    assert said.startswith(f"not checked: provider {away.inventory.name} is not known yet")
    assert not verdict.findings
