"""Objects judged ahead: the same verdicts as at admission, one by one and as a list."""

import asyncio
import copy
import re
from datetime import UTC, datetime
from typing import Any

import jsonpatch
import msgspec
import pytest

from tests.cases import BASE, READY_PLAN, Case, Cluster, Expect, all_cases, recorded
from webhook.cli.demo import merged
from webhook.cli.verdicts import lines
from webhook.engine.check import check, unfolded
from webhook.engine.results import Candidate, Result, Results
from webhook.engine.sources import Sources
from webhook.model.keys import DISK_SOURCE, IN_SYNC, STORAGE_FIELD, VM_ID, VM_UUID, quoted

# The VM runs: what its PVCs' vendor says keeps the gate quiet about that.
_SAYS = {"metadata": {"annotations": {IN_SYNC: "replication"}}}
PVC = merged(BASE["PersistentVolumeClaim"], _SAYS)
PLAN, MIGRATION = BASE["Plan"], BASE["Migration"]
SECOND = merged(
    PVC,
    {
        "metadata": {
            "name": "disk-1",
            "annotations": {DISK_SOURCE: "[LocalDS_0] database/disk-002.vmdk"},
        },
        "spec": {"resources": {"requests": {"storage": "20Gi"}}},
    },
)
NEW = [case for case in all_cases() if case.old is None]


def checked(*objects: Any, there: Cluster | None = None, **how: Any) -> tuple[Result, ...]:
    candidates = [one for obj in objects for one in unfolded(Candidate(obj))]
    return asyncio.run(check(candidates, known(there), **how))


def known(there: Cluster | None = None, **settings: Any) -> Sources:
    settings = {"trustNetwork": True, **settings}
    case = Case(
        path=all_cases()[0].path,
        object={},
        old=None,
        vms=BASE["vsphere"],
        providers={},
        there=there,
        settings=settings,
        expect=Expect(),
        simulator=None,
        api_server=None,
    )
    return case.sources()


@pytest.mark.parametrize("case", NEW, ids=lambda case: case.id)
def test_every_case_gets_the_verdict_of_admission(case: Case) -> None:
    before = copy.deepcopy(case.object)
    (result,) = asyncio.run(check([Candidate(case.object, "a.yaml", 3)], case.sources()))
    assert case.object == before
    assert (result.file, result.line) == ("a.yaml", 3)
    if case.expect.verdict == "admitted":
        unjudged = any("not checked: " in warning for warning in result.warnings)
        admitted = "skipped" if result.message else "not-checked" if unjudged else "admitted"
        assert result.verdict == admitted
    else:
        assert result.verdict == case.expect.verdict
    assert list(result.patch) == case.expect.patch
    assert result.patched == jsonpatch.apply_patch(case.object, case.expect.patch)
    assert list(result.warnings) == case.expect.warnings
    piles = {"deny": [], "warn": [], "audit": []}  # type: dict[str, list[Any]]
    for found in result.findings:
        piles[found.action].append(found)
        assert found.expected is None or quoted(found.expected) in found.message
    assert _untold(result) == []
    said = [f"{f.field}: {f.message} (conversion-guard: {f.rule})" for f in piles["deny"]]
    assert said == case.expect.causes
    if result.verdict != "undecided":
        assert {found.rule for found in piles["audit"]} == set(
            recorded(case.expect, {"rules": ",".join(f.rule for f in piles["audit"])})
        )
        warned = {f"{f.field}: {f.message} (conversion-guard: {f.rule})" for f in piles["warn"]}
        assert warned <= set(case.expect.warnings)


def _untold(result: Result) -> list[str]:
    """The warnings that no line for a person has; those of many entries are told one by one."""
    told = "\n".join(lines(result))
    alone = [re.sub(r"^(\S+) and \d+ more: ", r"\1: ", warning) for warning in result.warnings]
    return [one for one in alone if one.replace("(conversion-guard: ", "(") not in told]


def test_the_expected_value_is_what_makes_it_right() -> None:
    wrong = merged(
        PVC,
        {
            "metadata": {"labels": {VM_UUID: "50324a11-5d13-4f9b-9b46-7c8b9f8e123a"}},
            "spec": {"resources": {"requests": {"storage": "1Gi"}}},
        },
    )
    (result,) = checked(wrong)
    expected = {found.field: found.expected for found in result.findings}
    assert expected == {
        f"metadata.labels[{VM_UUID}]": "42324a11-8a5e-2f0d-6b0c-1f2e3d4c5b6a",
        "spec.resources.requests.storage": "10Gi",
    }
    assert not result.good


def test_the_json_has_the_same_keys_for_every_verdict() -> None:
    results = checked(PVC, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}})
    first, second = msgspec.json.decode(msgspec.json.encode(Results(results)))["results"]
    assert list(first) == list(second)
    assert list(first) == [
        "apiVersion", "kind", "namespace", "name", "verdict", "message", "findings", "warnings",
        "notes", "patch", "patched",
    ]  # fmt: skip
    assert (second["verdict"], second["message"]) == (
        "not-checked",
        'there is no rule for "v1 Secret"',
    )


def test_pvcs_of_the_list_are_there_for_its_plan_and_its_migration() -> None:
    """In whatever order they stand."""
    results = checked(MIGRATION, PLAN, SECOND, PVC)
    assert [result.verdict for result in results] == ["admitted"] * 4
    assert [result.findings for result in results] == [()] * 4
    bound, ready = results[0].notes
    assert "count as bound" in bound.message
    assert "counts as Ready" in ready.message


def test_a_plan_with_a_status_counts_as_it_is() -> None:
    blocked = merged(PLAN, {"status": {"conditions": []}})
    migration, *_ = checked(MIGRATION, blocked, SECOND, PVC)
    assert migration.verdict == "denied"
    assert [found.rule for found in migration.findings] == ["migration-plan-ready"]


def test_the_second_migration_of_a_vm_is_refused() -> None:
    other = merged(PLAN, {"metadata": {"name": "other"}})
    again = merged(MIGRATION, {"metadata": {"name": "again"}, "spec": {"plan": {"name": "other"}}})
    first, second, *_ = checked(MIGRATION, again, PLAN, other, SECOND, PVC)
    assert (first.verdict, second.verdict) == ("admitted", "denied")
    assert [found.rule for found in second.findings] == ["migration-another-plan"]
    elsewhere = merged(other, {"spec": {"vms": [{"id": "vm-999", "name": None}]}})
    _, second, *_ = checked(MIGRATION, again, PLAN, elsewhere, SECOND, PVC)
    assert "migration-another-plan" not in str(second.findings)


def test_what_has_succeeded_of_a_plan_is_done_with_in_a_list_too() -> None:
    """Its manifest has no status: what has been migrated before, the cluster knows."""
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "x", "uid": "u"}
    bound = {"phase": "Bound", "capacity": {"storage": "20Gi"}}
    owned = {"metadata": {"ownerReferences": [owner]}, "status": bound}
    succeeded = {"id": "vm-178", "conditions": [{"type": "Succeeded", "status": "True"}]}
    half = merged(READY_PLAN, {"status": {"migration": {"vms": [succeeded]}}})
    there = Cluster(pvcs=[merged(one, owned) for one in (PVC, SECOND)], plan=half)
    bare = {key: value for key, value in READY_PLAN.items() if key != "status"}
    (_, of_the_list), (of_the_cluster,) = (
        checked(bare, MIGRATION, there=there),
        checked(MIGRATION, there=there),
    )
    assert of_the_list.verdict == of_the_cluster.verdict == "admitted"
    (_, first) = checked(bare, MIGRATION, there=msgspec.structs.replace(there, plan=None))
    assert first.verdict == "denied"


def test_what_a_plan_names_may_be_in_the_list() -> None:
    vm: Any = {"id": "vm-178", "luks": {"name": "keys"}, "instanceType": "large"}
    plan = merged(PLAN, {"spec": {"vms": [vm]}})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}}
    large: dict[str, Any] = {
        "apiVersion": "instancetype.kubevirt.io/v1beta1",
        "kind": "VirtualMachineClusterInstancetype",
        "metadata": {"name": "large"},
    }
    there = Cluster()
    migration, *_ = checked(MIGRATION, plan, SECOND, PVC, there=there)
    found = {one.rule for one in migration.findings}
    assert found == {"plan-luks-secret", "plan-instance-type"}
    everything = MIGRATION, plan, SECOND, PVC, secret, large
    migration, *_ = checked(*everything, there=there, namespace="openshift-mtv")
    assert migration.findings == ()


def test_a_disk_without_a_pvc_fails_the_migration() -> None:
    migration, plan, pvc = checked(MIGRATION, PLAN, PVC)
    assert (migration.verdict, plan.verdict, pvc.verdict) == ("denied", "admitted", "admitted")
    (missing,) = plan.findings
    assert (missing.rule, missing.action) == ("plan-disks", "warn")
    assert "disk-002.vmdk" in missing.message
    assert [found.rule for found in migration.findings] == ["migration-disks"]


def test_a_refused_pvc_is_not_there_for_the_plan() -> None:
    wrong = merged(SECOND, {"metadata": {"annotations": {DISK_SOURCE: "[ds] no/disk.vmdk"}}})
    plan, pvc = checked(PLAN, wrong)
    assert pvc.verdict == "denied"
    assert plan.verdict == "admitted"


def test_a_repaired_pvc_counts_as_it_will_be() -> None:
    bare = merged(SECOND, {"metadata": {"annotations": {DISK_SOURCE: "disk-002.vmdk"}}})
    *_, migration = checked(PVC, bare, PLAN, MIGRATION)
    assert (migration.verdict, migration.findings) == ("admitted", ())


def test_the_second_pvc_of_a_disk_is_refused() -> None:
    twin = merged(PVC, {"metadata": {"name": "twin"}})
    first, second, other = checked(PVC, twin, merged(twin, {"metadata": {"namespace": "b"}}))
    assert (first.verdict, second.verdict, other.verdict) == ("admitted", "denied", "admitted")
    assert [found.rule for found in second.findings] == ["pvc-disk-claimed"]


def test_the_same_pvc_again_is_itself() -> None:
    assert [result.verdict for result in checked(PVC, PVC)] == ["admitted", "admitted"]


def test_generated_names_are_several_pvcs() -> None:
    nameless = merged(PVC, {"metadata": {"name": None, "generateName": "disk-"}})
    assert [result.verdict for result in checked(nameless, nameless)] == ["admitted", "denied"]


def test_without_a_cluster_nobody_knows_the_pvcs_of_a_plan() -> None:
    plan, migration = checked(PLAN, MIGRATION)
    assert plan.verdict == "admitted"
    assert "not checked" in plan.notes[0].message
    assert migration.verdict == "undecided"
    assert "there is no cluster to ask" in migration.message


def test_of_a_plan_that_is_not_judged_nothing_is_left_out() -> None:
    (result,) = checked(merged(BASE["Plan"], {"spec": {"archived": True}}))
    assert result.notes == ()


def test_a_migration_of_a_plan_that_nobody_knows_is_not_checked() -> None:
    (migration,) = checked(MIGRATION)
    assert migration.good, "admission lets it through, with the same warning"
    assert migration.verdict == "not-checked"
    assert "not in the list, and there is no cluster to ask" in migration.warnings[0]
    assert [str(note) for note in migration.notes] == list(migration.warnings)


@pytest.mark.parametrize(("enforce", "warned"), [("warn", True), ("audit", False)])
def test_what_the_policy_admits_undecided_is_not_checked(enforce: str, warned: bool) -> None:
    policy = {"namespaces": {PVC["metadata"]["namespace"]: {"enforce": enforce}}}
    sources = known(Cluster(pvcs=[PVC, SECOND], plan=READY_PLAN), maxAge=0, **policy)
    for one in sources.inventory.vsphere():
        one.whole(sources.now() - 60)
    (result,) = asyncio.run(check([Candidate(MIGRATION)], sources))
    assert (result.verdict, result.doubt) == ("not-checked", "too-old")
    assert bool(result.warnings) is warned
    assert any("maxAge is 0:00:00" in line for line in lines(result))


def test_the_age_of_what_it_rests_on_is_told() -> None:
    sources = known()
    for one in sources.inventory.vsphere():
        one.lost("it is gone", datetime.now(UTC))
    (result,) = asyncio.run(check([Candidate(PVC)], sources))
    assert result.verdict == "admitted"
    assert any("checked with the inventory of" in line for line in lines(result))


def test_the_list_lies_over_the_cluster() -> None:
    """disk-0 is in the cluster, unbound and with a wrong source: the list's own is what counts."""
    stale = merged(PVC, {"metadata": {"annotations": {DISK_SOURCE: "[ds] no/disk.vmdk"}}})
    bound = {"phase": "Bound", "capacity": {"storage": "20Gi"}}
    there = Cluster(
        pvcs=[merged(stale, {"status": {"phase": "Pending"}}), {**SECOND, "status": bound}],
        plan=READY_PLAN,
    )
    _, migration = checked(PVC, MIGRATION, there=there)
    (found,) = migration.findings
    assert "not bound" in found.message  # the cluster's word on it
    (before,) = checked(MIGRATION, there=there)
    assert "is not a disk of" in "".join(found.message for found in before.findings)


@pytest.mark.parametrize("state", [True, False])
def test_a_boolean_power_state_is_said_to_be_beyond_repair(state: bool) -> None:
    word = "on" if state else "off"
    change = {"spec": {"targetPowerState": state, "vms": [{"id": "vm-178"}]}}
    change["spec"]["vms"][0]["targetPowerState"] = state  # type: ignore[index]
    _, _, plan = checked(PVC, SECOND, merged(PLAN, change))
    assert plan.verdict == "admitted"
    assert plan.patched["spec"]["targetPowerState"] == word
    assert [(note.field, note.expected) for note in plan.notes] == [
        ("spec.targetPowerState", word),
        ("spec.vms[0].targetPowerState", word),
    ]
    assert "--server-side" in plan.notes[0].message


def test_a_list_is_its_items() -> None:
    of_kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaimList"}
    items = [{key: PVC[key] for key in ("metadata", "spec")}]
    mixed = {"apiVersion": "v1", "kind": "List", "items": [SECOND, PLAN]}
    results = checked({"kind": "List", "items": [{**of_kind, "items": items}, mixed]})
    assert [(result.kind, result.verdict) for result in results] == [
        ("PersistentVolumeClaim", "admitted"),
        ("PersistentVolumeClaim", "admitted"),
        ("Plan", "admitted"),
    ]


@pytest.mark.parametrize(
    ("obj", "field", "message"),
    [
        (None, "", "is not an object"),
        ("text", "", "is not an object"),
        ({"kind": "Plan"}, "apiVersion", "is missing"),
        (merged(PVC, {"metadata": {"labels": {VM_ID: 178}}}), "metadata.labels[vmID]", "is 178,"),
        (merged(PVC, {"metadata": {"labels": {"x": True}}}), "metadata.labels[x]", "is true,"),
        (merged(PVC, {"metadata": {"labels": {"x": []}}}), "metadata.labels[x]", "not a string"),
        ({**PVC, "metadata": "disk"}, "metadata", "expected `object`"),
        ({**PVC, "metadata": {"labels": 7}}, "metadata.labels", "expected `object"),
        (merged(PLAN, {"spec": {"vms": "all"}}), "spec.vms", "must be a list"),
    ],
)
def test_what_the_api_server_refuses_is_refused(obj: Any, field: str, message: str) -> None:
    (result,) = checked(obj)
    assert result.verdict == "denied"
    found = result.findings[0]
    assert (found.rule, found.field) == ("object", field)
    assert message in found.message


def test_a_very_deep_object_is_refused() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    (result,) = checked(merged(PLAN, {"spec": {"targetPowerState": True, "deep": deep}}))
    assert result.verdict == "denied"
    assert result.findings[0].message == "is nested too deeply"


def test_an_object_without_a_namespace_is_in_the_given_one() -> None:
    here = merged(PVC, {"metadata": {"namespace": None}})
    second = merged(SECOND, {"metadata": {"namespace": None}})
    *_, migration = checked(here, second, PLAN, MIGRATION, namespace="migrated-workloads")
    assert (migration.verdict, migration.findings) == ("admitted", ())
    pvc, *_ = checked(here, namespace="migrated-workloads")
    assert "namespace" not in pvc.patched["metadata"]


def test_each_object_is_told_once() -> None:
    count = 0

    def told() -> None:
        nonlocal count
        count += 1

    checked(PVC, SECOND, PLAN, told=told)
    assert count == 3


@pytest.mark.parametrize(
    ("size", "fix"),
    [
        ("10GB", 'write "10Gi" or "10G"'),
        ("10 gb", 'write "10Gi" or "10G"'),
        ("1.5TiB", 'write "1.5Ti" or "1.5T"'),
        ("500kb", 'write "500Ki" or "500k"'),
        ("1024 bytes", 'write "1024"'),
        ("ten", 'write one such as "10Gi"'),
        ("0", 'write one such as "10Gi"'),
    ],
)
def test_a_size_that_the_api_server_refuses_is_reported(size: str, fix: str) -> None:
    spec = {"resources": {"requests": {"storage": size}}}
    (result,) = checked(merged(PVC, {"spec": spec}))
    (found,) = result.findings
    assert (result.verdict, found.rule, found.field) == ("denied", "object", STORAGE_FIELD)
    assert f"the API server refuses it: {fix}" in found.message


@pytest.mark.parametrize("size", ["20Gi", "21474836480", 21474836480, "2e10", "20.5Gi"])
def test_a_size_that_it_takes_is_not(size: Any) -> None:
    spec = {"resources": {"requests": {"storage": size}}}
    (result,) = checked(merged(PVC, {"spec": spec}))
    assert result.verdict == "admitted"


def test_a_repair_shows_what_to_write() -> None:
    bare = merged(PVC, {"metadata": {"annotations": {DISK_SOURCE: "disk-001.vmdk"}}})
    (result,) = checked(bare)
    assert lines(result)[1] == (
        "  repair: add /metadata/annotations/forklift.konveyor.io~1disk-source "
        '"[LocalDS_0] database/disk-001.vmdk"'
    )
