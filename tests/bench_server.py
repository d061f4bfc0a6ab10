"""Reviews per CPU second, over TLS, of this server and of three others, side by side in one run.

    floor      a bare ASGI callable that reads the body and answers a constant
    guard      the real `conversion-guard serve`, judging every review
    starlette  the same engine behind a Starlette route
    fastapi    the same engine behind a FastAPI route

Each server has one core to itself, the load (wrk) the other. Rounds go round, so that a machine
whose speed drifts drifts for all. Figures are medians; only ratios mean anything elsewhere.
"""

import asyncio
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.cases import BASE, review_of
from tests.guard import running
from webhook.cli.demo import merged
from webhook.engine.judge import decide
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.inventory.provider import Inventory
from webhook.inventory.snapshot import load_snapshot
from webhook.model.review import parse, render
from webhook.server.bodies import Receive, Scope, Send

ROUNDS, SECONDS, CONNECTIONS = 3, 4, 16


def main() -> None:
    if not shutil.which("wrk") or not hasattr(os, "sched_setaffinity"):
        sys.exit("bench: needs Linux and wrk (Debian package wrk)")
    if len(sys.argv) > 1:
        _reference(sys.argv[1], Path(sys.argv[2]))
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "snapshot.yaml").write_bytes(snapshot())
        (folder / "review.lua").write_text(script())
        settings = {"snapshots": [str(folder / "snapshot.yaml")]}
        urls: dict[str, tuple[int, str]] = {}
        guard = stack.enter_context(running(folder, settings))
        urls["guard"] = guard.process.pid, guard.url
        for name in ("floor", "starlette", "fastapi"):
            process, url = _start(name, folder)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            urls[name] = process.pid, url
        rates = _measure(urls, folder / "review.lua")
    floor = statistics.median(rates["floor"])
    print(f"{'server':<10} {'reviews per CPU second':>24} {'of the floor':>14}")
    for name in ("floor", "guard", "starlette", "fastapi"):
        rate = statistics.median(rates[name])
        print(f"{name:<10} {rate:>24,.0f} {rate / floor:>13.0%}")


def _measure(urls: dict[str, tuple[int, str]], script: Path) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {name: [] for name in urls}
    for name, (pid, url) in list(urls.items()) * ROUNDS:
        rates[name].append(load(pid, f"{url}/validate?timeout=5s", script))
    return rates


def load(pid: int, url: str, script: Path) -> float:
    """What process `pid`, on one core, answers in a second of its CPU, under wrk on another."""
    os.sched_setaffinity(pid, {0})
    before = _cpu(pid)
    wrk = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s"]
    done = subprocess.run(
        [*wrk, "-s", str(script), url], capture_output=True, text=True, check=True
    )
    assert "Non-2xx" not in done.stdout, done.stdout
    return int(re.findall(r"(\d+) requests in", done.stdout)[0]) / (_cpu(pid) - before)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def script() -> str:
    managed = {"manager": "kubectl-create", "operation": "Update", "apiVersion": "v1"}
    fields: dict[str, Any] = {
        "f:metadata": {"f:labels": {".": {}, "f:vmID": {}, "f:vmUUID": {}}},
        "f:spec": {},
    }
    pvc = merged(
        BASE["PersistentVolumeClaim"],
        {"metadata": {"managedFields": [{**managed, "fieldsV1": fields}]}},
    )
    headers = 'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
    return f"{headers}wrk.body = [=[{json.dumps(review_of(pvc))}]=]\n"


def snapshot() -> bytes:
    vms = [{"moref": moref, **vm} for moref, vm in BASE["vsphere"].items()]
    provider = {"namespace": "openshift-mtv", "name": "vsphere-production", "vms": vms}
    return msgspec.yaml.encode({"providers": [provider]})


def _start(name: str, folder: Path) -> tuple["subprocess.Popen[str]", str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench_server", name, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def _reference(name: str, folder: Path) -> None:
    """One of the servers to compare with, in a process of its own."""
    snapshot = load_snapshot(folder / "snapshot.yaml", wall=datetime.now(UTC), monotonic=0.0)
    sources = Sources(Inventory(snapshot), Policy(), time.monotonic)

    async def answer(body: bytes) -> bytes:
        review = parse(body)
        deadline = asyncio.get_running_loop().time() + 4.5
        return render(review, await decide(review, sources, deadline))

    apps: dict[str, Callable[[], Any]] = {
        "floor": lambda: _floor,
        "starlette": lambda: _starlette(answer),
        "fastapi": lambda: _fastapi(answer),
    }
    config = uvicorn.Config(
        apps[name](),
        port=0,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        ssl_certfile=folder / "tls.crt",
        ssl_keyfile=folder / "tls.key",
    )
    config.load()
    listener = config.bind_socket()
    print(f"https://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


_Answer = Callable[[bytes], Awaitable[bytes]]


async def _floor(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


def _starlette(answer: _Answer) -> Starlette:
    async def validate(request: Request) -> Response:
        return Response(await answer(await request.body()), media_type="application/json")

    return Starlette(routes=[Route("/validate", validate, methods=["POST"])])


def _fastapi(answer: _Answer) -> FastAPI:
    rest = FastAPI()

    @rest.post("/validate")
    async def validate(request: Request) -> Response:
        return Response(await answer(await request.body()), media_type="application/json")

    return rest


if __name__ == "__main__":
    main()
