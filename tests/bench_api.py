"""`POST /check` beside the admission path: requests per CPU second of one guard, in one run, and
the latency of reviews while lists of 1,000 PVCs are checked, one after the other.

The real guard, with a real API server that tells whose the token is and what its owner may. The
guard has one core to itself, the load the other; what is called takes turns. No caller is limited
here, as each is to 100 requests a second by default. Exit code 1 if a check of one PVC falls short
of 1,500 a second.
"""

import json
import os
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.bench_inventory import lasting, latencies, p99
from tests.bench_server import ROUNDS, Server, load, snapshot
from tests.cases import BASE, NAMESPACE, review_of
from tests.e2e.bed import GUARD, Bed, eventually
from tests.e2e.world import MANIFESTS, OWN_CRDS, TARGET
from tests.guard import Guard, running
from webhook.cli.demo import merged

WANTED = 1500


def main() -> int:
    if not hasattr(os, "sched_setaffinity"):
        sys.exit("bench: needs Linux")
    with Bed() as bed, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bed.install_crds(OWN_CRDS)
        for namespace in (NAMESPACE, TARGET):
            bed.kubectl("create", "namespace", namespace, check=True)
        for roles in ("base/cluster-role.yaml", "api/cluster-role.yaml"):
            bed.kubectl("apply", "-f", str(MANIFESTS / roles), check=True)
        bed.kubectl("apply", "-k", str(MANIFESTS / "provider-namespace"), check=True)
        bed.kubectl("create", "serviceaccount", "vendor", check=True)
        everything = ["--clusterrole", "cluster-admin", "--serviceaccount", "default:vendor"]
        bed.kubectl("create", "clusterrolebinding", "vendor", *everything, check=True)
        audience = ["--audience", "conversion-guard"]
        token = bed.kubectl("create", "token", "vendor", *audience, check=True).stdout.strip()
        (folder / "snapshot.yaml").write_bytes(snapshot())
        (folder / "review.json").write_bytes(_REVIEW)
        (folder / "check.json").write_text(json.dumps(_PVC))
        api = {"enabled": True, "listen": "127.0.0.1:0", "ratePerUser": 1e9}
        settings = {
            "snapshots": [str(folder / "snapshot.yaml")],
            "kubeconfig": str(bed.kubeconfig(GUARD)),
            "api": api,
        }
        with running(folder, settings) as guard:
            with guard.client() as client:
                eventually(lambda: client.get("/readyz").status_code == 200, "a first list")
            pid = guard.process.pid
            os.sched_setaffinity(pid, {0})
            calls = {
                "POST /validate": (f"{guard.url}/validate?timeout=5s", "review.json", ""),
                "POST /api/v1/check": (
                    f"{guard.api_url}/api/v1/check",
                    "check.json",
                    f"Authorization: Bearer {token}",
                ),
            }
            rates: dict[str, list[float]] = {call: [] for call in calls}
            for call, (url, body, header) in list(calls.items()) * ROUNDS:
                at = Server(pid, url, guard.ca_file)
                rates[call].append(load(at, folder / body, header=header, expect="{").rate)
            alone = latencies(guard, _REVIEW, lasting(5))
            with _lists(guard, token):
                beside = latencies(guard, _REVIEW, lasting(5))
    for call, measured in rates.items():
        print(f"{call:<20} {statistics.median(measured):>8,.0f} requests per CPU second")
    for what, times in (("alone", alone), ("beside lists", beside)):
        print(f"a review {what:<13} p99 {p99(times) * 1e3:.1f} ms, most {max(times) * 1e3:.1f} ms")
    return 0 if statistics.median(rates["POST /api/v1/check"]) >= WANTED else 1


_PVC = BASE["PersistentVolumeClaim"]
_REVIEW = json.dumps(review_of(_PVC)).encode()


@contextmanager
def _lists(guard: Guard, token: str) -> Iterator[None]:
    """Somebody who checks 1,000 PVCs again and again meanwhile."""
    objects = [merged(_PVC, {"metadata": {"name": f"disk-{number}"}}) for number in range(1000)]
    stop = threading.Event()

    def check() -> None:
        with httpx.Client(
            base_url=guard.api_url, verify=guard.tls(), headers=_headers(token), timeout=60
        ) as client:
            while not stop.is_set():
                client.post("/api/v1/check", json=objects).raise_for_status()

    with ThreadPoolExecutor(1) as threads:
        checking = threads.submit(check)
        try:
            yield
        finally:
            stop.set()
        checking.result()


def _headers(token: str) -> dict[str, str]:
    return {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}


if __name__ == "__main__":
    sys.exit(main())
