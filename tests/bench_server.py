"""The server against a Go webhook and against an empty app, side by side in one run.

    go     a webhook as one writes it with controller-runtime, with three look-ups and nothing else
    floor  an empty ASGI callable on the guard's own server class
    guard  the real `conversion-guard serve`, with all rules

All have 5,000 VMs, and the same right PVC. Each server has one core to itself and the load the
other; only the server's own CPU time counts. Rounds go round, so that a machine whose speed drifts
drifts for all; a ratio is the median of the rounds' own ratios. Where others have work to do on the
machine, too, no figure here means much: whoever needs more of its caches loses more.
"""

import argparse
import json
import os
import platform
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tests.cases import BASE, review_of
from tests.e2e.bed import eventually, free_port
from tests.e2e.parts import part
from tests.guard import running
from webhook.cli.demo import merged
from webhook.server import https
from webhook.server.bodies import Receive, Scope, Send

ROUNDS, SECONDS, CONNECTIONS = 12, 0.8, 16
VMS = 5000
_ON_SERVER, _ON_LOAD = ["taskset", "-c", "0"], ["taskset", "-c", "1"]
_DENIED = '"allowed":false'


class Server(NamedTuple):
    """Where a load goes."""

    pid: int
    url: str
    """Of its path for PVCs."""
    ca: Path


class _Load(NamedTuple):
    """What came of one load."""

    rate: float
    """Answers in a second of the server's CPU time."""
    throughput: float
    """Answers a second."""
    p50: float
    p99: float


class _Row(NamedTuple):
    """One figure of the table: ours, the peer's, and what their ratio must be."""

    figure: str
    unit: str
    guard: str
    peer: str
    most: float | None
    least: float | None

    def fails(self, ratio: float) -> bool:
        return (self.most is not None and ratio > self.most) or (
            self.least is not None and ratio < self.least
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench_server", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("build/bench-server.json"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--floor", type=Path, help="be the floor, with the certificate in here")
    given = parser.parse_args()
    if given.floor:
        _serve_floor(given.floor)
        return 0
    if not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2:
        sys.exit("bench: needs Linux and two cores")
    os.sched_setaffinity(0, {1})  # a thread of this process reads the guard's log: not on its core
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "snapshot.yaml").write_bytes(snapshot(VMS))
        (folder / "right.json").write_bytes(_review(PVC))
        (folder / "wrong.json").write_bytes(_review(_WRONG))
        settings = {"snapshots": [str(folder / "snapshot.yaml")]}
        program = [*_ON_SERVER, sys.executable, "-m", "webhook"]
        guard = stack.enter_context(running(folder, settings, program))
        with guard.client() as client:
            eventually(lambda: client.get("/readyz").status_code == 200, "it is ready")
        at = Server(guard.process.pid, f"{guard.url}/validate?timeout=5s", guard.ca_file)
        go = stack.enter_context(go_webhook(folder))
        floor = stack.enter_context(_floor(folder))
        while guard.reviews() < _FIRST:  # what is made once is made by then
            load(at, folder / "right.json", seconds=1)
        memory = [_resident(at.pid)]
        rounds = _measure(at, go, floor, folder, given.rounds)
        memory.append(_resident(at.pid))
        reviews = guard.reviews()
    return _tell(rounds, memory, reviews, given.json)


_ROWS = (
    _Row("a right PVC at /validate", "reviews/CPU s", "validate", "go", None, 2.0),
    _Row("a right PVC at /mutate", "reviews/CPU s", "mutate", "go", None, 2.0),
    _Row("a denied PVC", "reviews/CPU s", "denied", "go", None, 1.0),
    _Row("a right PVC beside an empty app", "reviews/CPU s", "validate", "floor", None, 0.7),
    _Row("a new TLS connection for each", "reviews/CPU s", "fresh", "go fresh", None, 0.8),
    _Row("p50 at one connection", "µs", "p50 one", "go p50 one", 1.0, None),
    _Row("p99 at one connection", "µs", "p99 one", "go p99 one", 1.0, None),
    _Row("p50 at half of saturation", "µs", "p50 half", "go p50 half", 1.0, None),
    _Row("p99 at half of saturation", "µs", "p99 half", "go p99 half", 1.0, None),
)


def _measure(
    guard: Server, go: Server, floor: Server, folder: Path, rounds: int
) -> list[dict[str, float]]:
    """Each figure of each round. Half of saturation is the same load for both: half of what the
    slower one answers at most."""
    right, wrong = folder / "right.json", folder / "wrong.json"
    mutate = guard._replace(url=guard.url.replace("/validate", "/mutate"))
    for server in (guard, mutate, go, floor):  # warm
        load(server, right, seconds=1)
    found = []
    for _ in range(rounds):
        one: dict[str, float] = {}
        validated, theirs = load(guard, right), load(go, right)
        one["validate"], one["go"] = validated.rate, theirs.rate
        one["mutate"], one["floor"] = load(mutate, right).rate, load(floor, right).rate
        one["denied"] = load(guard, wrong, expect=_DENIED).rate
        half = min(validated.throughput, theirs.throughput) / 2
        for name, server in (("", guard), ("go ", go)):
            one[f"{name}fresh"] = load(server, right, connections=4, fresh=True).rate
            for at, options in (("one", {"connections": 1}), ("half", {"rate": half})):
                took = load(server, right, **options)
                one[f"{name}p50 {at}"], one[f"{name}p99 {at}"] = took.p50 * 1e6, took.p99 * 1e6
        found.append(one)
    return found


def load(
    server: Server,
    body: Path,
    *,
    connections: int = CONNECTIONS,
    seconds: float = SECONDS,
    rate: float = 0,
    fresh: bool = False,
    expect: str = '"allowed":true',
    header: str = "",
) -> _Load:
    """What a server answers under load, by the CPU time of its process alone. `rate`: requests a
    second; 0: as many as go."""
    before = _cpu(server.pid)
    command = [*_ON_LOAD, str(part("load")), "-url", server.url, "-ca", str(server.ca)]
    options = {"connections": connections, "seconds": seconds, "rate": rate, "header": header}
    command += [f"-{name}={value}" for name, value in options.items()]
    command += ["-body", str(body), "-expect", expect, f"-fresh={str(fresh).lower()}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    spent = _cpu(server.pid) - before
    found = json.loads(done.stdout)
    answers = found["answers"]
    return _Load(answers / spent, answers / found["seconds"], found["p50"], found["p99"])


def _cpu(pid: int) -> float:
    """Seconds that all its threads have run; /proc/PID/stat has only hundredths."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9


def _resident(pid: int) -> float:
    """MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _tell(rounds: list[dict[str, float]], memory: list[float], reviews: int, file: Path) -> int:
    cpus = Path("/proc/cpuinfo").read_text()
    model = next((line for line in cpus.splitlines() if line.startswith("model name")), ":")
    machine = {
        "cpu": model.partition(":")[2].strip(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("uvicorn", "uvloop", "httptools", "msgspec")},
        "go": subprocess.run(
            ["go", "version", part("go-webhook")], capture_output=True, text=True, check=False
        )
        .stdout.rpartition(" ")[2]
        .strip(),
        "rounds": len(rounds),
        "vms": VMS,
    }
    print("Machine: " + ", ".join(f"{name} {value}" for name, value in machine.items()))
    print(
        "\n| figure | guard | peer | ratio | must reach | |\n| --- | --- | --- | --- | --- | --- |"
    )
    told, short = [], []
    for row in _ROWS:
        ours, theirs = ([one[key] for one in rounds] for key in (row.guard, row.peer))
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        bound = f"≤ {row.most}" if row.most is not None else f"≥ {row.least}"
        guard, peer = statistics.median(ours), statistics.median(theirs)
        fails = row.fails(ratio)
        print(
            f"| {row.figure} | {guard:,.0f} {row.unit} | {row.peer}: {peer:,.0f} | {ratio:.2f} "
            f"| {bound} | {'falls short' if fails else 'ok'} |"
        )
        told.append({"figure": row.figure, "guard": guard, "peer": peer, "ratio": ratio})
        short += [f"{row.figure}: {ratio:.2f}, must be {bound}"] if fails else []
    growth = memory[1] - memory[0]
    figure = f"memory from {_FIRST:,} to {reviews:,} reviews"
    print(f"| {figure} | {growth:+.1f} MiB | | | ≤ {_MOST_GROWTH} MiB | |")
    if growth > _MOST_GROWTH:
        short.append(f"memory grew by {growth:.1f} MiB, must be ≤ {_MOST_GROWTH} MiB")
    file.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine, "figures": told, "rounds": rounds, "memory": memory}
    file.write_text(json.dumps({**result, "reviews": reviews, "short": short}, indent=1))
    for what in short:
        print(f"falls short: {what}", file=sys.stderr)
    return 1 if short else 0


_FIRST = 25_000  # reviews
_MOST_GROWTH = 5  # MiB. How much there is at all tells `make bench-inventory`, of a live vCenter

PVC = merged(
    BASE["PersistentVolumeClaim"],
    {
        "metadata": {
            "labels": {"vmID": "vm-77", "vmUUID": "42324a11-5d13-4f9b-9b46-000000000077"},
            "annotations": {"forklift.konveyor.io/disk-source": "[datastore1] vm-77/vm-77.vmdk"},
            "managedFields": [
                {
                    "manager": "kubectl-create",
                    "operation": "Update",
                    "apiVersion": "v1",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {
                        "f:metadata": {"f:labels": {".": {}, "f:vmID": {}, "f:vmUUID": {}}},
                        "f:spec": {"f:accessModes": {}, "f:resources": {}, "f:volumeMode": {}},
                    },
                }
            ],
        },
        "spec": {"resources": {"requests": {"storage": "10Gi"}}},
    },
)
_WRONG = merged(
    PVC,
    {"metadata": {"annotations": {"forklift.konveyor.io/disk-source": "[datastore1] a/b.vmdk"}}},
)


def _review(obj: dict[str, Any]) -> bytes:
    return json.dumps(review_of(obj)).encode()


def snapshot(vms: int = 0) -> bytes:
    """The VMs of the fixtures; or so many as the Go webhook has."""
    if vms == 0:
        known: list[dict[str, Any]] = [{"moref": key, **vm} for key, vm in BASE["vsphere"].items()]
    else:
        known = [_vm(number) for number in range(vms)]
    provider = {"namespace": "openshift-mtv", "name": "vsphere-production", "vms": known}
    return msgspec.yaml.encode({"providers": [provider]})


def _vm(number: int) -> dict[str, Any]:
    name = f"vm-{number}"
    sizes = {f"[datastore1] {name}/{name}.vmdk": 10, f"[datastore1] {name}/{name}_1.vmdk": 20}
    return {
        "moref": name,
        "name": name,
        "uuid": f"42324a11-5d13-4f9b-9b46-{number:012}",
        "instanceUuid": f"52324a11-5d13-4f9b-9b46-{number:012}",
        "disks": [{"file": file, "capacity": size << 30} for file, size in sizes.items()],
    }


@contextmanager
def go_webhook(folder: Path) -> Iterator[Server]:
    port = free_port()
    command = [str(part("go-webhook")), "-port", str(port), "-cert-dir", str(folder)]
    with subprocess.Popen(
        [*_ON_SERVER, *command, "-vms", str(VMS)], stderr=subprocess.DEVNULL
    ) as process:
        yield from _listening(process, port, folder)


@contextmanager
def _floor(folder: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "tests.bench_server", "--floor", str(folder)]
    with subprocess.Popen([*_ON_SERVER, *command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield from _listening(process, int(process.stdout.readline()), folder)


def _listening(process: "subprocess.Popen[Any]", port: int, folder: Path) -> Iterator[Server]:
    """The server, once it takes connections, until the bench is done with it."""

    def listens() -> bool:
        socket.create_connection(("127.0.0.1", port)).close()
        return True

    try:
        eventually(listens, "it listens")
        url = f"https://127.0.0.1:{port}/validate?timeout=5s"
        yield Server(process.pid, url, folder / "ca.crt")
    finally:
        process.terminate()
        process.wait(60)


def _serve_floor(folder: Path) -> None:
    """An app that does nothing, on the guard's server class; its port is printed."""

    async def empty(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        body = b'{"allowed":true}'
        length = (b"content-length", b"%d" % len(body))
        headers = [(b"content-type", b"application/json"), length]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        https.HttpsServer(empty, context).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
