"""How much clients can make the server hold: bodies, connections, threads. Over real sockets."""

import asyncio
import json
import resource
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.cases import BASE, review_of
from tests.guard import Guard, running
from tests.test_serving import closed
from webhook.api.callers import Callers
from webhook.cluster import LiveReader
from webhook.model.objects import PROVIDERS, User
from webhook.server.bodies import LARGEST, ROOM
from webhook.server.state import MOST_CONNECTIONS

MOST = 256 * 2**20
"""Bytes: half of what the pod has."""
PVC = BASE["PersistentVolumeClaim"]


@pytest.fixture(scope="module", autouse=True)
def _files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    with running(tmp_path_factory.mktemp("guard"), {}) as guard:
        yield guard
        assert "Traceback" not in guard.log


@contextmanager
def _sending(guard: Guard, clients: int, body: bytes) -> Iterator[list[ssl.SSLSocket]]:
    """So many clients that send a body of LARGEST, or the beginning of one. Each has a thread: it
    waits where the guard doesn't read."""
    head = (
        b"POST /validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % LARGEST
    )

    def send(connection: ssl.SSLSocket) -> None:
        with suppress(OSError):  # it may be refused meanwhile
            connection.sendall(head + body)

    with ExitStack() as stack:
        connections = [stack.enter_context(guard.connected()) for _ in range(clients)]
        threads = [threading.Thread(target=send, args=(one,)) for one in connections]
        for thread in threads:
            thread.start()
        try:
            yield connections
        finally:
            for connection in connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # wakes its thread
            for thread in threads:
                thread.join()


def _status(connection: ssl.SSLSocket) -> bytes:
    return connection.recv(12)


def test_100_clients_that_hold_large_bodies_take_no_more_than_the_room(tmp_path: Path) -> None:
    with running(tmp_path, {}) as guard:
        with _sending(guard, 100, b" " * (LARGEST - 1)) as connections, guard.client() as client:
            for connection in connections[:10]:
                answer = client.post("/validate", json=review_of(PVC))
                assert answer.json()["response"]["uid"] == "u-1", "a small one needs no room"
                with suppress(OSError):  # none that was refused must hear why
                    assert _status(connection) in (b"", b"HTTP/1.1 408", b"HTTP/1.1 503")
        assert guard.peak_memory() < MOST


def test_more_large_reviews_than_there_is_room_for_are_all_answered(tmp_path: Path) -> None:
    clients = 2 * ROOM // LARGEST
    body = json.dumps(review_of(PVC)).encode().ljust(LARGEST)
    with running(tmp_path, {}) as guard:
        with _sending(guard, clients, body) as connections:
            assert [_status(one) for one in connections] == [b"HTTP/1.1 200"] * clients
        assert guard.peak_memory() < MOST


def test_metrics_take_no_thread_for_a_client_and_close_idle_ones(guard: Guard) -> None:
    address = "127.0.0.1", guard.metrics_port
    guard.metrics()
    threads = guard.threads()
    with ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(address, 60)) for _ in range(1000)]
        for half in idle[::2]:
            half.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n")
        for _ in range(3):
            assert "conversion_guard_build_info" in guard.metrics()
        assert guard.threads() == threads
        assert all(map(closed, idle))


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/", 404), ("POST", "/metrics", 405), ("GET", "/metrics", 200)],
)
def test_only_metrics_are_there_to_scrape(guard: Guard, method: str, path: str, code: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{guard.metrics_port}") as client:
        answer = client.request(method, path, headers={"accept": "application/openmetrics-text"})
    assert answer.status_code == code
    if code == 200:
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")


def test_one_connection_too_many_takes_the_place_of_the_longest_silent_one(
    tmp_path: Path,
) -> None:
    with running(tmp_path, {}) as guard, ExitStack() as stack, guard.client() as known:

        def mine() -> object:
            answer = known.get("/livez")
            assert answer.status_code == 200
            return answer.extensions["network_stream"].get_extra_info("client_addr")

        before = mine()
        silent = [stack.enter_context(guard.connected()) for _ in range(3)]
        metrics = "127.0.0.1", guard.metrics_port
        for _ in range(MOST_CONNECTIONS):
            stack.enter_context(socket.create_connection(metrics, 60))
        assert all(map(closed, silent))
        assert mine() == before, "a client that is known goes last"
        with guard.client() as new:
            assert new.get("/livez").status_code == 200


class Unknowing:
    """An API server that knows nobody."""

    async def post(self, path: object, body: object) -> bytes:
        await asyncio.sleep(0)
        return b'{"status": {}}'

    async def user(self, token: str, audience: str) -> User | None:
        await asyncio.sleep(0)
        return User(token)


async def _accesses(numbers: range, reader: LiveReader) -> None:
    for number in numbers:
        user = User(f"system:serviceaccount:team-{number}:vendor", groups=("system:authenticated",))
        await reader.may(user, "get", PROVIDERS, "openshift-mtv", "vsphere-production")


async def _tokens(numbers: range, callers: Callers) -> None:
    for number in numbers:
        caller = await callers.of(b"Bearer token-%d" % number, f"address-{number}")
        callers.admit(caller)


def _reader() -> LiveReader:
    reader = LiveReader()
    reader.cluster = Unknowing()  # type: ignore[assignment]
    return reader


@pytest.mark.parametrize("by", ["rights", "tokens"])
def test_ever_new_callers_take_no_more_memory_in_the_long_run(by: str) -> None:
    reader, callers = _reader(), Callers(Unknowing(), "guard", 1e6)

    async def ask(numbers: range) -> int:
        if by == "rights":
            await _accesses(numbers, reader)
        else:
            await _tokens(numbers, callers)
        return tracemalloc.get_traced_memory()[0]

    async def grown() -> int:
        before = await ask(range(4_000))
        return await ask(range(4_000, 12_000)) - before

    tracemalloc.start()
    try:
        assert asyncio.run(grown()) < 2**20 * 2
    finally:
        tracemalloc.stop()
