"""A cluster, a vCenter and the guard between them, as the end-to-end tests meet them."""

import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pyVmomi import vim

from tests.cases import BASE, NAMESPACE, VSPHERE, Case
from tests.e2e.bed import (
    Bed,
    Kubectl,
    Vcsim,
    add_disk,
    encrypt,
    eventually,
    find_vm,
    mark_as_template,
    path_of,
    set_status,
)
from tests.e2e.bed import wait_for as finished
from tests.guard import Guard, running
from webhook.cli.demo import merged
from webhook.model.keys import ENFORCE

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
OWN_CRDS = Path(__file__).parent / "crds"
KUBEVIRTS_CRDS = Path(__file__).parent / "kubevirt.yaml"
TARGET = "migrated-workloads"


class CrdsMissing(Exception):
    """Nobody has said where Forklift's own CustomResourceDefinitions are; the message says how."""


def forklifts_crds() -> Path:
    """The folder that FORKLIFT_CRDS names. Raises CrdsMissing, or ValueError if it is another."""
    given = os.environ.get("FORKLIFT_CRDS")
    if not given:
        raise CrdsMissing(
            "left out without Forklift's own CRDs: set FORKLIFT_CRDS to a folder that has them, "
            "as operator/config/crd/bases of Forklift's sources"
        )
    theirs = "\n".join(file.read_text() for file in Path(given).glob("*.yaml"))
    wanted = sorted(f"{file.stem}.forklift.konveyor.io" for file in OWN_CRDS.glob("*.yaml"))
    if absent := [name for name in wanted if f"\n  name: {name}\n" not in theirs]:
        raise ValueError(
            f"FORKLIFT_CRDS={given}: no CustomResourceDefinition of {', '.join(absent)} in it; "
            "give the folder that has them, or unset it"
        )
    return Path(given).absolute()


PATIENCE = 25
"""Seconds that the API server waits for a guard. As shipped it waits for 2 to 5, which a busy
machine may need for one answer: a call is lost then, and a Migration passes without a word."""


@dataclass
class Vm:
    """A VM of the simulator, as vSphere shows it."""

    moref: str
    name: str
    uuid: str
    instance_uuid: str
    files: list[str]
    capacities: list[int]


@dataclass
class World:
    """The bed with one simulator, and a folder for the guards that run on it."""

    bed: Bed
    vcsim: Vcsim
    folder: Path
    _guards: int = field(default=0)

    @contextmanager
    def guarded(self, vcsim: Vcsim | None = None, **settings: Any) -> Iterator[Guard]:
        """A guard with the shipped manifests pointing at it, once it knows its vCenter."""
        vcsim = vcsim or self.vcsim
        self._guards += 1
        folder = self.folder / f"guard-{self._guards}"
        folder.mkdir()
        provider = vcsim.as_provider(NAMESPACE, VSPHERE, folder)
        others = [{"namespace": NAMESPACE, "name": "openstack-lab", "type": "openstack"}]
        local = {"providers": [provider, *others], "deniedNetworks": []}
        with running(folder, {**local, **settings}) as guard:
            with guard.client() as client:
                eventually(lambda: client.get("/readyz").status_code == 200, "a first read")
            ca = (folder / "ca.crt").read_bytes()
            self.bed.apply_shipped_manifests(MANIFESTS, guard.url, ca, PATIENCE)
            eventually(lambda: self._arrives(guard), "the API server calls this guard")
            yield guard
            assert "Traceback" not in guard.log, guard.log

    def _arrives(self, guard: Guard) -> bool:
        before = guard.reviews()
        probe = pvc("probe", {"vmID": "vm-0"}, {})
        with self.bed.api.client() as client:
            client.post(path_of(probe), json=probe, params={"dryRun": "All"})
        return guard.reviews() >= before + 2  # by both webhooks

    def create(self, obj: dict[str, Any], *, dry_run: bool = False, user: str = "admin") -> Kubectl:
        """kubectl create; the object comes back as JSON. Forklift soon finds a Plan ready."""
        how = ["--dry-run=server"] if dry_run else []
        done = self.bed.kubectl(
            "create", "-o", "json", "-f", "-", *how, stdin=json.dumps(obj), user=user
        )
        if not dry_run and "Plan" in done.stdout:
            find_ready(self.bed)
        return done

    def post(self, obj: dict[str, Any]) -> dict[str, Any]:
        """The API server's own answer to a creation, for what kubectl doesn't show."""
        with self.bed.api.client() as client:
            status: dict[str, Any] = client.post(path_of(obj), json=obj).json()
        return status

    def vm(self, name: str, vcsim: Vcsim | None = None) -> Vm:
        """What vSphere says of the VM of that name."""
        with (vcsim or self.vcsim).connect() as instance:
            return _vm(find_vm(instance, name))


def find_ready(bed: Bed) -> None:
    """What Forklift's controller says of every Plan that is right; a bed hasn't got it."""
    with bed.api.client() as client:
        for plan in client.get(path_of(BASE["Plan"])).raise_for_status().json()["items"]:
            seen = {"observedGeneration": plan["metadata"]["generation"]}
            set_status(client, {**BASE["Plan"], **plan}, {**BASE["Ready"]["status"], **seen})


def vms_of(vcsim: Vcsim) -> list[Vm]:
    """Every VM there is."""
    with vcsim.connect() as instance:
        content = instance.RetrieveContent()
        root, kinds = content.rootFolder, [vim.VirtualMachine]
        view = content.viewManager.CreateContainerView(root, kinds, True)
        return [_vm(found) for found in view.view]


def _vm(found: Any) -> Vm:
    disks: list[Any] = [
        d for d in found.config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)
    ]
    return Vm(
        moref=found._moId,
        name=found.name,
        uuid=found.config.uuid,
        instance_uuid=found.config.instanceUuid,
        files=[disk.backing.fileName for disk in disks],
        capacities=[disk.capacityInBytes or disk.capacityInKB * 1024 for disk in disks],
    )


def pvc(
    name: str, labels: dict[str, str], annotations: dict[str, str], storage: str = "100Gi"
) -> dict[str, Any]:
    """A Block claim in the target namespace."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": TARGET,
            "labels": labels,
            "annotations": annotations,
        },
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "volumeMode": "Block",
            "resources": {"requests": {"storage": storage}},
        },
    }


class Stage:
    """The VMs of many cases in one simulator: the same for those that want the same, and each
    case's texts speak of its own.

    A simulator gives morefs of its own, and one folder holds a name but once: so a case's morefs,
    names and uuids are replaced in its object and in what it expects.
    """

    def __init__(self, vcsim: Vcsim) -> None:
        self._vcsim = vcsim
        self._texts: dict[str, list[tuple[str, str]]] = {}

    def put(self, cases: list[Case]) -> None:
        """Make every case's VMs; each case gets a namespace and a Plan's name of its own, too."""
        made: dict[str, list[tuple[str, str]]] = {}
        with self._vcsim.connect() as instance:
            content = instance.RetrieveContent()
            datacenter = content.rootFolder.childEntity[0]
            pool = datacenter.hostFolder.childEntity[0].resourcePool
            for number, case in enumerate(cases):
                wanted = json.dumps(case.vms)
                if wanted not in made:
                    made[wanted] = [
                        pair
                        for moref, vm in case.vms.items()
                        for pair in _create(
                            content.fileManager, datacenter, pool, moref, vm, len(made)
                        )
                    ]
                places = [(TARGET, f"case-{number}"), ("conversion-plan", f"plan-{number}")]
                self._texts[case.id] = [*made[wanted], *places]

    def furnish(self, bed: Bed, cases: list[Case]) -> None:
        """Make what each case says is in the cluster already. For a bed that nobody guards yet."""
        with bed.api.client() as client:
            for case in cases:
                for obj in _there(case):
                    self._make(client, self.placed(case, obj))

    def _make(self, client: httpx.Client, obj: dict[str, Any]) -> None:
        """Create it, with its status and its end, which no creation takes."""
        ends = obj["metadata"].pop("deletionTimestamp", None)
        answer = client.post(path_of(obj), json=obj)
        known = answer.status_code == 409 and obj["kind"] == "Namespace"
        assert answer.is_success or known, answer.text
        if status := obj.get("status"):
            set_status(client, obj, status)
        if ends:  # a finalizer keeps it
            assert client.delete(f"{path_of(obj)}/{obj['metadata']['name']}").is_success

    def placed(self, case: Case, obj: dict[str, Any]) -> dict[str, Any]:
        """`obj` as this case has it: its Migration, too, is out of the way of the other cases'."""
        if obj["kind"] == "Migration":
            name = f"start-{obj['spec']['plan']['name']}"
            obj = merged(obj, {"metadata": {"name": name}})
        placed: dict[str, Any] = self.told(case, obj)
        return placed

    def told(self, case: Case, value: Any) -> Any:
        """`value` in the words of the simulator."""
        # In one pass: a simulator's moref may be another one's in the case.
        texts = dict(self._texts[case.id])
        longest_first = sorted(texts, key=len, reverse=True)
        either = re.compile("|".join(map(re.escape, longest_first)))
        text = either.sub(lambda found: texts[found[0]], json.dumps(value))
        return json.loads(text)


def _there(case: Case) -> Iterator[dict[str, Any]]:
    """What is in the cluster before the case's own object, in the case's own words."""
    there = case.there
    place = (there.standing.get("namespaces", {}) if there else {}).get(TARGET, "there")
    target = _namespace(TARGET, {ENFORCE: there.enforce} if there and there.enforce else {})
    if place != "absent":
        yield target
    objects = [case.old] if case.old else []
    if there is not None:
        own = case.old["metadata"].get("name") if case.old else None
        objects += [claim for claim in there.pvcs if claim["metadata"]["name"] != own]
        objects += [there.plan] if there.plan is not None else []
        objects += [BASE["Migration"]] if there.started else []
        for plan in there.started_plans:
            named = {name: plan["metadata"][name] for name in ("namespace", "name")}
            objects += [plan, merged(BASE["Migration"], {"spec": {"plan": named}})]
        objects += [_running_pod(name, claim) for claim, name in there.pods.items()]
        objects += [_remote(name) for name in there.remote]
        objects += there.surroundings
        objects += [
            made
            for kind, names in there.standing.items()
            for name, standing in names.items()
            if standing == "there" and (made := _named(kind, name))
        ]
    for obj in objects:
        if (home := obj["metadata"].get("namespace", TARGET)) not in (NAMESPACE, TARGET):
            yield _namespace(home, {})
        yield obj
    if place == "ending":
        yield merged(target, {"metadata": {"deletionTimestamp": "2026-11-24T00:00:00Z"}})


def _named(kind: str, name: str) -> dict[str, Any]:
    """What a Plan names, where it is looked for: an empty one."""
    instance_types = "instancetype.kubevirt.io/v1beta1"
    made: dict[str, dict[str, Any]] = {
        "secrets": {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": NAMESPACE}},
        "virtualmachineinstancetypes": {
            "apiVersion": instance_types,
            "kind": "VirtualMachineInstancetype",
            "metadata": {"namespace": TARGET},
        },
        "virtualmachineclusterinstancetypes": {
            "apiVersion": instance_types,
            "kind": "VirtualMachineClusterInstancetype",
            "metadata": {},
        },
    }
    return merged(made[kind], {"metadata": {"name": name}})


def _namespace(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _running_pod(name: str, claim: str) -> dict[str, Any]:
    volume = {"name": "disk", "persistentVolumeClaim": {"claimName": claim}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": TARGET},
        "spec": {"containers": [{"name": name, "image": name}], "volumes": [volume]},
        "status": {"phase": "Running"},
    }


def _remote(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "forklift.konveyor.io/v1beta1",
        "kind": "Provider",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"type": "openshift", "url": "https://elsewhere.example.com:6443", "secret": {}},
    }


_CONTROLLERS = {
    "scsi": vim.vm.device.ParaVirtualSCSIController(key=1000, busNumber=0, sharedBus="noSharing"),
    "sata": vim.vm.device.VirtualAHCIController(key=15000, busNumber=0),
    "nvme": vim.vm.device.VirtualNVMEController(key=31000, busNumber=0),
    "usb": vim.vm.device.VirtualUSBXHCIController(key=14000, busNumber=0),
}
"""By their disks' bus; the others every VM has."""


_FOLDER = re.compile(r"(?<=\] )([\w-]+)(?=/[^/]+$)")
"""Of a disk's file: one of a name that comes as it is in whatever text."""


def _create(
    files: Any, datacenter: Any, pool: Any, moref: str, vm: dict[str, Any], number: int
) -> Iterator[tuple[str, str]]:
    name = f"{vm['name']}-{number}"
    # Cloned VMs share a uuid, so a new one is made of the old, not at random.
    uuids = {
        kind: str(uuid.uuid5(uuid.UUID(vm[kind]), str(number))) for kind in ("uuid", "instanceUuid")
    }
    disks = vm.get("disks", ())
    config = vim.vm.ConfigSpec(
        name=name,
        uuid=uuids["uuid"],
        instanceUuid=uuids["instanceUuid"],
        guestId="otherGuest",
        # The simulator's way to set what a guest or a host would.
        extraConfig=[
            vim.option.OptionValue(key=f"SET.{field}", value=value)
            for field, value in (
                ("guest.toolsRunningStatus", vm.get("tools", "")),
                ("guest.toolsStatus", vm.get("toolsStatus", "toolsOk")),
                ("runtime.connectionState", vm.get("connectionState", "connected")),
            )
        ],
        files=vim.vm.FileInfo(vmPathName="[LocalDS_0]"),
        deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation="add", device=controller)
            for bus, controller in _CONTROLLERS.items()
            if bus in {disk.get("bus", "scsi") for disk in disks}
        ],
    )
    try:
        created = finished(datacenter.vmFolder.CreateVM_Task(config, pool))
    except vim.fault.DuplicateName:
        beside = datacenter.vmFolder.CreateFolder(f"beside {name}")
        created = finished(beside.CreateVM_Task(config, pool))
    folders = {found[1] for disk in disks if (found := _FOLDER.search(disk["file"]))}
    for disk in disks:
        file = _FOLDER.sub(rf"\1-{number}", disk["file"])
        with suppress(vim.fault.FileAlreadyExists):
            files.MakeDirectory(file.rpartition("/")[0], datacenter, True)
        how = {"sharing": "sharingMultiWriter"} if disk.get("shared") else {}
        how |= {field: disk[field] for field in ("bus", "backing") if field in disk}
        add_disk(created, disk["capacity"] // 1024, file, **how)
    if vm.get("encrypted"):
        encrypt(created)
    if vm.get("template"):
        mark_as_template(created)
    elif (state := vm.get("powerState", "poweredOn")) != "poweredOff":
        finished(created.PowerOnVM_Task())
        if state == "suspended":
            finished(created.SuspendVM_Task())
    yield moref, created._moId
    yield vm["name"], name
    yield vm["name"].title(), name.title()
    for folder in folders:
        yield folder, f"{folder}-{number}"
    for kind, here in uuids.items():
        yield from zip(_forms(vm[kind]), _forms(here), strict=True)


def _forms(text: str) -> list[str]:
    """A uuid as vSphere, a guest and careless hands write it."""
    right = uuid.UUID(text)
    swapped = uuid.UUID(bytes=right.bytes_le)
    forms = [str(right), right.hex, str(swapped), swapped.hex]
    return [*forms, *map(str.upper, forms)]
