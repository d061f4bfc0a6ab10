"""The audit's figures: a full pass over 100,000 PVCs, as an API server lists them, in this process;
and on a real API server and a simulator from vSphere's news to the report, a storm, and rest.

Exit code 1 where a figure falls short. `python -m tests.bench_audit`, or `make bench-audit`; a
number of VMs as argument makes both smaller. What it leaves out: the latency of admission
meanwhile, and a leader that dies in the storm.
"""

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec

from tests.bench_cli import create
from tests.bench_inventory import Figures, p99
from tests.cases import NAMESPACE, VSPHERE
from tests.e2e.bed import GUARD, Bed, Vcsim, eventually, vim
from tests.e2e.test_scenarios import claim
from tests.e2e.world import MANIFESTS, OWN_CRDS, Vm, pvc, vms_of
from tests.guard import Guard, running
from webhook.audit.book import Ledger
from webhook.audit.judging import Judge
from webhook.cli.demo import merged
from webhook.cluster import objects, standing
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.inventory.cluster import Followed, Table
from webhook.inventory.index import Index
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.model.keys import DISK_SOURCE, VM_ID, VM_UUID
from webhook.model.objects import Provider, StorageClass
from webhook.model.vms import Disk, VirtualMachine

DISKS = 3
VMS, PLACES, SINGLE, STORM, REST = 5_000, 20, 60, 1_000, 60.0
WRONG = "11111111-2222-3333-4444-{:012}"
REPORTS = "/apis/wgpolicyk8s.io/v1alpha2/policyreports"
_PATIENCE = 600.0


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else VMS
    figures = Figures()
    asyncio.run(_pass(figures, [vm_of(number) for number in range(count * 7)]))
    with tempfile.TemporaryDirectory() as temporary, Bed() as bed:
        folder = Path(temporary)
        vcsim = bed.run(Vcsim(bed.parts.vcsim, folder / "vcsim", copies=count))
        vms = vms_of(vcsim)
        _furnish(bed, vms)
        with running(folder, _settings(bed, vcsim, folder)) as guard, bed.api.client() as api:
            eventually(lambda: guard.told("this replica watches"), _PATIENCE, "it begins")
            started = time.monotonic()
            eventually(lambda: _counted(guard) == len(vms), _PATIENCE, "all are judged")
            what = f"full pass over {len(vms)} PVCs, the first read of vSphere included"
            figures.add(what, time.monotonic() - started, 60, "s")
            eventually(lambda: _said(api, "pass", "warn") == len(vms), _PATIENCE, "and reported")
            with vcsim.connect() as instance:
                single = vms[:: max(1, len(vms) // SINGLE)][:SINGLE]
                lags = [_lag(api, instance, number, vm) for number, vm in enumerate(single)]
                figures.add("from vSphere's news to the report, p99", p99(lags), 3, "s")
                for vm in single:
                    _set_uuid(instance, vm, vm.uuid)
                eventually(lambda: _said(api, "fail") == 0, _PATIENCE, "all are right again")
                before = _writes(bed)
                time.sleep(REST)
                figures.add(f"writes in {REST:g} s of rest", len(_writes(bed)) - len(before), 0, "")
                storm = vms[: min(STORM, len(vms) // 2)]
                began = time.monotonic()
                for number, vm in enumerate(storm):
                    _set_uuid(instance, vm, WRONG.format(number))
                    time.sleep(max(0.0, began + 60 * number / STORM - time.monotonic()))
            ended = time.monotonic()
            eventually(lambda: _said(api, "fail") == len(storm), _PATIENCE, "the storm is told")
            took = time.monotonic()
            figures.add(
                f"after {len(storm)} VMs in a storm: all reports right", took - ended, 30, "s"
            )
            writes = len(_writes(bed)) - len(before)
            figures.add("writes of reports meanwhile", writes / (took - began), 1, "a second")
            figures.add("peak memory", guard.peak_memory() / 2**20, 512, "MiB")
    figures.show()
    return 1 if figures.short else 0


def vm_of(number: int) -> VirtualMachine:
    """With three disks."""
    uuid = f"{{}}1111111-2222-3333-4444-{number:012}"
    disks = (Disk(f"[ds] vm-{number}/{at}.vmdk", 2**30, key=at) for at in range(DISKS))
    moref = f"vm-{number}"
    return VirtualMachine(
        moref, moref, uuid.format(4), uuid.format(5), parent="group-v3", disks=tuple(disks)
    )


async def _pass(figures: Figures, vms: list[VirtualMachine]) -> None:
    """Judge a PVC of each disk of these, and keep what came of it."""
    provider = ProviderInventory(Provider(NAMESPACE, VSPHERE))
    provider.vms = Index(vms)
    provider.heard(None)
    listed = [
        msgspec.Raw(msgspec.json.encode(_pvc(number, vm, at)))
        for number, vm in enumerate(vms)
        for at in range(DISKS)
    ]
    followed, table = Followed(), Table[str]()
    followed.classes.put("fast", StorageClass("fast", default=True))
    for raw in listed:
        followed.claims.put(*objects.claim(raw))
    for known in (followed.claims, followed.classes, followed.enforced, table):
        known.heard(None)
    nobody: Any = None  # nothing is asked for these
    sources = Sources(Inventory([provider]), Policy(), time.monotonic, followed, nobody)
    judge, book = Judge(followed, nobody, table, nobody), Ledger()
    before, began = _resident(), time.monotonic()
    for at in range(0, len(listed), standing.SOME):
        some = listed[at : at + standing.SOME]
        there = [standing.decoded_as("PersistentVolumeClaim", raw) for raw in some]
        for outcome in await judge.judge(there, sources):
            book.put(outcome)
    figures.add(
        f"judging {len(listed)} PVCs in {PLACES} namespaces", time.monotonic() - began, 60, "s"
    )
    figures.add("memory for it", (_resident() - before) / 2**20, 64, "MiB")
    assert book.count("PersistentVolumeClaim", "pass") == len(listed)


def _pvc(number: int, vm: VirtualMachine, at: int) -> dict[str, Any]:
    made = pvc(
        f"disk-{number}-{at}",
        {VM_ID: vm.moref, VM_UUID: vm.uuid},
        {DISK_SOURCE: vm.disks[at].file, "last-applied": "x" * 500},
        "1Gi",
    )
    place = {"namespace": f"place-{number % PLACES}", "uid": f"{number}-{at}"}
    return merged(made, {"metadata": place, "status": {"phase": "Bound"}})


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _furnish(bed: Bed, vms: list[Vm]) -> None:
    """A right PVC of each VM's first disk, in many namespaces."""
    bed.install_crds(OWN_CRDS)
    report = OWN_CRDS.parent / "report-crds" / "wgpolicyk8s.io_policyreports.yaml"
    bed.kubectl("apply", "--server-side", "-f", str(report), check=True)
    places = [f"place-{number}" for number in range(PLACES)]
    for place in (NAMESPACE, "conversion-guard", *places):
        bed.kubectl("create", "namespace", place, check=True)
    for role in ("cluster-role.yaml", "lease-role.yaml"):
        bed.kubectl("apply", "-f", str(MANIFESTS / "base" / role), check=True)
    create(
        bed,
        [
            merged(claim(f"disk-{n}", vm), {"metadata": {"namespace": places[n % PLACES]}})
            for n, vm in enumerate(vms)
        ],
    )


def _settings(bed: Bed, vcsim: Vcsim, folder: Path) -> dict[str, Any]:
    provider = vcsim.as_provider(NAMESPACE, VSPHERE, folder)
    kubeconfig = str(bed.kubeconfig(GUARD))
    return {"providers": [provider], "deniedNetworks": [], "kubeconfig": kubeconfig}


def _counted(guard: Guard) -> int:
    mine = 'conversion_guard_objects{kind="PersistentVolumeClaim"'
    lines = (line for line in guard.metrics().splitlines() if line.startswith(mine))
    return sum(int(float(line.rpartition(" ")[2])) for line in lines)


def _said(api: httpx.Client, *words: str) -> int:
    items = api.get(REPORTS).raise_for_status().json()["items"]
    return sum(item["summary"][word] for item in items for word in words)


def _failing(api: httpx.Client) -> set[str]:
    items = api.get(REPORTS).raise_for_status().json()["items"]
    results = (result for item in items for result in item.get("results", ()))
    return {one["resources"][0]["name"] for one in results if one["result"] == "fail"}


def _lag(api: httpx.Client, instance: Any, number: int, vm: Vm) -> float:
    before = _failing(api)
    _set_uuid(instance, vm, WRONG.format(number))
    began = time.monotonic()
    eventually(lambda: _failing(api) - before, _PATIENCE, "the report")
    return time.monotonic() - began


def _set_uuid(instance: Any, vm: Vm, uuid: str) -> None:
    vim.VirtualMachine(vm.moref, instance._stub).ReconfigVM_Task(vim.vm.ConfigSpec(uuid=uuid))


def _writes(bed: Bed) -> list[str]:
    """What the guard has written, but for its Lease and its Events."""

    def all_of_them() -> Iterator[str]:
        with bed.api.audit_log.open() as log:
            for line in log:
                event = json.loads(line)
                if event["user"]["username"] == GUARD and event["verb"] in ("patch", "delete"):
                    yield event["requestURI"]

    return list(all_of_them())


if __name__ == "__main__":
    sys.exit(main())
