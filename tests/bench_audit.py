"""The audit's figures: a full pass over 100,000 PVCs, as an API server lists them, in this process;
and on a real API server admission beside full passes, from vSphere's news to the report, a storm in
which the leader dies, and rest.

vSphere's news are put where they arrive, in the inventory of two replicas: the simulator collects
every property of every VM anew for each change, which with 5,000 VMs takes half a minute.

Exit code 1 where a figure falls short. `python -m tests.bench_audit`, or `make bench-audit`; a
number of VMs as argument makes all of it smaller.
"""

import asyncio
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec

from tests.bench_cli import create, provider
from tests.bench_inventory import Figures, lasting, latencies, p99
from tests.cases import NAMESPACE, VSPHERE, review_of
from tests.e2e.bed import GUARD, Bed, eventually
from tests.e2e.world import MANIFESTS, OWN_CRDS, pvc
from tests.guard import running
from webhook.audit import Auditor
from webhook.audit.book import Ledger
from webhook.audit.judging import Judge
from webhook.cli.demo import merged
from webhook.cli.known import snapshot_of
from webhook.cluster import Cluster, LiveReader, objects, reflectors, standing
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.inventory.cluster import Followed, Table
from webhook.inventory.index import Index
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.metrics import Metrics
from webhook.model.keys import DISK_SOURCE, ENFORCE, IN_SYNC, VM_ID, VM_UUID
from webhook.model.objects import Provider, StorageClass
from webhook.model.vms import VirtualMachine

DISKS = 3
VMS, PLACES, SINGLE, STORM, STORM_SECONDS, REST = 5_000, 20, 100, 1_000, 60.0, 60.0
PASSES = 6
"""Of an hour, in which nothing changes."""
REPORTS = "/apis/wgpolicyk8s.io/v1alpha2/policyreports"
EVENTS = "/apis/events.k8s.io/v1/events"
_PATIENCE = 600.0
_MIB = 2**20


def main() -> int:
    if sys.argv[1:2] == ["replica"]:
        asyncio.run(_replica(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]))
        return 0
    count = int(sys.argv[1]) if len(sys.argv) > 1 else VMS
    figures = Figures()
    with tempfile.TemporaryDirectory() as temporary, Bed() as bed:
        folder = Path(temporary)
        vms = snapshot(folder / "large.json", count * 100_000 // (VMS * DISKS))
        asyncio.run(_pass(figures, vms))
        vms = snapshot(folder / "snapshot.json", count)
        _furnish(bed, vms)
        with bed.api.client() as api:
            _beside_admission(figures, bed, api, folder, vms)
            _from_news(figures, bed, api, folder, vms)
    figures.show()
    return 1 if figures.short else 0


def snapshot(file: Path, count: int) -> list[VirtualMachine]:
    """So many VMs with three disks each, as they are in `file` from now on."""
    file.write_text(json.dumps({"providers": [provider(count, DISKS)]}))
    (known,) = snapshot_of(file).vsphere()
    return list(known.vms)


async def _pass(figures: Figures, vms: list[VirtualMachine]) -> None:
    """Judge a PVC of each disk of these, and keep what came of it."""
    provider = ProviderInventory(Provider(NAMESPACE, VSPHERE))
    provider.vms = Index(vms)
    provider.heard(None)
    listed = [msgspec.Raw(msgspec.json.encode(one)) for one in _claims(vms)]
    followed, table = Followed(), Table[str]()
    followed.classes.put("fast", StorageClass("fast", default=True))
    for raw in listed:
        followed.claims.put(*objects.claim(raw))
    for known in (followed.claims, followed.classes, followed.enforced, table):
        known.heard(None)
    nobody: Any = None  # nothing is asked for these
    sources = Sources(Inventory([provider]), Policy(), time.monotonic, followed, nobody)
    judge, book = Judge(followed, nobody, table, nobody), Ledger()
    before, began, cpu = _resident(), time.monotonic(), time.process_time()
    for at in range(0, len(listed), standing.SOME):
        some = listed[at : at + standing.SOME]
        there = [standing.decoded_as("PersistentVolumeClaim", raw) for raw in some]
        for outcome in await judge.judge(there, sources):
            book.put(outcome)
    what = f"{len(listed)} PVCs of {PLACES} namespaces"
    figures.add(f"full pass over {what}", time.monotonic() - began, 60, "s")
    figures.add("CPU time of it", time.process_time() - cpu, 30, "s")
    figures.add("memory for it", (_resident() - before) / _MIB, 64, "MiB")
    assert book.count("PersistentVolumeClaim", "pass") == len(listed)


def _claims(vms: list[VirtualMachine]) -> Iterator[dict[str, Any]]:
    """A right PVC of each disk, a VM's all in one of many namespaces."""
    for number, vm in enumerate(vms):
        for at, disk in enumerate(vm.disks):
            keys = {DISK_SOURCE: disk.file, IN_SYNC: "replication", "last-applied": "x" * 500}
            made = pvc(f"disk-{number}-{at}", {VM_ID: vm.moref, VM_UUID: vm.uuid}, keys, "1Gi")
            place = {"namespace": f"place-{number % PLACES}", "uid": f"{number}-{at}"}
            yield merged(made, {"metadata": place, "status": {"phase": "Bound"}})


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _furnish(bed: Bed, vms: list[VirtualMachine]) -> None:
    bed.install_crds(OWN_CRDS)
    report = OWN_CRDS.parent / "report-crds" / "wgpolicyk8s.io_policyreports.yaml"
    bed.kubectl("apply", "--server-side", "-f", str(report), check=True)
    for place in (NAMESPACE, "conversion-guard", *(f"place-{n}" for n in range(PLACES))):
        bed.kubectl("create", "namespace", place, check=True)
    for role in ("cluster-role.yaml", "lease-role.yaml"):
        bed.kubectl("apply", "-f", str(MANIFESTS / "base" / role), check=True)
    default = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "fast",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "example.com/fast",
    }
    bed.kubectl("create", "-f", "-", stdin=json.dumps(default), check=True)
    create(bed, list(_claims(vms)))


def _beside_admission(
    figures: Figures, bed: Bed, api: httpx.Client, folder: Path, vms: list[VirtualMachine]
) -> None:
    """A whole guard: what reviews notice of full passes, and what is written meanwhile."""
    settings = {
        "snapshots": [str(folder / "snapshot.json")],
        "deniedNetworks": [],
        "kubeconfig": str(bed.kubeconfig(GUARD)),
    }
    first, *_ = _claims(vms)
    new = merged(first, {"metadata": {"name": "new", "namespace": "elsewhere"}})
    right = msgspec.json.encode(review_of(new, None))
    all_of_them = len(vms) * DISKS
    with running(folder, settings) as guard:
        eventually(lambda: _said(api, "pass") == all_of_them, "all is right, and told", _PATIENCE)
        idle = latencies(guard, right, lasting(REST / 2))
        before, resting = len(_writes(bed)), guard.memory()
        loaded: list[float] = []
        for number in range(PASSES):  # a label that changes nothing has everything judged again
            passes = _passes(bed)
            change = f"{ENFORCE}=deny" if number % 2 == 0 else f"{ENFORCE}-"
            bed.kubectl("label", "namespace", "place-0", change, check=True)
            eventually(lambda: _passes(bed) > passes, "a pass begins", _PATIENCE)  # noqa: B023
            loaded += latencies(guard, right, lasting(REST / PASSES))
        print(f"admission's p99: idle {p99(idle) * 1e3:.2f} ms, beside {p99(loaded) * 1e3:.2f} ms")
        figures.add("admission's p99 beside full passes, of idle", p99(loaded) / p99(idle), 3, "×")
        what = f"reports written in {PASSES} passes without changes: an hour's"
        figures.add(what, len(_writes(bed)) - before, 0, "")
        figures.add("memory for them", (guard.memory() - resting) / _MIB, 64, "MiB")
    _clear(bed, api)


def _passes(bed: Bed) -> int:
    """How many lists of PVCs, as a pass begins with one, the guard has asked for."""
    begins = ("/api/v1/persistentvolumeclaims?", "limit=")
    return sum(
        event["verb"] == "list"
        and all(part in event["requestURI"] for part in begins)
        and "continue=" not in event["requestURI"]
        for event in _asked(bed)
    )


def _clear(bed: Bed, api: httpx.Client) -> None:
    """No report and no Event is left."""
    for place in range(PLACES):
        path = f"/apis/wgpolicyk8s.io/v1alpha2/namespaces/place-{place}/policyreports"
        api.delete(path).raise_for_status()
        api.delete(f"/apis/events.k8s.io/v1/namespaces/place-{place}/events").raise_for_status()


def _from_news(
    figures: Figures, bed: Bed, api: httpx.Client, folder: Path, vms: list[VirtualMachine]
) -> None:
    """Two replicas: single changes, then a storm, in the midst of which the leader dies."""
    all_of_them = len(vms) * DISKS
    with _started(bed, folder, "first") as first:
        eventually(lambda: _said(api, "pass") == all_of_them, "all is right, and told", _PATIENCE)
        with _started(bed, folder, "second") as second:
            both = (first, second)
            singles = vms[:: max(1, len(vms) // SINGLE)][:SINGLE]
            lags = []
            for number, vm in enumerate(singles):
                began = time.monotonic()
                _tell(both, vm)
                wrong = DISKS * (number + 1)
                eventually(lambda: _said(api, "fail") == wrong, "told", _PATIENCE)  # noqa: B023
                lags.append(time.monotonic() - began)
            figures.add("from vSphere's news to the report, p99", p99(lags), 3, "s")
            for vm in singles:
                _tell(both, vm)
            eventually(lambda: _said(api, "fail") == 0, "all are right again", _PATIENCE)
            storm = vms[: min(STORM, len(vms) // 2)]
            pace, before = STORM_SECONDS / len(storm), len(_writes(bed))
            took = _storm(api, both, storm, pace)
            figures.add(f"after {len(storm)} VMs in a minute: all reports right", took, 30, "s")
            writes = (len(_writes(bed)) - before) / (STORM_SECONDS + took)
            figures.add("reports written meanwhile", writes, 1, "a second")
            _storm(api, both, storm, 0.0, wrong=0)
            _forget_events(api)
            took = _storm(api, both, storm, pace, dies=first)
            figures.add("the same, the leader killed half-way", took, 40, "s")
            twice = [name for name, times in _events(api).items() if times > 1]
            figures.add("Events that came twice", len(twice), 0, "")


def _storm(
    api: httpx.Client,
    both: "tuple[subprocess.Popen[str], ...]",
    storm: list[VirtualMachine],
    pace: float,
    *,
    wrong: int | None = None,
    dies: "subprocess.Popen[str] | None" = None,
) -> float:
    """Seconds after the end of the news until every report is right."""
    began = time.monotonic()
    for number, vm in enumerate(storm):
        if dies is not None and number == len(storm) // 2:
            dies.kill()
            dies.wait()
        _tell([one for one in both if one.poll() is None], vm)
        time.sleep(max(0.0, began + pace * (number + 1) - time.monotonic()))
    ended = time.monotonic()
    wanted = DISKS * len(storm) if wrong is None else wrong
    eventually(lambda: _said(api, "fail") == wanted, "every report is right", _PATIENCE)
    return time.monotonic() - ended


def _tell(replicas: "Iterator[subprocess.Popen[str]] | Any", vm: VirtualMachine) -> None:
    """That its disks are in other files now; the second time, that they are back."""
    for one in replicas:
        assert one.stdin is not None
        one.stdin.write(f"{vm.moref}\n")
        one.stdin.flush()


@contextlib.contextmanager
def _started(bed: Bed, folder: Path, name: str) -> "Iterator[subprocess.Popen[str]]":
    kubeconfig = bed.kubeconfig(GUARD)
    args = [sys.executable, "-m", "tests.bench_audit", "replica"]
    args += [str(folder / "snapshot.json"), str(kubeconfig), name]
    with subprocess.Popen(args, stdin=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def _replica(file: Path, kubeconfig: Path, name: str) -> None:
    """The audit of a guard whose vSphere is `file`, and what standard input says of it."""
    inventory, followed, reader = snapshot_of(file), Followed(), LiveReader()
    (provider,) = inventory.vsphere()
    sources = Sources(inventory, Policy(), time.monotonic, followed, reader)
    auditor = Auditor(
        lambda: sources,
        followed,
        reader,
        Metrics(),
        namespace="conversion-guard",
        replica=name,
        every=600.0,
    )
    news = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(news), sys.stdin)
    async with Cluster.open(kubeconfig) as cluster, asyncio.TaskGroup() as tasks:
        reader.cluster = cluster
        works = [*(one.run() for one in reflectors(cluster, followed)), auditor.run(cluster)]
        parts = [tasks.create_task(work) for work in works]
        async for line in news:  # until who started it ends
            _moved(provider.vms, line.decode().strip())
        for part in parts:
            part.cancel()


def _moved(vms: Index, moref: str) -> None:
    vm = vms.by_moref(moref)
    assert vm is not None, moref
    there = vm.disks[0].file.startswith("[ds]")
    old, new = ("[ds]", "[moved]") if there else ("[moved]", "[ds]")
    disks = tuple(
        msgspec.structs.replace(disk, file=disk.file.replace(old, new)) for disk in vm.disks
    )
    vms.put(msgspec.structs.replace(vm, disks=disks))


def _said(api: httpx.Client, word: str) -> int:
    items = api.get(REPORTS).raise_for_status().json()["items"]
    return sum(item["summary"][word] for item in items)


def _events(api: httpx.Client) -> Counter[str]:
    """How often each object was told of as wrong."""
    items = api.get(EVENTS).raise_for_status().json()["items"]
    return Counter(
        f"{one['regarding']['namespace']}/{one['regarding']['name']}"
        for one in items
        if one["reason"] == "ConversionWrong"
        for _ in range((one.get("series") or {}).get("count", 1))
    )


def _forget_events(api: httpx.Client) -> None:
    for place in range(PLACES):
        api.delete(f"/apis/events.k8s.io/v1/namespaces/place-{place}/events").raise_for_status()


def _asked(bed: Bed) -> Iterator[dict[str, Any]]:
    """What the guard has asked the API server for."""
    with bed.api.audit_log.open() as log:
        for line in log:
            if GUARD in line:
                event = json.loads(line)
                if event["user"]["username"] == GUARD:
                    yield event


def _writes(bed: Bed) -> list[str]:
    """The reports that it has written or taken away."""
    return [
        event["requestURI"]
        for event in _asked(bed)
        if event["verb"] in ("patch", "delete") and "reports" in event["requestURI"]
    ]


if __name__ == "__main__":
    sys.exit(main())
