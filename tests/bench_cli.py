"""The command's figures: `--help`, `check` of 1,000 manifests, `audit` of 10,000 PVCs.

Each is a process of its own, timed whole, with its start; the median of some rounds counts. Exit
code 1 where a figure falls short. `python -m tests.bench_cli`, or `make bench-cli`.
"""

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.bench_inventory import Figures
from tests.cases import BASE, NAMESPACE, VSPHERE
from tests.command import run
from tests.e2e.bed import Bed, path_of
from tests.e2e.world import OWN_CRDS
from webhook.cli.demo import merged
from webhook.cli.known import snapshot_of
from webhook.manifests import files, render
from webhook.model.vms import VirtualMachine

VMS, DISKS, MANIFESTS, PLACES, VMS_OF_A_PLAN = 5_000, 2, 1_000, 10, 5
ROUNDS, HELP_ROUNDS, CLIENTS = 3, 9, 8
MIB = 2**20


def main() -> int:
    figures = Figures()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        snapshot = folder / "snapshot.json"
        snapshot.write_text(json.dumps({"providers": [provider(VMS, DISKS)]}))
        vms = next(iter(snapshot_of(snapshot).vsphere())).vms
        given = [pvc for number, vm in enumerate(vms) for pvc in _pvcs(vm, number)]
        figures.add("--help", _median(HELP_ROUNDS, "--help"), 0.25, "s")
        file = folder / "manifests.yaml"
        file.write_text(files.write(given[:MANIFESTS]))
        seconds = _median(ROUNDS, "check", file, "--snapshot", snapshot)
        figures.add(f"check of {MANIFESTS} manifests against {VMS} VMs", seconds, 2, "s")
        with Bed() as bed:
            bed.install_crds(OWN_CRDS)
            for place in (NAMESPACE, *(f"place-{number}" for number in range(PLACES))):
                bed.kubectl("create", "namespace", place, check=True)
            plans = list(_plans(list(vms)))
            create(bed, given)
            create(bed, plans)
            named = "--snapshot", snapshot, "--kubeconfig", bed.kubeconfig()
            seconds = _median(ROUNDS, "audit", *named)
        what = f"audit of {len(given)} PVCs and {len(plans)} Plans"
        figures.add(what, seconds, 15, "s")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / MIB
    figures.add("peak memory of any of them, or of the bed", peak, 1024, "MiB")
    figures.show()
    return 1 if figures.short else 0


def _median(rounds: int, *args: str | Path) -> float:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        done = run(*args)
        seconds.append(time.perf_counter() - started)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return statistics.median(seconds)


def provider(count: int, disks: int) -> dict[str, Any]:
    vms = [
        {
            "moref": f"vm-{number}",
            "name": f"machine-{number}",
            "uuid": f"42000000-0000-4000-8000-{number:012x}",
            "instanceUuid": f"50000000-0000-4000-8000-{number:012x}",
            "disks": [
                {"file": f"[ds] machine-{number}/disk-{disk}.vmdk", "capacity": 2**30, "key": disk}
                for disk in range(disks)
            ],
        }
        for number in range(count)
    ]
    return {"namespace": NAMESPACE, "name": VSPHERE, "vms": vms}


def _pvcs(vm: VirtualMachine, number: int) -> list[dict[str, Any]]:
    wanted = render.RenderRequest(namespace=f"place-{number % PLACES}")
    return list(render.pvcs(vm, wanted).pvcs)


def _plans(vms: list[VirtualMachine]) -> Iterator[dict[str, Any]]:
    for place in range(PLACES):
        there = vms[place::PLACES]
        for start in range(0, len(there), VMS_OF_A_PLAN):
            some = there[start : start + VMS_OF_A_PLAN]
            spec = {
                "targetNamespace": f"place-{place}",
                "vms": [{"id": vm.moref, "name": vm.name} for vm in some],
            }
            metadata = {"name": f"plan-{place}-{start}"}
            yield merged(BASE["Plan"], {"metadata": metadata, "spec": spec})


def create(bed: Bed, objects: list[dict[str, Any]]) -> None:
    """All of them, some at a time."""
    with bed.api.client() as client, ThreadPoolExecutor(CLIENTS) as pool:

        def one(obj: dict[str, Any]) -> None:
            answer = client.post(path_of(obj), json=obj)
            assert answer.status_code == 201, answer.text

        list(pool.map(one, objects))


if __name__ == "__main__":
    sys.exit(main())
