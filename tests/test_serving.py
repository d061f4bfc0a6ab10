"""How the server treats slow clients, and how it ends: over real sockets."""

import asyncio
import http.client
import json
import logging
import resource
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import uvloop

from tests.cases import BASE, review_of
from tests.e2e.bed import Vcsim, eventually
from tests.guard import Guard, running
from webhook.server.connection import HEADERS_BYTES, KEEP_ALIVE
from webhook.server.https import unless_cut

_PATIENCE = 60
"""Seconds to wait for an end. How soon it comes is told by `make bench-slow`."""
assert KEEP_ALIVE > _PATIENCE, "it is none of an idle connection"


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    with running(tmp_path_factory.mktemp("guard"), {}) as guard:
        yield guard
        assert "Traceback" not in guard.log


def closed(connection: socket.socket) -> bool:
    """False where nothing comes and it stays open, for as long as its time-out."""
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def _asked(connection: ssl.SSLSocket, path: str) -> http.client.HTTPResponse:
    connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /livez HTTP/1.1\r\nx-slow: ",
        b"POST /validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: 100\r\n\r\n{",
    ],
    ids=["headers", "body"],
)
def test_an_unfinished_request_is_closed(guard: Guard, sent: bytes) -> None:
    with guard.connected() as connection:
        connection.sendall(sent)
        assert closed(connection)


@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"GET /livez HTTP/1.1\r\nx-slow: ", b"x"),
        (b"", b"\r\n"),
        (
            b"POST /validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"transfer-encoding: chunked\r\n\r\n",
            b"1\r\n \r\n",
        ),
        (b"POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n", b" "),
    ],
    ids=["headers", "empty-lines", "body", "body-nobody-reads"],
)
def test_a_drop_now_and_then_buys_no_time(guard: Guard, begin: bytes, drop: bytes) -> None:
    with guard.connected() as connection:
        connection.sendall(begin)
        connection.settimeout(0.25)  # between two drops

        def ended() -> bool:
            with suppress(OSError):
                connection.sendall(drop)
            return closed(connection)

        eventually(ended, "it is closed", _PATIENCE)


def test_a_client_that_never_speaks_tls_is_closed(guard: Guard) -> None:
    with socket.create_connection(("127.0.0.1", guard.port), _PATIENCE) as plain:
        assert closed(plain)


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"], ids=["endless", "whole"])
def test_headers_over_the_limit_are_refused(guard: Guard, end: bytes) -> None:
    with guard.connected() as connection:
        filler = b"x" * (HEADERS_BYTES + 1)
        connection.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\nx-filler: " + filler + end)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 400
        assert answer.headers["connection"] == "close"


def test_64_mib_of_headers_take_no_memory(guard: Guard) -> None:
    before = guard.peak_memory()
    with guard.connected() as connection, suppress(OSError):  # it may be reset while it sends
        connection.sendall(b"GET /livez HTTP/1.1\r\n")
        for number in range(1024):
            connection.sendall(b"x-%d: " % number + b"x" * 2**16 + b"\r\n")
    assert guard.peak_memory() - before < 16 * 2**20


def test_reviews_go_on_beside_200_slow_clients_and_1000_idle_ones(guard: Guard) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(guard.connected())
        for number in range(200):
            slow = stack.enter_context(guard.connected())
            slow.sendall(b"POST /validate HTTP/1.1\r\n" + b"x-slow: " * (number % 2))
        with guard.client() as client:
            for number in range(100):
                review = review_of(BASE["PersistentVolumeClaim"], uid=f"u-{number}")
                answer = client.post("/validate", json=review)
                assert answer.json()["response"]["uid"] == f"u-{number}"
    with guard.client() as client:
        assert client.get("/livez").status_code == 200


def test_headers_below_the_limit_and_many_requests_on_one_connection_pass(guard: Guard) -> None:
    with guard.connected() as connection:
        for _ in range(3):
            filler = b"x" * (HEADERS_BYTES - 1024)
            connection.sendall(
                b"GET /livez HTTP/1.1\r\nhost: x\r\nx-filler: " + filler + b"\r\n\r\n"
            )
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert (answer.status, answer.read()) == (200, b"ok\n")


def test_after_sigterm_it_is_not_ready_serves_on_and_closes_each_connection(tmp_path: Path) -> None:
    with running(tmp_path, {"shutdownDelay": "1h"}) as guard, guard.connected() as before:
        assert _asked(before, "/readyz").status == 200
        guard.process.send_signal(signal.SIGTERM)
        eventually(lambda: _asked_anew(guard) == 503, "it is not ready")
        with guard.connected() as connection:
            assert _asked(connection, "/readyz").headers["connection"] == "close"
        answer = _asked(before, "/livez")
        assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_after_its_delay_it_ends_by_itself(tmp_path: Path) -> None:
    with running(tmp_path, {"shutdownDelay": "1s"}) as guard:
        assert _asked_anew(guard) == 200
        guard.process.send_signal(signal.SIGTERM)
        assert guard.process.wait(60) == 0
        assert guard.told("serving for 1 s more")


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path, {"shutdownDelay": "1h"}) as guard, guard.connected() as connection:
        assert _asked(connection, "/livez").status == 200
        guard.process.send_signal(signal.SIGTERM)
        while _asked_anew(guard) != 503:
            assert guard.process.poll() is None
        guard.process.send_signal(signal.SIGTERM)
        assert guard.process.wait(60) == 0


def _asked_anew(guard: Guard) -> int:
    with guard.connected() as connection:
        return _asked(connection, "/readyz").status


def test_what_runs_is_finished(tmp_path: Path) -> None:
    body = json.dumps(review_of(BASE["PersistentVolumeClaim"])).encode()
    head = (
        b"POST /validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(body)
    )
    with running(tmp_path, {}) as guard, guard.connected() as connection:
        connection.sendall(head + body[:100])
        assert _asked_anew(guard) == 200, "the half is there before the signal"
        guard.process.send_signal(signal.SIGTERM)
        eventually(lambda: _refuses(guard.port), "it takes no more connections")
        connection.sendall(body[100:])
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert json.loads(answer.read())["response"]["uid"] == "u-1"
        assert answer.headers["connection"] == "close"
        assert guard.process.wait(60) == 0


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 60).close()
    except OSError:
        return True
    return False


@pytest.mark.simulator
@pytest.mark.parametrize("signals", [1, 2])
def test_it_has_logged_out_when_it_ends(vcsim: Vcsim, tmp_path: Path, signals: int) -> None:
    (tmp_path / "password").write_text(vcsim.password)
    provider = {
        "namespace": "mtv",
        "name": "prod",
        "url": vcsim.url,
        "user": vcsim.user,
        "passwordFile": str(tmp_path / "password"),
        "caFile": str(vcsim.ca_file),
    }
    delay = "1h" if signals == 2 else "0s"
    settings = {"providers": [provider], "deniedNetworks": [], "shutdownDelay": delay}
    with vcsim.connect() as instance, running(tmp_path, settings) as guard:

        def sessions() -> int:
            return len(instance.RetrieveContent().sessionManager.sessionList)

        eventually(lambda: _asked_anew(guard) == 200, "it is ready")
        assert sessions() == 2
        guard.process.send_signal(signal.SIGTERM)
        if signals == 2:
            eventually(lambda: _asked_anew(guard) == 503, "it drains")
            guard.process.send_signal(signal.SIGTERM)
        assert guard.process.wait(60) == 0
        assert sessions() == 1


def test_a_connection_that_its_client_has_cut_is_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def cut() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(unless_cut)
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
        transport.abort()
        loop.call_soon(transport.write, b"goodbye")
        loop.call_soon(int, "a fault")
        await asyncio.sleep(0)
        server.close()

    with caplog.at_level(logging.INFO):
        uvloop.run(cut())
    first, second = caplog.records
    assert (first.name, first.message, first.exc_info) == (
        "webhook",
        "a client has cut its connection",
        None,
    )
    assert second.name == "asyncio"
    assert second.exc_info is not None
