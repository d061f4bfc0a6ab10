"""Whatever the world: no provider that knows nothing turns a verdict, no shape of an object breaks
the engine, what a request leaves alone is not judged, and readiness is the Migration's verdict."""

import asyncio
import base64
import copy
from datetime import UTC, datetime
from typing import Any

import jsonpatch
import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.cases import BASE, PATIENCE, VSPHERE, Cluster, FixedCluster, review_of
from tests.test_audience import SECOND
from tests.test_decide import DATABASE, NOW, PLAN, PVC, Vcenter, pvc
from webhook.cli.demo import merged
from webhook.engine.judge import decide
from webhook.engine.policy import Policy
from webhook.engine.readiness import readiness
from webhook.engine.repair import repair
from webhook.engine.sources import Sources
from webhook.errors import ClusterUnreachable, ReviewMalformed
from webhook.inventory.index import Index
from webhook.inventory.provider import Inventory
from webhook.model.keys import DISK_SOURCE, MILDEST_FIRST, VM_ID, VM_UUID
from webhook.model.objects import KubeObject, User
from webhook.model.review import Admitted, Denied, Review, Undecided, Verdict
from webhook.model.vms import Disk, VirtualMachine
from webhook.rules import RULES
from webhook.server.codec import read_review, render

MIGRATION, CONVERSION = BASE["Migration"], BASE["Conversion"]
STRANGER = VirtualMachine("vm-900", "payroll", uuid="4232dddd-0000-0000-0000-000000000001")
SAME_MOREF = msgspec.structs.replace(STRANGER, moref="vm-178", disks=DATABASE.disks[:1])
CLONE = msgspec.structs.replace(DATABASE, moref="vm-901", name="clone")


def two(kind: str) -> Vcenter:
    """A second provider, which knows nothing of the database, in one of its states."""
    vcenter = Vcenter("z" if kind.startswith("z") else "a", STRANGER)
    match kind[1:]:
        case "never-read" | "ignored":
            return vcenter.never_read()
        case "unreachable":
            vcenter.inventory.lost("no route to host", datetime(2026, 1, 1, tzinfo=UTC))
        case "too-old":
            vcenter.inventory.heard(NOW - 7200)
        case "empty":
            vcenter.inventory.vms = vcenter.truth = Index()
    return vcenter


STATES = [
    f"{place}{state}"
    for place in "az"
    for state in ("known", "empty", "never-read", "ignored", "unreachable", "too-old")
]
_policies = st.fixed_dictionaries(
    {
        "actions": st.dictionaries(
            st.sampled_from([rule.id for rule in RULES]), st.sampled_from(MILDEST_FIRST), max_size=5
        ),
        "undecided": st.sampled_from(["deny", "warn"]),
        "trust_network": st.booleans(),
    }
)
_claims = st.builds(
    pvc,
    st.sampled_from(["vm-178", "vm-178", "vm-178", "vm-9", "database", "", None]),
    st.sampled_from(
        [DATABASE.uuid, DATABASE.uuid, DATABASE.uuid.upper(), DATABASE.instance_uuid, "x", "", None]
    ),
    st.sampled_from(
        [DATABASE.disks[0].file, "disk-001.vmdk", "[ds] no/no.vmdk", " ", None, ...]
    ),
)  # fmt: skip
_objects = _claims | st.sampled_from(
    [
        PLAN,
        merged(PLAN, {"spec": {"vms": [{"id": "vm-9"}, {"name": "database"}]}}),
        MIGRATION,
        CONVERSION,
        merged(CONVERSION, {"spec": {"disks": [{"name": "disk-0"}]}}),
    ]
)
_bound = {"status": {"phase": "Bound", "capacity": {"storage": "20Gi"}}}
_pvcs = st.lists(
    st.sampled_from(
        [
            PVC,
            SECOND,
            merged(PVC, {"metadata": {"name": "other"}}),
            merged(pvc(source=" "), {"metadata": {"name": "blank"}}),
            merged(pvc(source="[ds] no/no.vmdk"), {"metadata": {"name": "wrong"}}),
            merged(pvc(uuid="x"), {"metadata": {"name": "stranger"}}),
        ]
    ).flatmap(lambda one: st.sampled_from([one, merged(one, _bound), merged(one, _bound)])),
    max_size=4,
    unique_by=lambda one: one["metadata"]["name"],
)
WHOLE = [merged(PVC, _bound), merged(SECOND, _bound)]


def world(
    *vcenters: Vcenter, plan: Any = PLAN, pvcs: Any = WHOLE, pods: Any = None, **policy: Any
) -> Sources:
    there = Cluster(pvcs=list(pvcs), plan=plan, pods=pods or {})
    cluster = FixedCluster(there)
    inventory = Inventory(vcenter.inventory for vcenter in vcenters)
    return Sources(inventory, Policy(**policy), lambda: NOW, cluster.followed(), cluster)


def parsed(obj: Any, old: Any = None) -> Review:
    return read_review(msgspec.json.encode(review_of(obj, old)))


def judged(review: Review, sources: Sources) -> Verdict:
    async def judge() -> Verdict:
        return await decide(review, sources, asyncio.get_running_loop().time() + PATIENCE)

    return asyncio.run(judge())


def answers(review: Review, sources: Sources) -> tuple[bytes, bytes]:
    async def both() -> tuple[bytes, bytes]:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        mutated = await repair(review, sources, deadline)
        return render(review, mutated), render(review, await decide(review, sources, deadline))

    return asyncio.run(both())


def patched(obj: Any, answer: bytes) -> Any:
    patch = msgspec.json.decode(answer)["response"].get("patch", "")
    return jsonpatch.apply_patch(obj, msgspec.json.decode(base64.b64decode(patch) or b"[]"))


def lines(answer: bytes) -> list[str]:
    """Everything in an answer that a person reads."""
    response = msgspec.json.decode(answer)["response"]
    status = response.get("status", {})
    causes = status.get("details", {}).get("causes", [])
    said = [text for cause in causes for text in (cause["message"], cause["field"])]
    return [*said, *response.get("warnings", ()), status.get("message", "")]


class TestSeveral:
    @settings(max_examples=150)
    @given(_objects, _policies, st.sampled_from(STATES))
    def test_one_that_knows_nothing_turns_no_verdict(
        self, obj: Any, policy: dict[str, Any], state: str
    ) -> None:
        alone = judged(parsed(obj), world(Vcenter(VSPHERE, DATABASE), **policy))
        other = two(state)
        if state.endswith("ignored"):
            policy = {**policy, "ignore_providers": frozenset({other.inventory.name})}
        both = judged(parsed(obj), world(Vcenter(VSPHERE, DATABASE), other, **policy))
        whose = {policy["actions"].get(rule, "deny") for rule in ("pvc-metadata", "pvc-vm")}
        if isinstance(alone, Admitted):
            assert not isinstance(both, Denied)
        elif whose.isdisjoint({"off", "audit"}):  # else whose PVC it is may stay open
            assert not isinstance(both, Admitted) or both.warnings
        # Who is ignored may know whose it is: a difference where that is not denied.
        known = ("known", "empty", "ignored") if whose == {"deny"} else ("known", "empty")
        if obj in (PVC, PLAN) or state[1:] in known:
            assert type(both) is type(alone)

    @settings(max_examples=150)
    @given(
        _objects,
        _policies,
        st.lists(
            st.sampled_from([DATABASE, STRANGER, SAME_MOREF, CLONE, None]), min_size=2, max_size=3
        ),
    )
    def test_their_order_is_no_matter(self, obj: Any, policy: dict[str, Any], vms: Any) -> None:
        names = (VSPHERE, "b", "c")
        vcenters = [
            Vcenter(name, vm) if vm else Vcenter(name).never_read()
            for name, vm in zip(names, vms, strict=False)
        ]
        review = parsed(obj)
        one = answers(review, world(*vcenters, **policy))
        assert answers(review, world(*reversed(vcenters), **policy)) == one


_names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12
) | st.text("aB/\\%25\"' .\t:{}[]\x00\x7f\u2028\u3000", min_size=1, max_size=8)


class TestNames:
    @given(_names, st.booleans())
    def test_every_name_can_be_given(self, name: str, known: bool) -> None:
        vm = msgspec.structs.replace(DATABASE, name=name)
        vcenter = Vcenter(VSPHERE, vm, STRANGER, known=None if known else [])
        obj = merged(PLAN, {"spec": {"vms": [{"name": name}]}})
        assume(name.rpartition("/")[2] != STRANGER.name)
        for one, plan in ((obj, PLAN), (MIGRATION, obj)):
            verdict = judged(parsed(one), world(vcenter, plan=plan))
            assert isinstance(verdict, Admitted)
            assert verdict.warnings == ()

    @settings(max_examples=150)
    @given(_names, _names, st.booleans())
    def test_every_message_is_one_printable_line(self, name: str, other: str, trust: bool) -> None:
        disk = Disk(f"[ds] {name}/{other}.vmdk", 2**33, key=1)
        vm = msgspec.structs.replace(DATABASE, name=name, disks=(disk,))
        vcenter = Vcenter(VSPHERE, vm, msgspec.structs.replace(vm, moref="vm-7"))
        claim = merged(pvc(vm_id=other, source=name), {"metadata": {"name": other}})
        provider = {"source": {"name": other, "namespace": name}}
        wrong = merged(PLAN, {"spec": {"vms": [{"name": name}, {"id": other, "name": name}]}})
        for obj in (
            claim,
            pvc(source=other),
            pvc(uuid=name),
            wrong,
            merged(PLAN, {"spec": {"provider": provider, "targetNamespace": other}}),
            merged(PLAN, {"spec": {"type": "conversion", "vms": name}}),
            merged(MIGRATION, {"spec": {"plan": {"name": name, "namespace": other}}}),
            MIGRATION,
            merged(CONVERSION, {"spec": {"vm": {"id": name}, "disks": [{"name": other}]}}),
        ):
            sources = world(vcenter, plan=wrong, trust_network=trust)
            for line in (
                text for answer in answers(parsed(obj), sources) for text in lines(answer)
            ):
                assert line.isprintable(), line


_odd: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, -1, 2.5, 10**18, "", " ", "x", "vm-178", [], [None], [1], ["x"], {},
     {"x": None}, {"name": 1}, [{"id": None}], [{"id": 1}], [{"name": ["x"]}], [[]],
     {"a": {"b": []}}]
)  # fmt: skip
_STATUS = {
    "conditions": [{"type": "Executing", "status": "True"}],
    "migration": {
        "vms": [{"id": "vm-178", "conditions": [{"type": "Succeeded", "status": "True"}]}]
    },
}
FULL = [
    merged(
        PVC,
        {
            "metadata": {
                "ownerReferences": [{"kind": "VirtualMachine"}],
                "labels": {DISK_SOURCE: "disk-001.vmdk"},
            },
            "spec": {"volumeName": "pv-1", "dataSourceRef": {"name": "x"}},
            "status": {"phase": "Bound", "capacity": {"storage": "10Gi"}},
        },
    ),
    PVC,
    merged(
        PLAN,
        {
            "spec": {
                "archived": False,
                "warm": False,
                "preserveStaticIPs": True,
                "targetPowerState": True,
                "vms": [{"id": "vm-178", "name": "database", "rootDisk": "/dev/sda",
                         "targetPowerState": False}, {"name": "database"}],
                "map": {"storage": None},
            },
            "status": _STATUS,
        },
    ),
    merged(MIGRATION, {"spec": {"resumeConversion": False}, "status": _STATUS}),
    merged(CONVERSION, {"spec": {"targetNamespace": "migrated-workloads"}, "status": _STATUS}),
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    """Every place in an object, but for what makes it one of its kind."""
    if path and path not in (("kind",), ("apiVersion",), ("metadata",)):
        yield path
    steps: Any = value.items() if isinstance(value, dict) else ()
    steps = enumerate(value) if isinstance(value, list) else steps
    for step, inner in steps:
        yield from places(inner, (*path, step))


def changed(obj: Any, changes: list[tuple[tuple[Any, ...], Any]]) -> Any:
    """A copy with something else, or (`...`) nothing, in these places."""
    obj = msgspec.json.decode(msgspec.json.encode(obj))
    for path, value in changes:
        at = obj
        try:
            for step in path[:-1]:
                at = at[step]
            if value is ...:
                del at[path[-1]]
            else:
                at[path[-1]] = copy.deepcopy(value)
        except (TypeError, LookupError):
            continue  # an earlier change took the place away
    return obj


@st.composite
def _shapes(draw: st.DrawFn, base: Any = None) -> Any:
    base = base or draw(st.sampled_from(FULL))
    where = st.sampled_from(list(places(base)))
    return changed(base, draw(st.lists(st.tuples(where, _odd | st.just(...)), max_size=3)))


_pairs = st.sampled_from(FULL).flatmap(
    lambda base: st.tuples(_shapes(base), st.none() | _shapes(base))
)


class TestShapes:
    @settings(max_examples=400)
    @given(_pairs, st.none() | _shapes(FULL[2]))
    def test_every_shape_has_an_answer_and_always_the_same(self, pair: Any, plan: Any) -> None:
        try:
            review = parsed(*pair)
            if plan is not None:  # as it is read live
                plan = msgspec.json.decode(msgspec.json.encode(plan), type=KubeObject)
        except (ReviewMalformed, msgspec.ValidationError):
            return
        if plan is not None and (
            plan["metadata"].get("name"),
            plan["metadata"].get("namespace"),
        ) != (
            PLAN["metadata"]["name"],
            PLAN["metadata"]["namespace"],
        ):
            plan = PLAN
        try:
            sources = world(Vcenter(VSPHERE, DATABASE), plan=plan or PLAN)
        except ClusterUnreachable:
            return  # what is followed of the cluster has the CRDs' own types
        first = answers(review, sources)
        assert answers(review, sources) == first
        fixed = patched(pair[0], first[0])
        again, _ = answers(parsed(fixed, pair[1]), sources)
        assert patched(fixed, again) == fixed


KEYS = (VM_ID, VM_UUID, DISK_SOURCE)


def without(obj: Any, keys: set[str]) -> Any:
    return merged(
        obj,
        {"metadata": {part: dict.fromkeys(keys) for part in ("labels", "annotations")}},
    )


class TestRatchet:
    @settings(max_examples=150)
    @given(_objects, st.booleans(), st.lists(st.sampled_from([DATABASE, SAME_MOREF]), max_size=1))
    def test_what_changes_nothing_is_admitted_silently(
        self, obj: Any, away: bool, vms: Any
    ) -> None:
        now = merged(obj, {"metadata": {"annotations": {"x": "y"}}, "status": {"x": "y"}})
        vcenter = Vcenter(VSPHERE, *vms).never_read() if away else Vcenter(VSPHERE, *vms)
        verdict = judged(parsed(now, obj), world(vcenter, pvcs=()))
        assert isinstance(verdict, Admitted)
        assert verdict.warnings == ()
        assert verdict.findings == ()

    @given(_claims, st.sets(st.sampled_from(KEYS), min_size=1))
    def test_keys_can_always_be_taken_away(self, obj: Any, keys: set[str]) -> None:
        vcenter = Vcenter(VSPHERE).never_read()
        assert isinstance(judged(parsed(without(obj, keys), obj), world(vcenter)), Admitted)

    @settings(max_examples=150)
    @given(
        st.lists(st.sampled_from(["vm-178", "vm-900", "vm-9", ""]), min_size=1, max_size=3),
        st.lists(st.sampled_from(["vm-178", "vm-900", "vm-9", ""]), max_size=3),
    )
    def test_entries_that_are_added_are_judged_as_on_create(
        self, added: list[str], there: list[str]
    ) -> None:
        def plan(ids: list[str]) -> Any:
            return merged(PLAN, {"spec": {"vms": [{"id": one} for one in ids]}})

        sources = world(Vcenter(VSPHERE, DATABASE, STRANGER), pvcs=WHOLE[:1])
        now = plan([*there, *added])
        created, updated = judged(parsed(now), sources), judged(parsed(now, plan(there)), sources)
        fields = tuple(f"spec.vms[{at}]" for at in range(len(there), len(now["spec"]["vms"])))

        def of_added(verdict: Verdict) -> set[str]:
            assert not isinstance(verdict, Undecided)
            causes = verdict.causes if isinstance(verdict, Denied) else ()
            return {f"{one.field}: {one}" for one in causes if one.field.startswith(fields)}

        assert of_added(updated) == of_added(created)
        if isinstance(updated, Denied):
            assert all(cause.field.startswith(fields) for cause in updated.causes)

    @settings(max_examples=50)
    @given(_claims)
    def test_keys_that_are_all_new_are_judged_as_on_create(self, obj: Any) -> None:
        assume(all(_keys(obj)))
        old = pvc("vm-1", "y", "[z] z.vmdk")
        sources = world(Vcenter(VSPHERE, DATABASE), pvcs=())
        created, updated = judged(parsed(obj), sources), judged(parsed(obj, old), sources)
        assert type(created) is type(updated)


def _keys(obj: Any) -> list[str | None]:
    labels, annotations = (obj["metadata"].get(part) or {} for part in ("labels", "annotations"))
    return [labels.get(VM_ID), labels.get(VM_UUID), annotations.get(DISK_SOURCE)]


class TestReadiness:
    @settings(max_examples=300)
    @given(
        _pvcs,
        st.lists(
            st.sampled_from(
                [
                    {"id": "vm-178"},
                    {"name": "database"},
                    {"id": "vm-9"},
                    {"name": "x"},
                    {},
                    {"id": "vm-900"},
                    {"name": "/DC0/vm/database"},
                ]
            ),
            max_size=2,
        ),
        st.lists(st.sampled_from([DATABASE, STRANGER, CLONE]), max_size=3, unique=True),
        st.sampled_from(
            [
                {},
                {"targetNamespace": ""},
                {"archived": True},
                {"type": "cold"},
                {"provider": {"source": {"name": "b"}}},
                {"provider": {"source": None}},
            ]
        ),
        st.sampled_from([{}, _STATUS]),
        st.sampled_from([{}, {"disk-0": "virt-launcher"}]),
        st.dictionaries(
            st.sampled_from(["migration-disks", "migration-pvc-in-use"]),
            st.sampled_from(MILDEST_FIRST),
        ),
        st.sampled_from(["", "away"]),
    )
    def test_it_is_the_verdict_on_a_migration(
        self, pvcs: Any, vms: Any, there: Any, spec: Any, status: Any, pods: Any, actions: Any,
        trouble: str,
    ) -> None:  # fmt: skip
        plan = merged(merged(PLAN, {"spec": {"vms": vms}, "status": status}), {"spec": spec})
        vcenter = Vcenter(VSPHERE, *there)
        if trouble == "away":
            vcenter.never_read()
        sources = world(vcenter, plan=plan, pvcs=pvcs, pods=pods, actions=actions)
        verdict = judged(parsed(MIGRATION), sources)
        named: Any = plan
        told = asyncio.run(readiness("openshift-mtv", "conversion-plan", named, sources, User()))
        if told.state == "not-checked":
            assert isinstance(verdict, Admitted)
            return
        assert told.ready is isinstance(verdict, Admitted)
        assert (told.state == "undecided") is isinstance(verdict, Undecided)
