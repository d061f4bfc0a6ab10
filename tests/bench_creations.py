"""Creations through a real API server: what a webhook costs who creates, side by side in one run.

    none     no webhook
    go       a Go webhook with three look-ups, called for the same PVCs as the guard
    guard    the guard's validating webhooks alone
    shipped  its mutating ones, too

The same right PVC each time, under another name, from 1 to 256 clients; and a right Plan, for
which there is no Go webhook. It says `deleteVmOnFailMigration: false`: the CRD's default is true,
which is to be repaired for some versions of Forklift, and no condition can see which is there. They
are stored: nothing is a dry run. Rounds go round; a ratio is the median of the rounds' own.
Everything shares the machine's cores, so what is slow costs the API server, too. Exit code 1 where
a figure falls short. `python -m tests.bench_creations`, or `make bench-creations`.
"""

import base64
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench_inventory import Figures
from tests.bench_server import PVC, VMS, go_webhook, snapshot
from tests.cases import BASE, NAMESPACE
from tests.e2e.bed import PLAIN, Bed, eventually, path_of
from tests.e2e.parts import part
from tests.e2e.world import MANIFESTS, OWN_CRDS, TARGET
from tests.guard import running
from webhook.cli.demo import merged

ROUNDS, SECONDS, CLIENTS = 6, 2.0, (1, 16, 64, 256)
_NOISE = 0.2  # milliseconds
_VALIDATING = "ValidatingWebhookConfiguration"
_PLAN = merged(
    BASE["Plan"],
    {
        "spec": {
            "targetNamespace": TARGET,
            "vms": [{"id": "vm-77"}],
            "map": {"storage": {}},
            "deleteVmOnFailMigration": False,
        }
    },
)


class _Took(NamedTuple):
    rate: float
    """Creations a second."""
    p50: float
    """Milliseconds."""


def main() -> int:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bed = stack.enter_context(Bed())
        bed.install_crds(OWN_CRDS)
        for place in (NAMESPACE, TARGET):
            bed.kubectl("create", "namespace", place, check=True)
        (folder / "snapshot.yaml").write_bytes(snapshot(VMS))
        guard = stack.enter_context(running(folder, {"snapshots": [str(folder / "snapshot.yaml")]}))
        with guard.client() as client:
            eventually(lambda: client.get("/readyz").status_code == 200, "it is ready")
        go = stack.enter_context(go_webhook(folder))
        bundle = base64.b64encode((folder / "ca.crt").read_bytes()).decode()
        ours = list(_webhooks(bed, guard.url, bundle))
        theirs = list(_webhooks(bed, go.url.partition("/validate")[0], bundle))
        validating = [one for one in ours if one["kind"] == _VALIDATING]
        choices = {
            "none": [],
            "go": [_only_pvcs(one) for one in theirs if one["kind"] == _VALIDATING],
            "guard": validating,
            "shipped": ours,
        }
        found: dict[tuple[str, str, int], list[_Took]] = {}
        for _ in range(ROUNDS):
            for name, webhooks in choices.items():
                with _installed(bed, webhooks):
                    for clients in CLIENTS:
                        took = _load(bed, folder, PVC, clients)
                        found.setdefault((name, "PVC", clients), []).append(took)
                    if name != "go":
                        took = _load(bed, folder, _PLAN, 16)
                        found.setdefault((name, "Plan", 16), []).append(took)
    return _tell(found)


def _webhooks(bed: Bed, url: str, bundle: str) -> Iterator[dict[str, Any]]:
    """The shipped configurations, at `url`."""
    for item in bed.shipped(MANIFESTS):
        if item["kind"] in PLAIN:
            for webhook in item["webhooks"]:
                webhook["clientConfig"] = {"url": url + PLAIN[item["kind"]], "caBundle": bundle}
            yield item


def _only_pvcs(configuration: dict[str, Any]) -> dict[str, Any]:
    """That is all the Go webhook can read."""
    first = configuration["webhooks"][:1]
    assert first[0]["name"].startswith("pvc."), first[0]["name"]
    return {**configuration, "webhooks": first}


@contextmanager
def _installed(bed: Bed, webhooks: Sequence[dict[str, Any]]) -> Iterator[None]:
    """With these configurations, once the API server goes by them, and by no others."""
    wrong = _named(merged(PVC, {"metadata": {"labels": {"vmID": "vm-76"}}}))

    def passes() -> bool:
        with bed.api.client() as client:
            return client.post(path_of(wrong), json=wrong, params={"dryRun": "All"}).is_success

    eventually(passes, "it goes by no others")
    for one in webhooks:
        bed.kubectl("create", "-f", "-", stdin=json.dumps(one), check=True)
    try:
        eventually(lambda: passes() != bool(webhooks), "it goes by them")
        yield
    finally:
        for one in webhooks:
            bed.kubectl("delete", "-f", "-", stdin=json.dumps(one), check=True)


def _named(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "name"}
    return {**obj, "metadata": {**metadata, "generateName": "d-", "namespace": TARGET}}


def _load(bed: Bed, folder: Path, obj: dict[str, Any], clients: int) -> _Took:
    body = folder / "body.json"
    named = _named(obj)
    body.write_text(json.dumps(named))
    connecting = bed.api.connecting()
    command = [str(part("load")), "-url", bed.api.url + path_of(named)]
    options = {
        "ca": bed.api.ca_file,
        "body": body,
        "expect": f'"kind":"{obj["kind"]}"',
        "header": f"Authorization: {connecting['headers']['Authorization']}",
        "connections": clients,
        "seconds": SECONDS,
    }
    command += [f"-{name}={value}" for name, value in options.items()]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    told = json.loads(done.stdout)
    return _Took(told["answers"] / told["seconds"], told["p50"] * 1000)


def _tell(found: dict[tuple[str, str, int], list[_Took]]) -> int:
    print("| creations a second (p50 in ms) | none | go | guard | shipped |")
    print("| --- | --- | --- | --- | --- |")
    for kind, clients in [("PVC", clients) for clients in CLIENTS] + [("Plan", 16)]:
        cells = []
        for name in ("none", "go", "guard", "shipped"):
            took = found.get((name, kind, clients), [])
            median = statistics.median(one.rate for one in took) if took else 0.0
            p50 = statistics.median(one.p50 for one in took) if took else 0.0
            cells.append(f"{median:,.0f} ({p50:.1f})" if took else "")
        print(f"| a {kind}, {clients} clients | {' | '.join(cells)} |")
    figures = Figures()

    def ratio(ours: str, peer: str, kind: str, clients: int) -> float:
        rounds = zip(found[ours, kind, clients], found[peer, kind, clients], strict=True)
        return statistics.median(one.rate / other.rate for one, other in rounds)

    def added(name: str, clients: int) -> float:
        rounds = zip(found[name, "PVC", clients], found["none", "PVC", clients], strict=True)
        return max(statistics.median(one.p50 - none.p50 for one, none in rounds), _NOISE)

    for clients in CLIENTS:
        rate = ratio("guard", "go", "PVC", clients)
        figures.add(f"a PVC, {clients} clients: creations, of Go's", rate, 1.0, "", least=True)
        more = added("guard", clients) / added("go", clients)
        figures.add(f"a PVC, {clients} clients: p50 added, of Go's", more, 1.0, "")
        rate = ratio("shipped", "guard", "PVC", clients)
        figures.add(f"a PVC, {clients} clients: as shipped", rate, 0.95, "", least=True)
    figures.add("a Plan: as shipped", ratio("shipped", "guard", "Plan", 16), 0.95, "", least=True)
    figures.show()
    return 1 if figures.short else 0


if __name__ == "__main__":
    sys.exit(main())
