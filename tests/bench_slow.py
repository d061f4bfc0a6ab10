"""The p99 of reviews in a crowd, against the p99 without it: side by side, a ratio.

200 slow clients send a byte a second of headers or of a body, or a body without end, and come again
when they are cut; 1,000 connections are idle. Rounds alternate, so that a machine whose speed
drifts drifts for both. Exit code 1 if the median ratio is above 2.
"""

import asyncio
import contextlib
import json
import resource
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec

from tests.bench_inventory import p99
from tests.bench_server import snapshot
from tests.cases import BASE, review_of
from tests.guard import Guard, running

SLOW, IDLE, ROUNDS, REVIEWS = 200, 1000, 5, 1500
LIMIT = 2.0

_HEADERS = b"POST /validate HTTP/1.1\r\nx-slow: "
_POST = b"POST /validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
_BODY = _POST + b"content-length: 100000\r\n\r\n"
_ENDLESS = _POST + b"transfer-encoding: chunked\r\n\r\n"
_KINDS = (
    (_HEADERS, b"x"),
    (_BODY, b"x"),
    (_ENDLESS, b"10000\r\n" + b" " * 2**16 + b"\r\n"),
)  # how each begins, and goes on every second


def main() -> int:
    print(f"{'alone':>10} {'in a crowd':>13} {'ratio':>7}")
    median = statistics.median(ratios(ROUNDS, REVIEWS))
    print(f"median ratio {median:.2f}, at most {LIMIT}")
    return int(median > LIMIT)


def ratios(rounds: int, reviews: int) -> list[float]:
    """Of p99s, of so many reviews each; printed as they come."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "snapshot.yaml").write_bytes(snapshot())
        settings = {"snapshots": [str(folder / "snapshot.yaml")]}
        with running(folder, settings) as guard:
            return asyncio.run(_compare(guard, rounds, reviews))


async def _compare(guard: Guard, rounds: int, reviews: int) -> list[float]:
    found = []
    await _p99(guard, reviews)  # warm
    for _ in range(rounds):
        alone = await _p99(guard, reviews)
        async with _crowd(guard):
            crowded = await _p99(guard, reviews)
        found.append(crowded / alone)
        print(f"{alone * 1e3:>7.2f} ms {crowded * 1e3:>10.2f} ms {found[-1]:>7.2f}")
    return found


@contextlib.asynccontextmanager
async def _crowd(guard: Guard) -> AsyncIterator[None]:
    """Everybody is there when the block begins."""
    tls, there = guard.tls(), asyncio.Semaphore(0)
    idle = [await _connect(guard, tls) for _ in range(IDLE)]
    tasks = [
        asyncio.create_task(_slow(guard, tls, *_KINDS[number % len(_KINDS)], there))
        for number in range(SLOW)
    ]
    try:
        for _ in tasks:
            await there.acquire()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not any(reader.at_eof() for reader, _ in idle), "idle ones are left in peace"
        for _, writer in idle:
            writer.transport.abort()


async def _p99(guard: Guard, reviews: int) -> float:
    """Seconds, of reviews one after the other on one connection."""
    body = json.dumps(review_of(BASE["PersistentVolumeClaim"]))
    headers = {"content-type": "application/json"}
    seconds = []
    async with httpx.AsyncClient(base_url=guard.url, verify=guard.tls()) as client:
        for _ in range(reviews):
            started = time.perf_counter()
            answer = await client.post("/validate", content=body, headers=headers)
            seconds.append(time.perf_counter() - started)
            assert msgspec.json.decode(answer.content)["response"]["allowed"]
    return p99(seconds)


async def _slow(
    guard: Guard, tls: ssl.SSLContext, begin: bytes, more: bytes, there: asyncio.Semaphore
) -> None:
    while True:
        with contextlib.suppress(OSError, ssl.SSLError):
            reader, writer = await _connect(guard, tls)
            there.release()
            try:
                writer.write(begin)
                while not reader.at_eof() and not writer.is_closing():
                    writer.write(more)
                    await writer.drain()
                    await asyncio.sleep(1)
            finally:
                writer.transport.abort()


async def _connect(
    guard: Guard, tls: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", guard.port, ssl=tls)


if __name__ == "__main__":
    sys.exit(main())
