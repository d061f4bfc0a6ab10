"""The guide's whole example with two VMs of three disks, then every single fault in it.

Each fault is told at the earliest object that can know it, by kubectl against a real API server,
with a simulated vCenter behind the guard and the shipped rights.
"""

import json
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.cases import NAMESPACE
from tests.e2e.bed import (
    CDI,
    FORKLIFT_CONTROLLER,
    GUARD,
    Kubectl,
    Vcsim,
    add_disk,
    eventually,
    find_vm,
    mark_as_template,
    power_off,
    rename,
    vim,
)
from tests.e2e.bed import wait_for as finished
from tests.e2e.test_scenarios import GUIDES_PLAN, claim, plan
from tests.e2e.world import Vm, World
from tests.guard import Guard
from webhook.cli.demo import merged
from webhook.model import marks
from webhook.model.keys import DISK_SOURCE, VM_ID, VM_UUID

pytestmark = pytest.mark.e2e

TEAM, OTHER_TEAM = "rulebook", "other-team"
_MIGRATION_UID = "60000000-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def vcsim(world: World) -> Vcsim:
    """Six VMs; all but their first disk are made here, with a name that no other VM has."""
    vcsim = world.bed.add_vcsim(vms=4)
    with vcsim.connect() as instance:
        for name in _NAMES:
            vm = find_vm(instance, name)
            for number in (2, 3):
                add_disk(vm, 2**20, f"[LocalDS_0] {name}/data-{number}.vmdk")
            tools = {"toolsRunningStatus": "guestToolsRunning", "toolsStatus": "toolsOk"}
            config = [
                vim.option.OptionValue(key=f"SET.guest.{field}", value=value)
                for field, value in tools.items()
            ]
            finished(vm.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=config)))
    return vcsim


_NAMES = [f"DC0_{place}_VM{number}" for place in ("H0", "C0_RP0") for number in range(3)]


@pytest.fixture(scope="module")
def guard(world: World, vcsim: Vcsim) -> Iterator[Guard]:
    """With its own service account's rights, which the manifests grant."""
    kubectl = world.bed.kubectl
    for namespace in (TEAM, OTHER_TEAM):
        kubectl("create", "namespace", namespace, check=True)
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": TEAM},
        "provisioner": "vendor.example.com",
    }
    assert world.create(storage_class).returncode == 0
    for number, user in enumerate(("vendor", FORKLIFT_CONTROLLER, CDI)):
        role = ["--clusterrole=edit-conversions", f"--user={user}"]
        kubectl("create", "clusterrolebinding", f"edits-{number}", *role, check=True)
    verbs = "--verb=create,get,update,patch"
    kinds = (
        "persistentvolumeclaims",
        "plans.forklift.konveyor.io",
        "migrations.forklift.konveyor.io",
    )
    what = f"--resource={','.join(kinds)}"
    kubectl("create", "clusterrole", "edit-conversions", verbs, what, check=True)
    with world.guarded(
        vcsim, kubeconfig=str(world.bed.kubeconfig(GUARD)), trustNetwork=True
    ) as guard:
        yield guard


@pytest.fixture(scope="module")
def vms(world: World, guard: Guard, vcsim: Vcsim) -> dict[str, Vm]:
    return {name: world.vm(name, vcsim) for name in _NAMES}


@pytest.fixture(scope="module")
def pair(vms: dict[str, Vm]) -> tuple[Vm, Vm]:
    """The two VMs that nothing happens to."""
    return vms["DC0_H0_VM0"], vms["DC0_C0_RP0_VM0"]


@pytest.fixture(autouse=True)
def clean(world: World, guard: Guard) -> Iterator[None]:
    yield
    world.bed.empty(NAMESPACE, "Migration", "Plan")
    for namespace in (TEAM, OTHER_TEAM):
        world.bed.empty(namespace, "Pod", "PersistentVolumeClaim")


class Team:
    """What a vendor and an operator do in one namespace."""

    def __init__(self, world: World, namespace: str = TEAM) -> None:
        self._world, self._namespace = world, namespace

    def disk(self, vm: Vm, number: int, **change: Any) -> dict[str, Any]:
        name = change.pop("name", f"{vm.moref}-{number}")
        made = claim(name, vm, **{"source": vm.files[number], **change})
        place = {"metadata": {"namespace": self._namespace}}
        return merged(made, {**place, "spec": {"storageClassName": TEAM}})

    def disks(self, *vms: Vm, but: tuple[int, ...] = ()) -> list[dict[str, Any]]:
        """Each VM's three; of the first VM not those in `but`."""
        return [
            self.disk(vm, number)
            for vm in vms
            for number in range(3)
            if vm is not vms[0] or number not in but
        ]

    def plan(self, *vms: Vm, **spec: Any) -> dict[str, Any]:
        entries = [{"id": vm.moref, "name": vm.name} for vm in vms]
        made = plan(GUIDES_PLAN, vms[0], vms[-1])
        change = {"targetNamespace": self._namespace, "vms": entries, **spec}
        return merged(made, {"metadata": {"name": "conversion"}, "spec": change})

    @property
    def migration(self) -> dict[str, Any]:
        return {
            "apiVersion": "forklift.konveyor.io/v1beta1",
            "kind": "Migration",
            "metadata": {"generateName": "start-", "namespace": NAMESPACE},
            "spec": {"plan": {"name": "conversion", "namespace": NAMESPACE}},
        }

    def send(self, *objects: dict[str, Any], **how: Any) -> Kubectl:
        """kubectl create of them all, in one call."""
        return self._world.create(_list(objects), **how)

    def make(self, *objects: dict[str, Any], user: str = "admin") -> str:
        """The same, which must succeed; its warnings."""
        done = self.send(*objects, user=user)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def bind(self, *claims: dict[str, Any], storage: str = "100Gi") -> None:
        """What the volume controller does, which this bed hasn't got."""
        names = [f"pvc/{obj['metadata']['name']}" for obj in claims]
        status = {"status": {"phase": "Bound", "capacity": {"storage": storage}}}
        how = ["--subresource=status", "--type=merge", "-p", json.dumps(status)]
        self._world.bed.kubectl("patch", *names, "-n", self._namespace, *how, check=True)

    def ready(self, *vms: Vm) -> list[dict[str, Any]]:
        """All is well: every disk bound, and the Plan made."""
        claims = self.disks(*vms)
        self.make(*claims)
        self.bind(*claims)
        assert not self.make(self.plan(*vms))
        return claims

    def starts(self, **how: Any) -> str:
        """The Migration would be admitted; its warnings."""
        done = self.send(self.migration, dry_run=True, **how)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def refused(self, obj: dict[str, Any], rule: str, says: str, **how: Any) -> str:
        done = self.send(obj, dry_run=True, **how)
        assert done.returncode == 1, done.stderr
        assert says in done.stderr, done.stderr
        assert f"(conversion-guard: {rule})" in done.stderr, done.stderr
        return done.stderr


def _list(objects: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    if len(objects) == 1:
        return objects[0]
    return {"apiVersion": "v1", "kind": "List", "items": list(objects), "metadata": {}}


@pytest.fixture
def team(world: World) -> Team:
    return Team(world)


class TestTheWholeExample:
    def test_claims_in_any_order_then_the_plan_then_the_migration(
        self, world: World, team: Team, pair: tuple[Vm, Vm]
    ) -> None:
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        claims = team.disks(*pair)
        random.Random(seed).shuffle(claims)
        for obj in claims:
            assert not team.make(obj)
        team.bind(*claims)
        assert not team.make(team.plan(*pair))
        assert not team.starts()
        assert not team.make(team.migration), "generateName, for real"

    def test_the_plan_first(self, team: Team, pair: tuple[Vm, Vm]) -> None:
        warned = team.make(team.plan(*pair))
        assert warned.count("for 3 of the 3 disks") == 2
        team.refused(team.migration, "migration-disks", "for 3 of the 3 disks")

    def test_two_namespaces_may_each_have_a_copy(
        self, world: World, team: Team, pair: tuple[Vm, Vm]
    ) -> None:
        team.ready(pair[0])
        other = Team(world, OTHER_TEAM)
        assert not other.make(*other.disks(pair[0]))
        assert not team.starts()


class TestFaultsOfAClaim:
    def test_found_at_the_claim(self, team: Team, pair: tuple[Vm, Vm]) -> None:
        one, two = pair
        for rule, says, obj in (
            ("pvc-disk-source", one.files[1], team.disk(one, 1, source=two.files[1])),
            ("pvc-disk-source", "is not a disk of", team.disk(one, 1, source="[x] extra.vmdk")),
            ("pvc-capacity", '"1Gi"', team.disk(one, 1, storage="1G")),
        ):
            team.refused(obj, rule, says)

    def test_twice(self, team: Team, pair: tuple[Vm, Vm]) -> None:
        team.make(team.disk(pair[0], 1))
        again = team.disk(pair[0], 1, name="again")
        eventually(lambda: team.send(again, dry_run=True).returncode, "the first is known")
        team.refused(again, "pvc-disk-claimed", "already")

    def test_one_missing(self, team: Team, pair: tuple[Vm, Vm]) -> None:
        claims = team.disks(*pair, but=(1,))
        team.make(*claims)
        team.bind(*claims)
        assert "for 1 of the 3 disks" in team.make(team.plan(*pair))
        told = team.refused(team.migration, "migration-disks", "for 1 of the 3 disks")
        assert pair[0].files[1] in told

    def test_a_populators_prime(self, team: Team, pair: tuple[Vm, Vm]) -> None:
        """Forklift counts it, so that the number is right, and leaves it out."""
        team.make(*team.disks(*pair, but=(1,)), team.disk(pair[0], 1, name="prime-1"))
        team.refused(team.plan(*pair), "plan-disks", "prime-1")

    def test_one_that_came_past_the_guard(self, team: Team, pair: tuple[Vm, Vm]) -> None:
        """A skip proves nothing: the Plan looks at every PVC."""
        stray = team.disk(pair[0], 1, name="stray", source="[x] stray.vmdk")
        stray["metadata"]["labels"]["migration"] = _MIGRATION_UID
        team.make(*team.disks(*pair, but=(1,)), stray)
        team.refused(team.plan(*pair), "plan-disks", 'PVC ("stray")')

    def test_not_bound_and_on_its_way_out(
        self, world: World, team: Team, pair: tuple[Vm, Vm]
    ) -> None:
        claims = team.disks(*pair)
        team.make(*claims)
        team.bind(*claims[1:])
        assert not team.make(team.plan(*pair))
        team.refused(team.migration, "migration-disks", "not bound to a volume")
        team.bind(claims[0])
        assert not team.starts()
        name = claims[1]["metadata"]["name"]
        world.bed.kubectl("delete", "pvc", name, "-n", TEAM, "--wait=false", check=True)
        told = team.refused(team.migration, "migration-disks", "being deleted")
        assert name in told

    def test_a_running_pod_mounts_it(self, world: World, team: Team, pair: tuple[Vm, Vm]) -> None:
        claims = team.ready(*pair)
        volume = {
            "name": "v",
            "persistentVolumeClaim": {"claimName": claims[0]["metadata"]["name"]},
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "copier", "namespace": TEAM},
            "spec": {"containers": [{"name": "c", "image": "c"}], "volumes": [volume]},
        }
        team.make(pod)
        running = '{"status": {"phase": "Running"}}'
        how = ["--subresource=status", "--type=merge", "-p", running]
        world.bed.kubectl("patch", "pod", "copier", "-n", TEAM, *how, check=True)
        team.refused(team.migration, "migration-pvc-in-use", '"copier"')


class TestWhatHappensInVsphere:
    """After the PVCs were labelled; each to a VM of its own."""

    def test_renamed(self, world: World, team: Team, vms: dict[str, Vm], vcsim: Vcsim) -> None:
        vm = vms["DC0_H0_VM1"]
        team.ready(vm)
        with vcsim.connect() as instance:
            rename(find_vm(instance, vm.name), "renamed")
        by_name = merged(team.plan(vm), {"metadata": {"name": "by-name"}})
        by_name["spec"]["vms"] = [{"name": vm.name}]
        again = merged(team.plan(vm), {"metadata": {"name": "again"}})
        eventually(
            lambda: 'write "renamed"' in team.send(again, dry_run=True).stderr, "the new name"
        )
        team.refused(by_name, "plan-vm", "has no VM with the name or path")
        assert not team.starts(), "the id counts"

    def test_made_a_template(self, team: Team, vms: dict[str, Vm], vcsim: Vcsim) -> None:
        vm = vms["DC0_H0_VM2"]
        team.ready(vm)
        with vcsim.connect() as instance:
            mark_as_template(find_vm(instance, vm.name))
        team.refused(team.migration, "migration-disks", "is a template")

    def test_off(self, team: Team, vms: dict[str, Vm], vcsim: Vcsim) -> None:
        vm = vms["DC0_C0_RP0_VM1"]
        team.ready(vm)
        with vcsim.connect() as instance:
            power_off(find_vm(instance, vm.name))
        again = merged(team.plan(vm), {"metadata": {"name": "again"}})
        eventually(
            lambda: "preserveStaticIPs" in team.send(again, dry_run=True).stderr, "it is off"
        )
        assert not team.starts()

    def test_a_disk_added_grown_or_moved(
        self, team: Team, vms: dict[str, Vm], vcsim: Vcsim
    ) -> None:
        vm = vms["DC0_C0_RP0_VM2"]
        claims = team.ready(vm)
        assert not team.starts()
        with vcsim.connect() as instance:
            found = find_vm(instance, vm.name)
            disk = next(d for d in found.config.hardware.device if _file(d) == vm.files[2])
            disk.capacityInKB = 200 * 2**20
            disk.capacityInBytes = disk.capacityInKB * 1024
            _reconfigure(found, "edit", disk)
        team.refused(team.migration, "migration-disks", "smaller than the disk")
        team.bind(*claims, storage="200Gi")
        eventually(lambda: not team.starts(), "it has room")
        with vcsim.connect() as instance:
            found = find_vm(instance, vm.name)
            disk = next(d for d in found.config.hardware.device if _file(d) == vm.files[2])
            _reconfigure(found, "remove", disk)
            moved = f"[LocalDS_0] {vm.name}-moved/data-3.vmdk"
            with suppress(vim.fault.FileAlreadyExists):
                files = instance.RetrieveContent().fileManager
                place = instance.RetrieveContent().rootFolder.childEntity[0]
                files.MakeDirectory(moved.rpartition("/")[0], place, True)
            add_disk(found, 2**20, moved)
        told = team.refused(
            team.migration, "migration-disks", "with a disk-source that is not a disk of"
        )
        assert moved in told
        old = team.disk(vm, 2, name="late")
        told = team.refused(old, "pvc-disk-source", vm.files[2])
        assert moved in told, "the new path is named"
        again = merged(team.plan(vm), {"metadata": {"name": "again"}})
        team.refused(again, "plan-disks", "with a disk-source that is not a disk of")


class TestPlansAndMigrations:
    def test_edited_while_it_executes(self, world: World, team: Team, pair: tuple[Vm, Vm]) -> None:
        team.ready(pair[0])
        team.make(team.migration)
        more = team.plan(*pair)
        done = world.bed.kubectl("replace", "-f", "-", stdin=json.dumps(more))
        assert done.returncode == 1
        assert f"for 3 of the 3 disks of {pair[1].moref}" in done.stderr
        assert "(conversion-guard: plan-disks)" in done.stderr

    def test_turned_from_cold(self, world: World, team: Team, pair: tuple[Vm, Vm]) -> None:
        wrong = {"vms": [{"id": "vm-99999"}], "targetPowerState": "on"}
        team.make(team.plan(pair[0], type="cold", **wrong))
        turn = '{"spec": {"type": "conversion"}}'
        named = ["plan", "conversion", "-n", NAMESPACE]
        done = world.bed.kubectl("patch", *named, "--type=merge", "-p", turn)
        assert "(conversion-guard: plan-vm)" in done.stderr

    def test_run_again_after_a_failure_and_after_half_a_success(
        self, world: World, team: Team, pair: tuple[Vm, Vm]
    ) -> None:
        claims = team.ready(*pair)
        team.make(team.migration)
        _end(world, {pair[0].moref: "Succeeded", pair[1].moref: "Failed"})
        assert not team.starts()
        of_one = [obj["metadata"]["name"] for obj in claims if pair[0].moref in str(obj)]
        world.bed.kubectl("label", "pvc", *of_one, "-n", TEAM, f"{VM_ID}-", f"{VM_UUID}-")
        assert not team.starts(), "the one that succeeded is not judged again"
        of_two = [obj["metadata"]["name"] for obj in claims if pair[1].moref in str(obj)]
        world.bed.kubectl("label", "pvc", of_two[0], "-n", TEAM, f"{VM_ID}-", f"{VM_UUID}-")
        team.refused(team.migration, "migration-disks", "for 1 of the 3 disks")

    def test_cancel_and_cutover(
        self, world: World, team: Team, pair: tuple[Vm, Vm], guard: Guard
    ) -> None:
        team.ready(pair[0])
        made = json.loads(team.send(team.migration).stdout)["metadata"]["name"]
        before = guard.reviews("Migration")
        for change in (
            {"cancel": [{"id": pair[0].moref}]},
            {"cutover": "2026-11-25T00:00:00Z"},
        ):
            patch = ["--type=merge", "-p", json.dumps({"spec": change})]
            world.bed.kubectl("patch", "migration", made, "-n", NAMESPACE, *patch, check=True)
        assert guard.reviews("Migration") == before

    def test_a_remote_destination(self, world: World, team: Team, pair: tuple[Vm, Vm]) -> None:
        remote = {
            "apiVersion": "forklift.konveyor.io/v1beta1",
            "kind": "Provider",
            "metadata": {"name": "far", "namespace": NAMESPACE},
            "spec": {"type": "openshift", "url": "https://far.example.com:6443", "secret": {}},
        }
        team.make(remote)
        destination = {"provider": {"destination": {"name": "far"}}}
        far = team.plan(pair[0], **destination)
        far["spec"]["provider"]["source"] = team.plan(pair[0])["spec"]["provider"]["source"]
        eventually(
            lambda: "is another cluster" in team.send(far, dry_run=True).stderr, "it is known"
        )
        team.make(far)
        assert "not checked" in team.starts()
        world.bed.kubectl("delete", "provider", "far", "-n", NAMESPACE, check=True)

    def test_of_an_unknown_provider(self, team: Team, pair: tuple[Vm, Vm]) -> None:
        lost = team.plan(pair[0])
        lost["spec"]["provider"]["source"]["name"] = "deleted"
        team.refused(lost, "plan-source-vsphere", "is not known")


class TestWhosePvcItIs:
    def test_forklifts_and_cdis_own_are_untouched(
        self, team: Team, pair: tuple[Vm, Vm], guard: Guard
    ) -> None:
        wrong = {"source": "[x] wrong.vmdk"}
        before = guard.reviews("PersistentVolumeClaim")
        team.make(team.disk(pair[0], 0, name="by-forklift", **wrong), user=FORKLIFT_CONTROLLER)
        marked = team.disk(pair[0], 0, name="marked", **wrong)
        marked["metadata"]["labels"]["migration"] = _MIGRATION_UID
        team.make(marked)
        assert guard.reviews("PersistentVolumeClaim") == before, "neither is ever asked about"
        team.make(team.disk(pair[0], 0, name="prime-by-cdi", **wrong), user=CDI)
        team.refused(team.disk(pair[0], 0, name="by-cdi", **wrong), "pvc-disk-source", "", user=CDI)
        slip = team.disk(pair[0], 0, name="slip", **wrong)
        slip["metadata"]["labels"]["migration"] = "my-plan"
        team.refused(slip, "pvc-disk-source", "is not a disk of")

    def test_a_second_plan_over_what_forklift_made(self, team: Team, pair: tuple[Vm, Vm]) -> None:
        claims = team.disks(pair[0])
        for obj in claims:
            obj["metadata"]["labels"]["migration"] = _MIGRATION_UID
        team.make(*claims)
        team.bind(*claims)
        assert not team.make(team.plan(pair[0]))
        assert not team.starts()

    @pytest.mark.parametrize(
        "mark",
        [
            *({"annotations": {mark: "r"}} for mark in sorted({marks.BOUND, *marks.ANNOTATIONS})),
            *({"labels": {mark: "r"}} for mark in sorted(marks.LABELS)),
            {
                "ownerReferences": [
                    {
                        "apiVersion": "kubevirt.io/v1",
                        "kind": "VirtualMachine",
                        "name": "v",
                        "uid": "u",
                    }
                ]
            },
        ],
        ids=lambda mark: str(next(iter(mark.values())))[:60],
    )
    def test_a_restore_of_a_vm_that_is_gone(
        self, team: Team, pair: tuple[Vm, Vm], mark: dict[str, Any]
    ) -> None:
        gone = team.disk(pair[0], 0, name="restored", vmID="vm-99999")
        team.refused(gone, "pvc-vm", "vm-99999")
        warned = team.make(merged(gone, {"metadata": mark}))
        assert "Warning: " in warned
        assert "(conversion-guard: pvc-vm)" in warned

    def test_annotate_first_or_both_at_once(
        self, world: World, team: Team, pair: tuple[Vm, Vm]
    ) -> None:
        vm, kubectl = pair[0], world.bed.kubectl
        plain = team.disk(vm, 0, name="late")
        plain["metadata"] |= {"labels": {}, "annotations": {}}
        team.make(plain)
        of = ["pvc", "late", "-n", TEAM]
        labels = [f"{VM_ID}={vm.moref}", f"{VM_UUID}={vm.uuid}"]
        first = kubectl("label", *of, *labels)
        assert first.returncode == 1
        assert "before the labels or in the same patch" in first.stderr
        kubectl("annotate", *of, f"{DISK_SOURCE}={vm.files[0]}", check=True)
        kubectl("label", *of, *labels, check=True)
        kubectl("label", *of, f"{VM_ID}-", f"{VM_UUID}-", check=True)


class TestEnforcement:
    def test_a_namespaces_label_lowers_a_denial_but_not_the_gates(
        self, world: World, team: Team, pair: tuple[Vm, Vm]
    ) -> None:
        label = "conversion-guard.io/enforce"
        wrong = team.disk(pair[0], 0, source="[x] wrong.vmdk")
        try:
            world.bed.kubectl("label", "namespace", TEAM, f"{label}=warn", check=True)
            eventually(lambda: team.send(wrong, dry_run=True).returncode == 0, "it only warns")
            assert "(conversion-guard: pvc-disk-source)" in team.make(wrong)
            team.refused(
                team.plan(pair[0]), "plan-disks", "with a disk-source that is not a disk of"
            )
            typo = [f"{label}=wran", "--overwrite"]
            world.bed.kubectl("label", "namespace", TEAM, *typo, check=True)
            again = team.disk(pair[0], 1, source="[x] wrong.vmdk")
            eventually(lambda: team.send(again, dry_run=True).returncode, "a slip opens nothing")
        finally:
            world.bed.kubectl("label", "namespace", TEAM, f"{label}-", check=True)


class TestAudit:
    def test_what_was_decided_stands_in_the_audit_log(
        self, world: World, team: Team, pair: tuple[Vm, Vm]
    ) -> None:
        wrong = team.disk(pair[0], 0, name="in-the-audit-log", source="[x] wrong.vmdk")
        team.send(wrong)
        kept = eventually(lambda: _audited(world, "in-the-audit-log"), "the audit log has it")
        assert kept["verdict"] == "denied"
        assert kept["provider"].startswith(NAMESPACE)
        assert (kept["vm"], kept["rules"]) == (pair[0].moref, "pvc-disk-source")
        team.make(merged(wrong, {"metadata": {"name": "prime-in-the-audit-log"}}), user=CDI)
        kept = eventually(lambda: _audited(world, "prime-in-the-audit-log"), "the audit log has it")
        assert kept["verdict"] == "skipped"
        assert "prime-*" in kept["skipped-because"]


def _audited(world: World, name: str) -> dict[str, str]:
    """The validating webhook's annotations on the creation of a PVC."""
    for line in world.bed.api.audit_log.read_text().splitlines():
        event = json.loads(line)
        sent = event.get("requestObject") or {}
        if sent.get("metadata", {}).get("name") == name:
            kept = event.get("annotations", {})
            prefix = "pvc.conversion-guard.io/"
            return {k.removeprefix(prefix): v for k, v in kept.items() if k.startswith(prefix)}
    return {}


class TestWhoMayLearnWhat:
    def test_a_caller_without_rights_learns_what_the_object_proves(
        self, world: World, team: Team, pair: tuple[Vm, Vm], guard: Guard
    ) -> None:
        one, two = pair
        secrets = (two.uuid, two.name, one.instance_uuid, *one.files, *two.files)
        for obj in (
            team.disk(one, 0, vmUUID=two.instance_uuid),
            team.disk(one, 0, vmUUID="42000000-0000-4000-8000-000000000000"),
            team.disk(one, 0, vmUUID=None, source="data-2.vmdk"),
            team.disk(one, 0, vmID="vm-99999", source="[x] y.vmdk"),
            team.plan(one, vms=[{"name": one.name[:-1]}]),
        ):
            sent = json.dumps(obj)
            for dry_run in (True, False):
                done = team.send(obj, user="vendor", dry_run=dry_run)
                assert done.returncode == 1, done.stdout
                for secret in (*secrets, one.uuid):
                    assert secret in sent or secret not in done.stderr, (secret, done.stderr)
        told = team.send(team.disk(one, 0, source="[x] y.vmdk"), user="vendor").stderr
        assert one.files[0] in told, "vmID and vmUUID are right: its disks are no secret"
        metrics = guard.metrics()
        assert not [secret for secret in (*secrets, one.moref) if secret in metrics]

    def test_the_right_to_get_the_provider_unlocks_the_rest(
        self, world: World, team: Team, pair: tuple[Vm, Vm]
    ) -> None:
        wrong = team.disk(pair[0], 0, vmUUID=pair[1].uuid)
        assert pair[0].uuid not in team.send(wrong, user="viewer").stderr
        kubectl = world.bed.kubectl
        what = ["--verb=get", "--resource=providers.forklift.konveyor.io", "-n", NAMESPACE]
        kubectl("create", "role", "sees-providers", *what, check=True)
        bound = ["--role=sees-providers", "--user=viewer", "-n", NAMESPACE]
        kubectl("create", "rolebinding", "sees-providers", *bound, check=True)
        edits = ["--clusterrole=edit-conversions", "--user=viewer"]
        kubectl("create", "clusterrolebinding", "viewer-edits", *edits, check=True)
        # An answer of the access review serves for ten seconds.
        eventually(
            lambda: pair[0].uuid in team.send(wrong, user="viewer", dry_run=True).stderr,
            "the right counts",
        )

    def test_another_teams_pvcs_have_no_names(
        self, world: World, team: Team, pair: tuple[Vm, Vm]
    ) -> None:
        other = Team(world, OTHER_TEAM)
        stray = other.disk(pair[0], 0, name="their-secret", source="[x] y.vmdk")
        stray["metadata"]["labels"]["migration"] = _MIGRATION_UID
        other.make(stray)
        assert "their-secret" in team.refused(other.plan(pair[0]), "plan-disks", "1 PVC")
        told = team.refused(other.plan(pair[0]), "plan-disks", ": a PVC with ", user="vendor")
        assert "their-secret" not in told


def _end(world: World, how: dict[str, str]) -> None:
    """What Forklift's controller writes when a Migration is over."""
    condition = {"status": "True", "category": "Advisory", "lastTransitionTime": _NOW}
    vms = [
        {
            "id": moref,
            "phase": "Completed",
            "pipeline": [],
            "conditions": [{"type": end, **condition}],
        }
        for moref, end in how.items()
    ]
    plan = {"status": {"migration": {"vms": vms}}}
    of_status = ["--subresource=status", "--type=merge", "-n", NAMESPACE, "-p"]
    kubectl = world.bed.kubectl
    kubectl("patch", "plan", "conversion", *of_status, json.dumps(plan), check=True)
    names = kubectl("get", "migrations", "-n", NAMESPACE, "-o", "name", check=True).stdout.split()
    over = {"status": {"completed": _NOW}}
    kubectl("patch", *names, *of_status, json.dumps(over), check=True)


_NOW = "2026-11-25T00:00:00Z"


def _file(device: Any) -> str:
    return str(getattr(getattr(device, "backing", None), "fileName", ""))


def _reconfigure(vm: Any, operation: str, disk: Any) -> None:
    change = vim.vm.device.VirtualDeviceSpec(operation=operation, device=disk)
    finished(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
