"""What the audit makes of news, of verdicts and of who may read them, without a cluster."""

import asyncio
import math
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.cases import BASE, NAMESPACE, Cluster, FixedCluster
from tests.test_decide import DATABASE, Vcenter
from webhook.audit.book import LARGEST, Ledger, Place, place_of, report_name, reports
from webhook.audit.judging import Judge, counts
from webhook.audit.outcome import AuditResult, Remark
from webhook.audit.pool import Pools
from webhook.cli.demo import merged
from webhook.cluster import FoundObject, Waiting
from webhook.cluster.objects import migration_plan
from webhook.cluster.reports import digest, written
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.engine.watched import Drift, Key, Lookout, VmRef, Watched
from webhook.errors import ClusterUnreachable, VsphereUnreachable
from webhook.inventory.cluster import Table
from webhook.inventory.provider import Inventory
from webhook.model.keys import DISK_SOURCE, DISK_SOURCE_FIELD, VM_UUID
from webhook.model.marks import BOUND
from webhook.model.objects import Claim, KubeObject
from webhook.model.vms import Disk, VirtualMachine

PVC: dict[str, Any] = BASE["PersistentVolumeClaim"]
PLAN: dict[str, Any] = BASE["Plan"]
MIGRATION: dict[str, Any] = BASE["Migration"]
TARGET = PVC["metadata"]["namespace"]
VM = VmRef(DATABASE.moref)


def standing(obj: dict[str, Any], **meta: Any) -> FoundObject:
    whole = merged(obj, {"metadata": meta}) if meta else obj
    metadata = whole["metadata"]
    return FoundObject(
        whole["kind"],
        metadata["namespace"],
        metadata["name"],
        "a-uid",
        msgspec.convert(whole, KubeObject),
    )


def judged(
    *there: FoundObject,
    vcenters: Sequence[Vcenter],
    pvcs: Sequence[dict[str, Any]] = (),
    plan: dict[str, Any] | None = None,
    pending: tuple[Waiting, ...] = (),
    enforce: str = "",
    api: type[FixedCluster] = FixedCluster,
    **policy: Any,
) -> list[AuditResult]:
    cluster = api(Cluster(pvcs=list(pvcs), plan=plan, enforce=enforce, rights=()))
    followed, table = cluster.followed(), Table[str]()
    followed.claims.heard(None if api is FixedCluster else -math.inf)
    table.heard(None)

    async def waits(namespace: str) -> tuple[Waiting, ...]:
        assert namespace == TARGET
        return pending

    async def judge() -> list[AuditResult]:
        known = Inventory(one.inventory for one in vcenters)
        sources = Sources(known, Policy(**policy), lambda: 10_000.0, followed, cluster)
        return await Judge(followed, cluster, table, waits).judge(there, sources)

    return asyncio.run(judge())


def rules(outcome: AuditResult) -> list[tuple[str, str]]:
    return [(remark.result, remark.rule) for remark in outcome.remarks if remark.result != "warn"]


# News


def told(before: VirtualMachine | None, after: VirtualMachine | None) -> list[tuple[Drift, ...]]:
    """What two looks at a vCenter find, whose index was made anew meanwhile."""
    watched = Watched()
    watched.put(Key("Plan", "a", "b"), [VM])
    lookout = Lookout(watched)

    async def look(vm: VirtualMachine | None) -> list[tuple[Drift, ...]]:
        vcenter = Vcenter("one", *([vm] if vm else []))
        return [news.what async for news in lookout.look(Inventory([vcenter.inventory]))]

    async def both() -> list[tuple[Drift, ...]]:
        assert await look(before) == [], "the first look tells nothing"
        return await look(after)

    return asyncio.run(both())


def changed(vm: VirtualMachine = DATABASE, **fields: Any) -> VirtualMachine:
    return msgspec.structs.replace(vm, **fields)


def disk(**fields: Any) -> tuple[Disk, ...]:
    first, *rest = DATABASE.disks
    return (msgspec.structs.replace(first, **fields), *rest)


@pytest.mark.parametrize(
    ("after", "what"),
    [
        (changed(disks=disk(file="[elsewhere] a/b.vmdk")), ("moved",)),
        (changed(disks=disk(capacity=2**50)), ("resized",)),
        (changed(disks=disk(file=DATABASE.disks[0].file[:-5] + "-000001.vmdk")), ("snapshot",)),
        (changed(disks=DATABASE.disks[1:]), ("removed",)),
        (changed(disks=(*DATABASE.disks, Disk("[a] b.vmdk", 1, key=9))), ("added",)),
        (changed(name="another"), ("renamed",)),
        (changed(uuid="11111111-2222-3333-4444-555555555555"), ("uuid",)),
        (changed(power_state="suspended"), ("power",)),
        (changed(power_state="suspended", name="another"), ("renamed", "power")),
        (changed(ip_address="10.0.0.9"), ()),
        (None, ("removed",)),
    ],
)
def test_what_has_become_of_a_vm(after: VirtualMachine | None, what: tuple[Drift, ...]) -> None:
    assert told(DATABASE, after) == [what]


def test_the_same_vm_read_anew_is_no_news() -> None:
    assert told(DATABASE, changed()) == []
    assert told(None, DATABASE) == [("added",)]


def test_what_becomes_of_a_vm_before_the_first_look_is_news_once_it_has_begun() -> None:
    watched = Watched()
    lookout, vcenter = Lookout(watched), Vcenter("one", DATABASE)
    inventory = Inventory([vcenter.inventory])
    watched.put(Key("Plan", "a", "b"), [VM])
    lookout.begin([VM], inventory)
    vcenter.inventory.vms.put(changed(name="another"))

    async def look() -> list[tuple[Drift, ...]]:
        return [news.what async for news in lookout.look(inventory)]

    assert asyncio.run(look()) == [("renamed",)]
    assert asyncio.run(look()) == []


def test_objects_are_found_by_the_vms_that_they_name_now() -> None:
    watched = Watched()
    pvc, plan = Key("PersistentVolumeClaim", "a", "b"), Key("Plan", "a", "c")
    watched.put(pvc, [VmRef("vm-1")])
    watched.put(plan, [VmRef("vm-1"), VmRef("", "by/name")])
    assert watched.touched([VmRef("vm-1")]) == {pvc, plan} == watched.beside(pvc)
    watched.put(plan, [VmRef("vm-2")])
    assert watched.touched([VmRef("vm-1"), VmRef("", "by/name")]) == {pvc}
    watched.put(plan, [])
    watched.put(pvc, [])
    assert watched.vms == ()


# Verdicts, and who may read them


def test_a_pvc_that_was_right_is_wrong_where_its_disk_has_moved() -> None:
    moved = Vcenter("one", changed(disks=disk(file="[elsewhere] a/b.vmdk")))
    (was,) = judged(standing(PVC), vcenters=[Vcenter("one", DATABASE)])
    (now,) = judged(standing(PVC), vcenters=[moved])
    assert rules(was) == []
    assert rules(now) == [("fail", "pvc-disk-source")]
    (remark,) = (one for one in now.remarks if one.result == "fail")
    assert "[elsewhere] a/b.vmdk" in remark.message, "the PVC proves the VM: its disks are told"
    assert (remark.severity, remark.field) == ("high", DISK_SOURCE_FIELD)
    assert moved.reads == 1, "a fresh read confirms it"


def test_a_pvc_that_has_its_volume_is_no_copy_of_another() -> None:
    bound = standing(PVC, annotations={BOUND: "yes", DISK_SOURCE: "[nowhere] a/b.vmdk"})
    (found,) = judged(bound, vcenters=[Vcenter("one", DATABASE)])
    assert rules(found) == [("fail", "pvc-disk-source")]


def test_a_reader_learns_nothing_of_a_vm_that_the_object_does_not_prove() -> None:
    wrong = standing(PVC, labels={VM_UUID: "99999999-9999-9999-9999-999999999999"})
    (found,) = judged(wrong, vcenters=[Vcenter("one", DATABASE)])
    said = str(found.remarks)
    assert rules(found) == [("fail", "pvc-vm")]
    assert DATABASE.uuid not in said
    assert DATABASE.name not in said
    assert "vsphere" not in said


def test_a_vcenter_that_is_away_is_an_error_and_no_failure_of_others() -> None:
    away, there = Vcenter("one", DATABASE), standing(PVC, annotations={DISK_SOURCE: "[x] y.vmdk"})
    away.fails = VsphereUnreachable("provider a/one has been unreachable since noon")
    wrong, right = judged(there, standing(PVC, name="other"), vcenters=[away])
    (remark,) = (one for one in wrong.remarks if one.result == "error")
    assert (wrong.word, remark.rule) == ("error", "undecided")
    assert "unreachable since noon" in remark.message
    assert rules(right) == []


class Away(FixedCluster):
    """An API server that doesn't answer."""

    async def claims(self, namespace: str) -> tuple[Claim, ...]:
        raise ClusterUnreachable("it is away")


@pytest.mark.parametrize("enforce", ["", "warn", "audit"])
def test_what_could_not_be_judged_is_an_error_whatever_is_done_about_it(enforce: str) -> None:
    source = PLAN["spec"]["provider"]["source"]["name"]
    (found,) = judged(
        standing(PLAN),
        vcenters=[Vcenter(source, DATABASE)],
        enforce=enforce,
        undecided="warn",
        api=Away,
    )
    assert [(remark.result, remark.rule) for remark in found.remarks] == [("error", "undecided")]


def test_many_wrong_pvcs_are_one_fresh_read() -> None:
    vcenter = Vcenter("one", DATABASE)
    many = [
        standing(PVC, name=f"disk-{n}", annotations={DISK_SOURCE: f"[x] {n}.vmdk"})
        for n in range(60)
    ]
    outcomes = judged(*many, vcenters=[vcenter])
    assert {one.word for one in outcomes} == {"fail"}
    assert vcenter.reads <= 8


def test_who_gives_up_takes_no_answer_from_others() -> None:
    vcenter = Vcenter("one", DATABASE)

    async def read() -> Collection[VirtualMachine]:
        (provider,) = Pools().over(Inventory([vcenter.inventory])).vsphere()
        assert provider.reader is not None
        ask: Any = {"uuids": (), "names": (), "since": 0.0}
        first = asyncio.ensure_future(provider.reader.read(morefs=["vm-1"], **ask))
        second = asyncio.ensure_future(provider.reader.read(morefs=[DATABASE.moref], **ask))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert list(asyncio.run(read())) == [DATABASE]
    assert vcenter.reads == 1


# Migrations


def running(phase: str) -> dict[str, Any]:
    vms = [{"id": DATABASE.moref, "name": DATABASE.name, "phase": phase}]
    return merged(PLAN, {"status": {"migration": {"vms": vms}}})


@pytest.mark.parametrize(
    ("phase", "word"),
    [
        ("", "fail"),
        ("StorePowerState", "fail"),
        ("PowerOffSource", "pass"),
        ("ConvertGuest", "pass"),
        ("Completed", "fail"),
    ],
)
def test_a_vm_is_proved_until_it_is_shut_down_and_when_it_is_to_run_again(
    phase: str, word: str
) -> None:
    """Of its disks none has a PVC."""
    plan = running(phase)
    entries = [{"id": DATABASE.moref, "name": DATABASE.name}]
    plan = {**plan, "spec": {**plan["spec"], "vms": entries}}
    source = PLAN["spec"]["provider"]["source"]["name"]
    (found,) = judged(standing(MIGRATION), vcenters=[Vcenter(source, DATABASE)], plan=plan)
    assert found.word == word
    if word == "fail":
        (remark,) = (one for one in found.remarks if one.rule == "migration-disks")
        assert (remark.severity, remark.field) == ("critical", "spec.plan")


@pytest.mark.parametrize(("minutes", "word"), [(4, "pass"), (6, "fail")])
def test_a_pod_that_stays_pending_with_the_vm_off(minutes: int, word: str) -> None:
    since = datetime.now(UTC) - timedelta(minutes=minutes)
    mine = frozenset({PVC["metadata"]["name"]})
    pods = (
        Waiting("conversion-1", since, mine, "0/3 nodes are available"),
        Waiting("another", since, frozenset({"another"})),
    )
    plan = running("ConvertGuest")
    source = PLAN["spec"]["provider"]["source"]["name"]
    (found,) = judged(
        standing(MIGRATION),
        vcenters=[Vcenter(source, DATABASE)],
        plan={**plan, "spec": {**plan["spec"], "vms": [{"id": DATABASE.moref}]}},
        pvcs=[PVC],
        pending=pods,
    )
    assert found.word == word
    if word == "fail":
        (remark,) = found.remarks
        assert remark.rule == "conversion-pod"
        assert "conversion-1 has been Pending since" in remark.message
        assert "0/3 nodes are available" in remark.message


def test_a_migration_elsewhere_tells_nothing_of_the_plan() -> None:
    source = PLAN["spec"]["provider"]["source"]["name"]
    there = standing(MIGRATION, namespace="elsewhere")
    (found,) = judged(there, vcenters=[Vcenter(source, DATABASE)], plan=running(""))
    said = {remark.message for remark in found.remarks}
    assert len(said) == 1
    assert DATABASE.moref not in str(said)
    assert TARGET not in str(said)


def test_what_is_watched() -> None:
    sources = Sources(Inventory(), Policy(), time.monotonic)
    assert counts(standing(PVC), sources)
    assert counts(standing(PVC, annotations={BOUND: "yes"}), sources)
    for past in (
        standing(PVC, ownerReferences=[{"kind": "VirtualMachine"}]),
        standing(PVC, labels={"velero.io/restore-name": "x"}),
        standing(PVC, name="prime-1"),
        msgspec.structs.replace(standing(PVC), leaving=True),
        standing(merged(PLAN, {"spec": {"type": "cold"}})),
        standing(merged(PLAN, {"spec": {"archived": True}})),
        standing(merged(MIGRATION, {"status": {"completed": "2026-11-28T00:00:00Z"}})),
    ):
        assert not counts(past, sources), past
    assert counts(standing(PLAN), sources)
    assert counts(standing(MIGRATION), sources)


def test_the_plan_of_a_migration_until_it_has_ended() -> None:
    key = f"{NAMESPACE}/{MIGRATION['metadata']['name']}"
    plan = MIGRATION["spec"]["plan"]
    name = f"{plan.get('namespace', NAMESPACE)}/{plan['name']}"
    assert migration_plan(msgspec.json.encode(MIGRATION)) == (key, name)
    ended = merged(MIGRATION, {"status": {"completed": "2026-11-28T00:00:00Z"}})
    assert migration_plan(msgspec.json.encode(ended)) == (key, "")


# Reports


def outcome(name: str, *words: Any, kind: str = "Plan") -> AuditResult:
    remarks = tuple(Remark("a-rule", word, "high", f"{name} is wrong") for word in words)
    return AuditResult(Key(kind, "a", name), f"uid-{name}", remarks)


def test_a_report_has_what_is_wrong_and_counts_what_is_right() -> None:
    book, place = Ledger(), Place("Plan", "a")
    for one in (outcome("b", "warn", "fail"), outcome("a"), outcome("c"), outcome("d", "error")):
        book.put(one)
    assert book.changed() == (place, None)
    (body,) = reports(place, book.of(place)).values()
    assert body["summary"] == {"pass": 2, "fail": 1, "warn": 1, "error": 1, "skip": 0}
    named = [(one["resources"][0]["name"], one["result"]) for one in body["results"]]
    assert named == [("b", "warn"), ("b", "fail"), ("d", "error")]
    assert [book.count("Plan", word) for word in ("pass", "warn", "fail", "error")] == [2, 0, 1, 1]
    assert set(book.undecided()) == {Key("Plan", "a", "d")}


def test_only_what_changes_is_told_and_nothing_is_left_of_what_is_gone() -> None:
    book, place = Ledger(), Place("Plan", "a")
    book.put(outcome("a"))
    assert book.changed()
    book.put(outcome("a"))
    assert book.changed() is None
    book.put(outcome("a", "fail"), since=7.0)
    book.put(outcome("a", "fail", "warn"), since=9.0)
    assert book.changed() == (place, 7.0), "the oldest news count"
    book.drop(Key("Plan", "a", "a"))
    assert book.changed() == (place, None)
    assert reports(place, book.of(place)) == {}
    assert book.places == ()
    assert book.count("Plan", "fail") == 0


def test_a_large_report_is_several_that_add_up() -> None:
    place = Place("Plan", "a")
    wrong: dict[str, AuditResult | None] = {
        f"p{n:04}": outcome(f"p{n:04}", "fail") for n in range(LARGEST + 1)
    }
    parts = reports(place, {**wrong, "right": None})
    assert list(parts) == ["conversion-guard-plan", "conversion-guard-plan-2"]
    assert [len(part["results"]) for part in parts.values()] == [LARGEST, 1]
    sums = [(part["summary"]["fail"], part["summary"]["pass"]) for part in parts.values()]
    assert sums == [(LARGEST, 1), (1, 0)]


def test_a_report_is_known_by_its_name() -> None:
    kinds = ("PersistentVolumeClaim", "Plan")
    for kind in kinds:
        for part in (0, 1, 20):
            place = Place(kind, "a")
            assert place_of(f"a/{report_name(place, part)}", kinds) == place
    assert place_of("a/conversion-guard-planner", kinds) is None


def test_what_a_report_says_is_known_again_and_what_somebody_changed_in_it_is_not() -> None:
    place = Place("Plan", "a")
    (body,) = reports(place, {"b": outcome("b", "fail"), "c": outcome("c", "warn")}).values()
    meta = {"metadata": {"name": "x", "namespace": "a", "resourceVersion": "7"}}
    key, known = written(msgspec.json.encode({**meta, **body}))
    assert (key, known.failing) == ("a/x", {"b": "uid-b"})
    assert known.digest == digest(body)
    _, edited = written(msgspec.json.encode({**meta, **body, "results": body["results"][1:]}))
    assert edited.digest != known.digest
    _, odd = written(msgspec.json.encode({**meta, "results": 7}))
    assert odd.failing == {}
