"""A Plan of 500 VMs with three disks each, and its Migration, against a real API server.

The answer's whole time, and what of it is the guard's own: without the listing of the PVCs, which
is timed beside it. The median of some rounds counts. Exit code 1 where a figure falls short.
`python -m tests.bench_plan`, or `make bench-plan`.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.bench_cli import create, provider
from tests.bench_inventory import Figures
from tests.cases import BASE, NAMESPACE, review_of
from tests.e2e.bed import Bed, eventually, set_status
from tests.e2e.world import OWN_CRDS, TARGET, find_ready
from tests.guard import running
from webhook.cli.demo import merged
from webhook.cli.known import snapshot_of
from webhook.manifests import render

VMS, DISKS, ROUNDS, CLIENTS = 500, 3, 9, 8


def main() -> int:
    figures = Figures()
    with tempfile.TemporaryDirectory() as temporary, Bed() as bed:
        folder = Path(temporary)
        bed.install_crds(OWN_CRDS)
        for place in (NAMESPACE, TARGET):
            bed.kubectl("create", "namespace", place, check=True)
        snapshot = folder / "snapshot.json"
        snapshot.write_text(json.dumps({"providers": [provider(VMS, DISKS)]}))
        vms = list(next(iter(snapshot_of(snapshot).vsphere())).vms)
        wanted = render.RenderRequest(namespace=TARGET)
        _fill(bed, [pvc for vm in vms for pvc in render.pvcs(vm, wanted).pvcs])
        spec = {"targetNamespace": TARGET, "vms": [{"id": vm.moref} for vm in vms]}
        plan = merged(BASE["Plan"], {"spec": spec})
        create(bed, [plan])
        find_ready(bed)
        settings = {"snapshots": [str(snapshot)], "kubeconfig": str(bed.kubeconfig())}
        with running(folder, settings) as guard, guard.client() as client, bed.api.client() as api:
            eventually(lambda: client.get("/readyz").status_code == 200, "it is ready")
            claims = f"/api/v1/namespaces/{TARGET}/persistentvolumeclaims"

            def listed() -> None:
                answer = api.get(claims, params={"labelSelector": "vmID,vmUUID"})
                assert answer.content.count(b'"vmUUID":') >= VMS * DISKS

            listing = _median(listed)
            for obj in (plan, BASE["Migration"]):
                review = review_of(obj)

                def judged(review: dict[str, Any] = review) -> None:
                    answer = client.post("/validate", params={"timeout": "10s"}, json=review)
                    assert answer.json()["response"]["allowed"], answer.text

                seconds = _median(judged)
                figures.add(f"{obj['kind']} of {VMS} VMs: the whole answer", seconds, 1, "s")
                own = max(0.0, seconds - listing) * 1000
                figures.add(f"{obj['kind']} of {VMS} VMs: beyond the listing", own, 200, "ms")
    figures.show()
    return 1 if figures.short else 0


def _fill(bed: Bed, pvcs: list[dict[str, Any]]) -> None:
    """Create them, and have them bound as a volume controller would."""
    create(bed, pvcs)
    with bed.api.client() as client, ThreadPoolExecutor(CLIENTS) as pool:

        def bind(pvc: dict[str, Any]) -> None:
            capacity = pvc["spec"]["resources"]["requests"]
            set_status(client, pvc, {"phase": "Bound", "capacity": capacity})

        list(pool.map(bind, pvcs))


def _median(what: Callable[[], None]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        what()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    sys.exit(main())
