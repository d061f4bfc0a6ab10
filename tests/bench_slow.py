"""What slow clients cost the others, and how long they are borne: side by side, ratios.

The p99 of reviews in a crowd, against the p99 without it: 200 slow clients send a byte a second of
headers or of a body, or a body without end, and come again when they are cut; 1,000 connections are
idle. Rounds alternate, so that a machine whose speed drifts drifts for both. Then the time until an
unfinished request is cut, against its limit; and the memory of guards of their own, against what
they may take: 100 clients that hold large bodies, 1,000 idle connections at /metrics, and what
200,000 reviews leave behind. Exit code 1 if the median of the first is above 2, one of the second
below 0.95 or above 1.2, or one of the last above 1.
"""

import asyncio
import contextlib
import itertools
import json
import re
import resource
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import msgspec

from tests.bench_inventory import p99
from tests.bench_server import snapshot
from tests.cases import BASE, review_of
from tests.guard import Guard, running
from webhook.server import connection, https
from webhook.server.bodies import LARGEST

SLOW, IDLE, ROUNDS, REVIEWS = 200, 1000, 5, 1500
LIMIT = 2.0
SOONEST, LATEST = 0.95, 1.2
HOLDING, SCRAPING, MEMORY = 100, 1000, 256 * 2**20
FIRST, ALL, GROWTH = 25_000, 200_000, 5 * 2**20
"""Reviews after which memory is looked at, and the bytes that it may have grown between."""
CONNECTIONS = 8

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
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "snapshot.yaml").write_bytes(snapshot())
        settings = {"snapshots": [str(folder / "snapshot.yaml")]}
        with running(folder, settings) as guard:
            short = [*asyncio.run(_compare(guard)), *asyncio.run(_cut(guard))]
        print(f"{'memory of':>31} {'at most':>10} {'ratio':>7}")
        for measure in (_held, _scraped, _grown):
            with running(folder, settings) as guard:
                short += asyncio.run(measure(guard))
    for what in short:
        print(f"bench-slow: failed: {what}", file=sys.stderr)
    return int(bool(short))


async def _compare(guard: Guard) -> list[str]:
    """Figures as they come; what falls short."""
    ratios = []
    await _p99(guard)  # warm
    print(f"{'alone':>10} {'in a crowd':>13} {'ratio':>7}")
    for _ in range(ROUNDS):
        alone = await _p99(guard)
        async with _crowd(guard):
            crowded = await _p99(guard)
        ratios.append(crowded / alone)
        print(f"{alone * 1e3:>7.2f} ms {crowded * 1e3:>10.2f} ms {ratios[-1]:>7.2f}")
    median = statistics.median(ratios)
    print(f"median ratio {median:.2f}, at most {LIMIT}")
    return [f"p99 in a crowd is {median:.2f} of that without"] if median > LIMIT else []


async def _cut(guard: Guard) -> list[str]:
    """Figures; what falls short."""
    limits = {
        "handshake": (None, https.HANDSHAKE_SECONDS),
        "headers": (_HEADERS, connection.HEADERS_SECONDS),
        "body": (_BODY, connection.BODY_SECONDS),
    }
    taken = await asyncio.gather(*(_seconds(guard, sent) for sent, _ in limits.values()))
    short = []
    print(f"{'unfinished':>10} {'limit':>10} {'cut after':>13} {'ratio':>7}")
    for (name, (_, limit)), seconds in zip(limits.items(), taken, strict=True):
        ratio = seconds / limit
        print(f"{name:>10} {limit:>8.1f} s {seconds:>11.1f} s {ratio:>7.2f}")
        if not SOONEST <= ratio <= LATEST:
            short.append(f"an unfinished {name} is cut after {ratio:.2f} of its limit")
    return short


async def _held(guard: Guard) -> list[str]:
    """The most that was taken while clients held large bodies."""
    head = b"content-length: %d\r\n\r\n" % LARGEST
    tls = guard.tls()
    there = [await _connect(guard, tls) for _ in range(HOLDING)]
    for _, writer in there:
        writer.write(_POST + head + b" " * (LARGEST - 1))  # what isn't read waits here
    await asyncio.gather(*(reader.read() for reader, _ in there), return_exceptions=True)
    for _, writer in there:
        writer.transport.abort()
    return _against(f"{HOLDING} large bodies", guard.peak_memory(), MEMORY)


async def _scraped(guard: Guard) -> list[str]:
    """The most that was taken until idle connections at /metrics are closed; it waits for that."""
    idle = [await asyncio.open_connection("127.0.0.1", guard.metrics_port) for _ in range(SCRAPING)]
    await asyncio.gather(*(reader.read() for reader, _ in idle))
    for _, writer in idle:
        writer.close()
    return _against(f"{SCRAPING} idle scrapers", guard.peak_memory(), MEMORY)


async def _grown(guard: Guard) -> list[str]:
    """What reviews leave behind, each of another object."""
    tls, numbers = guard.tls(), itertools.count()
    pairs = [await _connect(guard, tls) for _ in range(CONNECTIONS)]

    async def until(enough: int) -> int:
        await asyncio.gather(*(_reviews(*pair, numbers, enough) for pair in pairs))
        return guard.memory()

    before = await until(FIRST)
    grown = await until(ALL) - before
    for _, writer in pairs:
        writer.transport.abort()
    return _against(f"growth, {FIRST:,} to {ALL:,}", grown, GROWTH)


async def _reviews(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, numbers: Iterator[int], enough: int
) -> None:
    whole = json.dumps(review_of(BASE["PersistentVolumeClaim"]))
    while (number := next(numbers)) < enough:
        body = whole.replace('"u-1"', f'"u-{number}"').encode()
        writer.write(_POST + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
        answer = await reader.readexactly(int(length))
        assert b'"allowed":true' in answer, answer


def _against(what: str, taken: int, limit: int) -> list[str]:
    """A figure; what falls short."""
    ratio = taken / limit
    print(f"{what:>24} {taken / 2**20:>5.1f}M {limit / 2**20:>9.0f}M {ratio:>7.2f}")
    return [f"{what}: {ratio:.2f} of what it may take"] if ratio > 1 else []


async def _seconds(guard: Guard, sent: bytes | None) -> float:
    """Until a connection that sent no more than this is cut; None: not even the TLS handshake."""
    tls = None if sent is None else guard.tls()
    reader, writer = await asyncio.open_connection("127.0.0.1", guard.port, ssl=tls)
    started = time.perf_counter()
    writer.write(sent or b"")
    with contextlib.suppress(OSError):
        await reader.read()
    writer.transport.abort()
    return time.perf_counter() - started


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
