"""What a user sees with kubectl, a real API server and a vCenter: the promises, one by one."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cases import NAMESPACE, VSPHERE
from tests.e2e.bed import add_disk, eventually, find_vm, mark_as_template, set_uuid
from tests.e2e.world import TARGET, Vm, World, pvc
from tests.guard import Guard
from webhook.cli.demo import merged
from webhook.model import marks
from webhook.model.keys import DISK_SOURCE, IN_SYNC, VM_ID, VM_UUID

pytestmark = pytest.mark.e2e

GUIDES_PLAN = """
apiVersion: forklift.konveyor.io/v1beta1
kind: Plan
metadata:
  name: advanced-conversion-plan
  namespace: openshift-mtv
spec:
  type: conversion
  description: "Conversion migration with vendor-provided storage"
  targetNamespace: migrated-workloads
  provider:
    source:
      name: vsphere-production
      namespace: openshift-mtv
    destination:
      name: openshift-target
      namespace: openshift-mtv
  map:
    network:
      name: production-network-mapping
      namespace: openshift-mtv
    storage: {}  # Empty - PVCs pre-created by vendor
  vms:
  - id: VM-1
    name: NAME-1
  - id: VM-2
    name: NAME-2
  preserveStaticIPs: true
  targetPowerState: on
"""


@pytest.fixture(scope="module")
def shaped(world: World) -> None:
    """What the scenarios need beside the simulator's own four VMs, from before any guard reads."""
    with world.vcsim.connect() as instance:
        snapped = find_vm(instance, "DC0_H0_VM1")
        add_disk(snapped, 2**20, "[LocalDS_0] DC0_H0_VM1/data-000001.vmdk")
        mark_as_template(find_vm(instance, "DC0_C0_RP0_VM1"))


@pytest.fixture(scope="module")
def guard(world: World, shaped: None) -> Iterator[Guard]:
    with world.guarded(trustNetwork=True) as guard:
        yield guard


@pytest.fixture(scope="module")
def vm(world: World, guard: Guard) -> Vm:
    return world.vm("DC0_H0_VM0")


@pytest.fixture(scope="module")
def other(world: World, guard: Guard) -> Vm:
    return world.vm("DC0_C0_RP0_VM0")


def claim(name: str, vm: Vm, **change: str | None) -> dict[str, Any]:
    """A right PVC of the VM's first disk, with a key or two changed (None takes it away)."""
    keys = {"vmID": vm.moref, "vmUUID": vm.uuid, "source": vm.files[0], "storage": "100Gi"} | change
    labels = {key: value for key in (VM_ID, VM_UUID) if (value := keys[key])}
    source = keys["source"]
    annotations = {IN_SYNC: "replication"} | ({DISK_SOURCE: source} if source is not None else {})
    return pvc(name, labels, annotations, keys["storage"] or "")


def plan(text: str, *vms: Vm) -> dict[str, Any]:
    for number, vm in enumerate(vms, 1):
        text = text.replace(f"VM-{number}", vm.moref).replace(f"NAME-{number}", vm.name)
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


class TestPlans:
    def test_the_guides_plan_as_printed(self, world: World, vm: Vm, other: Vm) -> None:
        text = GUIDES_PLAN.replace("VM-1", vm.moref).replace("VM-2", other.moref)
        text = text.replace("NAME-1", vm.name).replace("NAME-2", other.name)
        for how in (["--dry-run=server"], [], []):  # the second apply is an update of nothing
            world.bed.kubectl("apply", *how, "-f", "-", stdin=text, check=True)
            diff = world.bed.kubectl("diff", "-f", "-", stdin=text)
            assert diff.returncode == (1 if how else 0), diff.stderr
        spec = self.spec(world, "advanced-conversion-plan")
        assert spec["targetPowerState"] == "on"
        assert spec["map"]["storage"] == {}

    def test_a_plan_without_a_storage_map(self, world: World, vm: Vm, other: Vm) -> None:
        obj = plan(GUIDES_PLAN, vm, other)
        obj["metadata"]["name"] = "without-storage"
        del obj["spec"]["map"]["storage"]
        text = json.dumps(obj)
        for how in (["--dry-run=server"], []):
            world.bed.kubectl("apply", *how, "-f", "-", stdin=text, check=True)
        assert self.spec(world, "without-storage")["map"]["storage"] == {}
        assert world.bed.kubectl("diff", "-f", "-", stdin=text).returncode == 0

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (
                {"provider": {"source": {"name": "openstack-lab"}}},
                'spec.provider.source: "openshift-mtv/openstack-lab" is of type "openstack"',
            ),
            ({"vms": [{"id": "vm-99999"}]}, ' has no VM "vm-99999": write the id'),
            ({"vms": [{"name": "DC0_H0_VM9"}]}, "did you mean"),
            ({"vms": [{"name": "DC0_C0_RP0_VM1"}]}, "is a template"),
        ],
        ids=["openstack", "unknown-id", "unknown-name", "template"],
    )
    def test_a_wrong_plan_is_refused_and_told_what_is_right(
        self, world: World, vm: Vm, change: dict[str, Any], says: str
    ) -> None:
        obj = merged(plan(GUIDES_PLAN, vm, vm), {"metadata": {"name": "wrong"}, "spec": change})
        refused_everywhere(world, obj, says)

    def test_warm_and_cold_plans_are_untouched_whatever_they_say(
        self, world: World, guard: Guard, vm: Vm
    ) -> None:
        before = guard.reviews("Plan")
        plans: dict[str, dict[str, Any]] = {
            "cold": {"vms": [{"id": "no such"}, {"id": "no such"}]},
            "warm": {"vms": [], "warm": True},
            "untyped": {"type": None},
        }
        for kind, spec in plans.items():
            obj = merged(plan(GUIDES_PLAN, vm, vm), {"metadata": {"name": kind}})
            obj["spec"] = merged(obj["spec"], {"type": kind, "targetPowerState": "off", **spec})
            world.bed.kubectl("create", "-f", "-", stdin=json.dumps(obj), check=True)
            assert self.spec(world, kind)["targetPowerState"] == "off"
        assert guard.reviews("Plan") == before

    def test_what_the_schema_refuses_is_the_api_servers_to_say(self, world: World, vm: Vm) -> None:
        for field, value in {"map": None, "vms": "x"}.items():
            obj = plan(GUIDES_PLAN, vm, vm)
            obj["metadata"]["name"] = f"wrong-{field}"
            obj["spec"][field] = value
            refusal = world.create(obj)
            assert refusal.returncode == 1
            assert "internal error" not in refusal.stderr.lower()
            assert f"spec.{field}" in refusal.stderr

    @staticmethod
    def spec(world: World, name: str) -> dict[str, Any]:
        got = world.bed.kubectl("get", "plan", name, "-n", NAMESPACE, "-o", "json", check=True)
        spec: dict[str, Any] = json.loads(got.stdout)["spec"]
        return spec


class TestClaims:
    def test_a_bare_file_name_becomes_the_full_path(self, world: World, vm: Vm) -> None:
        obj = claim("bare", vm, source=vm.files[0].rpartition("/")[2])
        text = json.dumps(obj)
        for how in (["--dry-run=server"], [], []):
            done = world.bed.kubectl("apply", *how, "-o", "json", "-f", "-", stdin=text, check=True)
            assert json.loads(done.stdout)["metadata"]["annotations"][DISK_SOURCE] == vm.files[0]
        assert world.bed.kubectl("diff", "-f", "-", stdin=text).returncode in (0, 1)

    def test_the_base_name_of_a_disk_with_a_snapshot(self, world: World, guard: Guard) -> None:
        snapped = world.vm("DC0_H0_VM1")
        assert snapped.files[-1].endswith("data-000001.vmdk")
        done = world.create(claim("snapped", snapped, source="[LocalDS_0] DC0_H0_VM1/data.vmdk"))
        assert done.returncode == 0, done.stderr

    def test_wrong_claims_are_refused_each_with_field_cause_and_fix(
        self, world: World, vm: Vm, other: Vm
    ) -> None:
        for name, change, field, says in (
            ("instance-uuid", {"vmUUID": vm.instance_uuid}, "labels[vmUUID]", vm.uuid),
            ("other-uuid", {"vmUUID": other.uuid}, "labels[vmUUID]", vm.uuid),
            ("unknown-vm", {"vmID": "vm-99999"}, "labels[vmID]", vm.moref),
            ("others-disk", {"source": other.files[0]}, f"annotations[{DISK_SOURCE}]", vm.files[0]),
            ("unknown-uuid", {"vmID": None, "vmUUID": vm.instance_uuid}, "labels[vmID]", vm.moref),
            ("no-source", {"source": None}, f"annotations[{DISK_SOURCE}]", vm.files[0]),
        ):
            obj = claim(name, vm, **change)
            status = refused_everywhere(world, obj, f"metadata.{field}: ")
            assert says in status["details"]["causes"][0]["message"]
        # The simulator's disks are small, so a claim can be too small only for one that is not.
        with world.vcsim.connect() as instance:
            add_disk(find_vm(instance, vm.name), 2**20, f"[LocalDS_0] {vm.name}/large.vmdk")
        large = claim("small", vm, source=f"[LocalDS_0] {vm.name}/large.vmdk", storage="1G")
        # The refusals above have just asked vSphere, and that answer serves until news come.
        eventually(lambda: '"1Gi"' in world.create(large).stderr, "the news of the new disk")
        status = refused_everywhere(world, large, "spec.resources.requests.storage: ")
        assert '"1Gi"' in status["details"]["causes"][0]["message"]

    def test_two_faults_are_two_causes(self, world: World, vm: Vm, other: Vm) -> None:
        obj = claim("two-faults", vm, vmUUID=other.uuid, source=other.files[0])
        causes = world.post(obj)["details"]["causes"]
        assert {cause["field"] for cause in causes} == {
            f"metadata.labels[{VM_UUID}]",
            f"metadata.annotations[{DISK_SOURCE}]",
        }

    def test_a_disk_that_was_just_added_is_known(self, world: World, guard: Guard) -> None:
        """At once for the verdict, which asks vSphere before it refuses; soon for the default."""
        vm = world.vm("DC0_H0_VM1")  # nothing of it was refused in the last seconds
        file = f"[LocalDS_0] {vm.name}/hot.vmdk"
        with world.vcsim.connect() as instance:
            add_disk(find_vm(instance, vm.name), 2**10, file)
        done = world.create(claim("hot", vm, source=file))
        assert done.returncode == 0, done.stderr
        eventually(
            lambda: (
                world.create(claim("hot-bare", vm, source="hot.vmdk"), dry_run=True).returncode == 0
            ),
            "the bare name of a new disk is filled in",
        )

    def test_what_leaves_the_keys_alone_never_arrives(
        self, world: World, guard: Guard, vm: Vm
    ) -> None:
        assert world.create(expandable(world, claim("quiet", vm))).returncode == 0
        before = guard.reviews()
        live_on(world, "quiet")
        world.bed.kubectl("create", "configmap", "x", "-n", TARGET, "--dry-run=server", check=True)
        plain = pvc("plain", {"app": "shop"}, {"note": "x"})
        assert world.create(plain).returncode == 0
        assert guard.reviews() == before

    def test_a_changed_key_arrives_and_a_released_claim_is_let_go(
        self, world: World, guard: Guard, vm: Vm, other: Vm
    ) -> None:
        assert world.create(claim("changing", vm)).returncode == 0
        wrong = label(world, "changing", f"{VM_UUID}={other.uuid}", "--overwrite")
        assert 'The PersistentVolumeClaim "changing" is invalid' in wrong
        before = guard.reviews()
        assert label(world, "changing", f"{VM_ID}-", f"{VM_UUID}-") == ""
        assert annotate(world, "changing", f"{DISK_SOURCE}-") == ""
        assert guard.reviews() == before, "with every replica down it would be let go, too"


class TestOutage:
    """A vCenter that goes away, with a simulator and a guard of its own."""

    def test_what_is_known_is_admitted_with_a_warning_and_the_rest_is_undecided(
        self, world: World
    ) -> None:
        vcsim = world.bed.add_vcsim()
        with world.guarded(vcsim, trustNetwork=True) as guard:
            vm = world.vm("DC0_H0_VM0", vcsim)
            vcsim.stop()
            eventually(lambda: "unreachable" in guard.log, "the guard notices the outage")
            right = world.create(claim("known", vm))
            assert right.returncode == 0, right.stderr
            assert "Warning: checked with the inventory of" in right.stderr
            assert "has been unreachable since 20" in right.stderr
            unknown = world.create(claim("unknown", vm, vmID="vm-99999"))
            assert unknown.returncode == 1
            assert "(ServiceUnavailable)" in unknown.stderr
            assert f"provider {NAMESPACE}/{VSPHERE} has been unreachable since 20" in unknown.stderr
            status = world.post(claim("unknown", vm, vmID="vm-99999"))
            assert (status["code"], status["reason"]) == (503, "ServiceUnavailable")
            vcsim.start()
            eventually(
                lambda: world.post(claim("unknown", vm, vmID="vm-99999"))["code"] == 422,
                "the guard finds its vCenter again",
            )


class TestTwoVcenters:
    def test_a_moref_that_both_have_is_told_apart_by_its_uuid(self, world: World) -> None:
        """The same shape: each has the same morefs, names and, until one is changed, uuids."""
        one, two = world.bed.add_vcsim(), world.bed.add_vcsim()
        uuid = "11111111-2222-3333-4444-555555555555"
        with two.connect() as instance:
            set_uuid(find_vm(instance, "DC0_H0_VM0"), uuid)
        folder = world.folder / "two"
        folder.mkdir()
        providers = []
        for number, vcsim in enumerate((one, two)):
            password = folder / f"password-{number}"
            password.write_text(vcsim.password)
            address = {"url": vcsim.url, "user": vcsim.user, "caFile": str(vcsim.ca_file)}
            name = {"namespace": NAMESPACE, "name": f"vcenter-{number}"}
            providers.append({**name, **address, "passwordFile": str(password)})
        with world.guarded(one, providers=providers, trustNetwork=True):
            first, second = world.vm("DC0_H0_VM0", one), world.vm("DC0_H0_VM0", two)
            assert first.moref == second.moref
            assert first.uuid != second.uuid == uuid
            for number, vm in enumerate((first, second)):
                done = world.create(claim(f"of-{number}", vm), dry_run=True)
                assert done.returncode == 0, done.stderr
            wrong = claim("wrong", first, vmUUID="99999999-2222-3333-4444-555555555555")
            assert world.post(wrong)["code"] == 422
            two.stop()
            eventually(lambda: world.post(wrong)["code"] == 503, "one of two is away")
            message = world.post(wrong)["message"]
            assert f"{NAMESPACE}/vcenter-1 has been unreachable since" in message
            assert f"{NAMESPACE}/vcenter-0" not in message
            done = world.create(claim("of-0", first), dry_run=True)
            assert done.returncode == 0, "the other one's word is enough to admit"


OTHERS: list[dict[str, Any]] = [
    pvc("plain-2", {"app": "shop"}, {}),
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "shop", "namespace": TARGET},
        "spec": {"containers": [{"name": "shop", "image": "shop"}]},
    },
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
    {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "shop", "namespace": TARGET},
    },
]
"""What a cluster makes all the time."""


class TestDeadWebhook:
    """No replica answers: what is there lives on, and nothing new is let in unchecked."""

    def test_a_dead_guard_stands_in_nobodys_way_and_lets_nothing_in(self, world: World) -> None:
        vm, other = world.vm("DC0_H0_VM0"), world.vm("DC0_C0_RP0_VM0")
        with world.guarded(trustNetwork=True) as guard:
            for name in ("orphan", "other-orphan", "released", "half-released"):
                done = world.create(expandable(world, claim(name, vm)))
                assert done.returncode == 0, done.stderr
            obj = merged(plan(GUIDES_PLAN, vm, other), {"metadata": {"name": "orphan"}})
            assert world.create(obj).returncode == 0
            assert guard.stop() == 0
            live_on(world, "orphan")
            for others in OTHERS:
                done = world.create(others)
                assert done.returncode == 0, done.stderr
            of_plan = ["plan", "orphan", "-n", NAMESPACE]
            world.bed.kubectl("annotate", *of_plan, "note=x", check=True)
            archive = '{"spec": {"archived": true}}'
            world.bed.kubectl("patch", *of_plan, "--type=merge", "-p", archive, check=True)
            world.bed.kubectl("delete", *of_plan, check=True)
            swapped = f"{VM_ID}-", f"{VM_UUID}={other.uuid}", "--overwrite"
            released = f"{VM_ID}-", f"{VM_UUID}-"
            for name in ("released", "half-released"):
                assert label(world, name, *released[: 2 if name == "released" else 1]) == ""
                assert annotate(world, name, f"{DISK_SOURCE}-") == ""
            # A copy of a converted PVC, by whichever tool, of a VM that may be long gone.
            copied = merged(claim("copy", vm), {"metadata": {"labels": {VM_ID: "vm-99999"}}})
            for number, mark in enumerate(sorted({marks.BOUND, *marks.ANNOTATIONS})):
                change = {"name": f"copy-a{number}", "annotations": {mark: "x"}}
                assert world.create(merged(copied, {"metadata": change})).returncode == 0, mark
            for number, mark in enumerate(sorted(marks.LABELS)):
                change = {"name": f"copy-l{number}", "labels": {mark: "x"}}
                assert world.create(merged(copied, {"metadata": change})).returncode == 0, mark
            for kind in sorted(marks.OWNER_KINDS):
                owner: Any = {"apiVersion": "x.io/v1", "kind": kind, "name": "x", "uid": "x"}
                owned = {"name": f"copy-{kind.lower()}", "ownerReferences": [owner]}
                assert world.create(merged(copied, {"metadata": owned})).returncode == 0, kind
            for refused in (
                world.create(copied).stderr,
                world.create(claim("new", vm)).stderr,
                label(world, "other-orphan", f"{VM_UUID}={other.uuid}", "--overwrite"),
                label(world, "other-orphan", *swapped),
                annotate(world, "other-orphan", f"{DISK_SOURCE}={other.files[0]}", "--overwrite"),
                label(world, "released", f"{VM_ID}={vm.moref}"),
                label(world, "half-released", f"{DISK_SOURCE}=x"),
                world.create(merged(obj, {"spec": {"targetPowerState": "on"}})).stderr,
            ):
                assert "failed calling webhook" in refused


def expandable(world: World, obj: dict[str, Any]) -> dict[str, Any]:
    """The claim, of a storage class whose volumes can grow."""
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "expandable"},
        "provisioner": "example.com/none",
        "allowVolumeExpansion": True,
    }
    world.bed.kubectl("apply", "-f", "-", stdin=json.dumps(storage_class), check=True)
    return merged(obj, {"spec": {"storageClassName": "expandable"}})


def live_on(world: World, name: str) -> None:
    """Everything that a cluster does to a PVC of `expandable`, and its end."""
    of_claim = ["pvc", name, "-n", TARGET]
    kubectl = world.bed.kubectl
    volume = '{"spec": {"volumeName": "volume-1"}}'
    kubectl("patch", *of_claim, "--type=merge", "-p", volume, check=True)
    bound = '{"status": {"phase": "Bound", "capacity": {"storage": "100Gi"}}}'
    kubectl("patch", *of_claim, "--subresource=status", "--type=merge", "-p", bound, check=True)
    larger = '{"spec": {"resources": {"requests": {"storage": "200Gi"}}}}'
    kubectl("patch", *of_claim, "--type=merge", "-p", larger, check=True)
    kubectl("annotate", *of_claim, "note=x", check=True)
    kubectl("label", *of_claim, "app=shop", check=True)
    kubectl("delete", *of_claim, "--wait=false", check=True)
    loose = '{"metadata": {"finalizers": null}}'
    kubectl("patch", *of_claim, "--type=merge", "-p", loose, check=True)
    assert "NotFound" in kubectl("get", *of_claim).stderr


def label(world: World, name: str, *labels: str) -> str:
    return world.bed.kubectl("label", "pvc", name, "-n", TARGET, *labels).stderr


def annotate(world: World, name: str, *annotations: str) -> str:
    return world.bed.kubectl("annotate", "pvc", name, "-n", TARGET, *annotations).stderr


def refused_everywhere(world: World, obj: dict[str, Any], says: str) -> dict[str, Any]:
    """The same refusal by create, apply, dry run and diff; the API server's own Status of it."""
    kind, name = obj["kind"], obj["metadata"]["name"]
    text = json.dumps(obj)
    for command in (
        ["create", "-f", "-"],
        ["apply", "-f", "-"],
        ["apply", "--dry-run=server", "-f", "-"],
        ["diff", "-f", "-"],
    ):
        done = world.bed.kubectl(*command, stdin=text)
        assert done.returncode != 0
        assert f'The {kind} "{name}" is invalid: ' in done.stderr, done.stderr
        assert says in done.stderr
        assert "(conversion-guard: " in done.stderr
    status = world.post(obj)
    assert (status["code"], status["reason"]) == (422, "Invalid")
    assert all(cause["field"] and cause["reason"] for cause in status["details"]["causes"])
    return status
