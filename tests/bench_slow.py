"""The p99 of reviews beside 200 slow clients, against the p99 without them: side by side, a ratio.

A slow client sends a byte a second, of headers or of a body, and comes again when it is cut. Rounds
alternate, so that a machine whose speed drifts drifts for both. Exit code 1 if the median ratio is
above 2.
"""

import asyncio
import contextlib
import json
import ssl
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import msgspec

from tests.bench_server import snapshot
from tests.cases import BASE, review_of
from tests.guard import Guard, running

CLIENTS, ROUNDS, REVIEWS = 200, 5, 1500
LIMIT = 2.0

_HEADERS = b"POST /validate HTTP/1.1\r\nx-slow: "
_BODY = (
    b"POST /validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"content-length: 100000\r\n\r\n"
)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "snapshot.yaml").write_bytes(snapshot())
        settings = {"snapshots": [str(folder / "snapshot.yaml")]}
        with running(folder, settings) as guard:
            return asyncio.run(_compare(guard))


async def _compare(guard: Guard) -> int:
    ratios = []
    await _p99(guard)  # warm
    print(f"{'round':<7} {'alone':>10} {'beside':>10} {'ratio':>7}")
    for number in range(ROUNDS):
        alone = await _p99(guard)
        slow = [asyncio.create_task(_slow(guard, number % 2)) for number in range(CLIENTS)]
        try:
            await asyncio.sleep(3)  # until all of them are there
            beside = await _p99(guard)
        finally:
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
        ratios.append(beside / alone)
        print(f"{number:<7} {alone * 1e3:>7.2f} ms {beside * 1e3:>7.2f} ms {ratios[-1]:>7.2f}")
    ratio = statistics.median(ratios)
    print(f"median ratio {ratio:.2f}, at most {LIMIT}")
    return int(ratio > LIMIT)


async def _p99(guard: Guard) -> float:
    """Seconds, of reviews one after the other on one connection."""
    body = json.dumps(review_of(BASE["PersistentVolumeClaim"]))
    headers = {"content-type": "application/json"}
    seconds = []
    async with httpx.AsyncClient(base_url=guard.url, verify=guard.tls()) as client:
        for _ in range(REVIEWS):
            started = time.perf_counter()
            answer = await client.post("/validate", content=body, headers=headers)
            seconds.append(time.perf_counter() - started)
            assert msgspec.json.decode(answer.content)["response"]["allowed"]
    return statistics.quantiles(seconds, n=100)[98]


async def _slow(guard: Guard, body: int) -> None:
    tls = guard.tls()
    while True:
        with contextlib.suppress(OSError, ssl.SSLError):
            reader, writer = await asyncio.open_connection("127.0.0.1", guard.port, ssl=tls)
            try:
                writer.write(_BODY if body else _HEADERS)
                while not reader.at_eof() and not writer.is_closing():
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(1)
            finally:
                writer.transport.abort()


if __name__ == "__main__":
    sys.exit(main())
