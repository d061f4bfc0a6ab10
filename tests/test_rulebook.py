"""The rulebook where names are long, disks many, vCenters away and callers forged."""

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import BASE, NAMESPACE, PATIENCE, VSPHERE, Cluster, FixedCluster, review_of
from tests.e2e.bed import eventually
from tests.guard import running
from tests.test_decide import DATABASE, PLAN, PVC, Vcenter, judged, pvc
from webhook.cli.demo import merged
from webhook.engine.judge import decide
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.inventory.index import Index
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.inventory.snapshot import SnapshotReader
from webhook.model.keys import DISK_SOURCE, VM_ID, VM_UUID, quoted
from webhook.model.objects import Provider
from webhook.model.review import Admitted, Denied, Undecided, Verdict
from webhook.model.vms import Disk, Folder, VirtualMachine
from webhook.server.codec import read_review, render

_RESTORED = {"labels": {"velero.io/restore-name": "nightly"}}


def of(vm: VirtualMachine, number: int, **change: Any) -> dict[str, Any]:
    """A right, bound PVC of one disk."""
    disk = vm.disks[number]
    keys = {
        "name": f"disk-{number}",
        "labels": {VM_ID: vm.moref, VM_UUID: vm.uuid},
        "annotations": {DISK_SOURCE: disk.file},
    }
    size = {"storage": str(disk.capacity)}
    spec = {"spec": {"resources": {"requests": size}}}
    status = {"status": {"phase": "Bound", "capacity": size}}
    return merged(merged(PVC, {"metadata": keys, **spec, **status}), change)


def migrated(vm: VirtualMachine, *claims: dict[str, Any]) -> Verdict:
    """What a Migration of this VM meets, with these PVCs in the namespace."""
    plan = merged(PLAN, {"spec": {"vms": [{"id": vm.moref, "name": vm.name}]}})
    there = FixedCluster(Cluster(pvcs=list(claims), plan=plan))
    index = Index([vm])
    vsphere = ProviderInventory(Provider(NAMESPACE, VSPHERE), SnapshotReader(index))
    vsphere.vms = index
    vsphere.heard(None)
    policy = Policy(trust_network=True)
    sources = Sources(Inventory([vsphere]), policy, lambda: 0.0, there.followed(), there)
    review = read_review(msgspec.json.encode(review_of(BASE["Migration"])))

    async def judge() -> Verdict:
        return await decide(review, sources, asyncio.get_running_loop().time() + PATIENCE)

    return asyncio.run(judge())


_names = st.text(st.characters(codec="utf-8") | st.sampled_from('"\\&<>\u00a0\u202e'), max_size=140)


def answered(obj: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
    """The response as the API server reads it."""
    review = read_review(msgspec.json.encode(review_of(obj)))
    response: dict[str, Any] = msgspec.json.decode(render(review, verdict))["response"]
    return response


class TestNames:
    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("Bücher-Büro 数据库", "[Speicher Süd] Bücher-Büro 数据库/Bücher.vmdk"),
            ("X" * 80, f"[ds] {'X' * 80}/{'y' * 150}.vmdk"),
            ("a [b] c", "[ds [old] (1)] a [b] c/d [1].vmdk"),
            ("%2fslash%25", "[ds] %2fslash%25/disk.vmdk"),
        ],
    )
    def test_any_name_is_proved_and_a_wrong_one_told(self, name: str, file: str) -> None:
        vm = msgspec.structs.replace(DATABASE, name=name, disks=(Disk(file, 2**20),))
        assert isinstance(judged(of(vm, 0), Vcenter("a", vm)), Admitted)
        assert isinstance(migrated(vm, of(vm, 0)), Admitted)
        wrong = of(vm, 0, metadata={"annotations": {DISK_SOURCE: "[other] x.vmdk"}})
        verdict = judged(wrong, Vcenter("a", vm))
        assert isinstance(verdict, Denied)
        assert file in str(verdict.causes[0])

    @pytest.mark.parametrize(
        "file",
        [
            '[R&D] "a" x/x.vmdk',
            "[<ds>] it's {100 %}\\x/x.vmdk",
            "[ds]\u00a0a\u3000b\u2007/x.vmdk",
            "[ds] \u202e\u2066a\u2069\u202c/\u200b\ufeff.vmdk",
            "[ds] a\tb\n\u0085\u2028\u001b[31m/x.vmdk",
            f"[ds] {'x' * 400}/x.vmdk",
        ],
        ids=ascii,
    )
    def test_what_is_advised_can_be_pasted_from_kubectls_text(self, file: str) -> None:
        vm = msgspec.structs.replace(DATABASE, disks=(Disk(file, 2**20),))
        wrong = of(vm, 0, metadata={"annotations": {DISK_SOURCE: '[R&D] "b" x/x.vmdk'}})
        status = answered(wrong, judged(wrong, Vcenter("a", vm)))["status"]
        (cause,) = status["details"]["causes"]
        for shown in (
            status["message"],
            f"The PersistentVolumeClaim is invalid: {cause['field']}: {cause['message']}",
        ):
            assert shown.isprintable()
            advised = shown.partition(": write ")[2].rpartition(" (")[0]
            assert json.loads(advised) == yaml.safe_load(advised) == file
        assert isinstance(judged(of(vm, 0), Vcenter("a", vm)), Admitted)

    @given(_names, _names)
    def test_a_warning_has_what_to_write_whole_or_not_at_all(self, sent: str, right: str) -> None:
        vm = msgspec.structs.replace(DATABASE, disks=(Disk(f"[ds] {right}/x.vmdk", 2**20),))
        wrong = of(vm, 0, metadata={"annotations": {DISK_SOURCE: f"[other] {sent}/y.vmdk"}})
        verdict = judged(wrong, Vcenter("a", vm), actions={"pvc-disk-source": "warn"})
        warning = answered(wrong, verdict)["warnings"][0]
        assert len(warning) <= 256
        assert warning.isprintable()
        assert warning.endswith(" (conversion-guard: pvc-disk-source)")
        advised = f"write {quoted(vm.disks[0].file)}"
        if advised not in warning:
            cut = warning.replace("write …", advised)
            assert len(cut) > 256, "it had no room"
            assert '"[…"' in warning, "what was sent gives way first"

    def test_a_warning_of_no_rule_is_cut_as_well(self) -> None:
        verdict = Admitted(warnings=(f"not checked: {'x' * 300} (timed out)",))
        (warning,) = answered(PVC, verdict)["warnings"]
        assert warning == f"not checked: {'x' * 242}…"

    def test_labels_at_their_limit(self) -> None:
        """63 characters: no moref of vSphere's is so long, and none is found."""
        verdict = judged(pvc(vm_id="v" * 63), Vcenter("a", DATABASE))
        assert isinstance(verdict, Denied)
        assert '"' + "v" * 63 + '"' in str(verdict.causes[0])

    def test_a_plan_names_a_vm_by_its_path(self) -> None:
        vm = msgspec.structs.replace(DATABASE, parent="group-v1")
        index = Index([vm, msgspec.structs.replace(vm, moref="vm-9", parent="group-v2")])
        for moref, name in (("group-v1", "blue"), ("group-v2", "green")):
            index.put_folder(Folder(moref, name, "datacenter-1"))
        index.put_folder(Folder("datacenter-1", "DC"))
        vcenter = Vcenter(VSPHERE, vm)
        vcenter.truth = vcenter.inventory.vms = index
        by_path = merged(PLAN, {"spec": {"vms": [{"name": "blue/database"}]}})
        assert isinstance(judged(by_path, vcenter), Admitted)
        by_name = merged(PLAN, {"spec": {"vms": [{"name": "database"}]}})
        verdict = judged(by_name, vcenter, trust_network=True)
        assert isinstance(verdict, Denied)
        assert "is the name of 2 VMs" in str(verdict.causes[0])


class TestSixtyDisks:
    VM = msgspec.structs.replace(
        DATABASE,
        disks=tuple(Disk(f"[ds] many/disk-{n}.vmdk", 2**20, key=n) for n in range(60)),
    )

    def test_whole_and_one_short(self) -> None:
        claims = [of(self.VM, number) for number in range(60)]
        assert isinstance(migrated(self.VM, *claims), Admitted)
        verdict = migrated(self.VM, *claims[1:])
        assert isinstance(verdict, Denied)
        assert "for 1 of the 60 disks" in str(verdict.causes[0])

    def test_none_at_all_is_told_in_bounds(self) -> None:
        verdict = migrated(self.VM)
        assert isinstance(verdict, Denied)
        review = read_review(msgspec.json.encode(review_of(BASE["Migration"])))
        assert len(render(review, verdict)) < 2048


class TestARestoreWithoutVsphere:
    def test_a_vcenter_that_is_gone_stops_no_restore(self) -> None:
        away = Vcenter("a").never_read()
        away.inventory.lost("connection refused", datetime(2026, 11, 25, tzinfo=UTC))
        assert isinstance(judged(PVC, away), Undecided)
        assert isinstance(judged(merged(PVC, {"metadata": _RESTORED}), away), Admitted)

    def test_nor_does_one_without_any_provider(self) -> None:
        assert isinstance(judged(merged(PVC, {"metadata": _RESTORED})), Admitted)


def _settings(**more: Any) -> dict[str, Any]:
    return {"snapshots": [str(_SNAPSHOT)], **more}


_SNAPSHOT = Path(__file__).parents[1] / "webhook" / "cli" / "demo" / "inventory.yaml"


def test_a_forged_review_learns_nothing(tmp_path: Path) -> None:
    """Whoever reaches the port can write any userInfo: it counts only with trustNetwork."""
    forged = {"username": "system:admin", "groups": ["system:masters"]}
    with running(tmp_path, _settings()) as guard, guard.client() as client:
        for change in ({VM_UUID: "42000000-0000-4000-8000-000000000000"}, {VM_UUID: None}):
            obj = merged(PVC, {"metadata": {"labels": change}})
            review = review_of(obj, userInfo=forged)
            for webhook in ("/validate", "/mutate"):
                answer = client.post(f"{webhook}?timeout=5s", json=review).text
                assert DATABASE.uuid not in answer
                assert "patch" not in answer


def test_settings_are_reloaded_and_bad_ones_are_not(tmp_path: Path) -> None:
    wrong = review_of(merged(PVC, {"metadata": {"annotations": {DISK_SOURCE: "[x] y.vmdk"}}}))
    with running(tmp_path, _settings()) as guard, guard.client() as client:

        def allowed() -> bool:
            answer: bool = client.post("/validate?timeout=5s", json=wrong).json()["response"][
                "allowed"
            ]
            return answer

        assert not allowed()
        file = tmp_path / "settings.yaml"
        good = msgspec.yaml.decode(file.read_bytes())
        file.write_bytes(msgspec.yaml.encode({**good, "rules": {"pvc-disk-source": "warn"}}))
        eventually(allowed, "the rule only warns")
        file.write_text("rules: {no-such-rule: deny}")
        eventually(lambda: "the settings were not reloaded" in guard.log, "the fault is told")
        assert allowed()
        reloads = dict(re.findall(r'reloads_total{result="(\w+)"} (\S+)', guard.metrics()))
        assert (float(reloads["ok"]), float(reloads["failed"])) == (1, 1)
