"""A review is answered alike however it comes: whole, in pieces, with others. Over real sockets."""

import json
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cases import BASE, base_settings, review_of
from tests.guard import Guard, running
from tests.test_serving import closed
from webhook.cli.demo import merged
from webhook.server.bodies import SMALL
from webhook.server.connection import HEADERS_SECONDS
from webhook.server.heads import Heads

PVC = BASE["PersistentVolumeClaim"]
WRONG = merged(PVC, {"metadata": {"labels": {"vmID": "vm-9"}}})


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    folder = tmp_path_factory.mktemp("guard")
    with running(folder, base_settings(folder)) as guard:
        yield guard
        assert "Traceback" not in guard.log


def _post(obj: Any, uid: str, *headers: str, version: str = "1.1", more: int = 0) -> bytes:
    body = json.dumps(review_of(obj, uid=uid)).encode() + b" " * more
    length = f"content-length: {len(body)}"
    begin = [f"POST /validate HTTP/{version}", "host: x", "content-type: application/json", length]
    return "\r\n".join([*begin, *headers, "", ""]).encode() + body


def _answers(connection: ssl.SSLSocket, count: int) -> list[tuple[str, bool]]:
    """The uid of each, and whether it is allowed."""
    found = []
    with connection.makefile("rb") as file:
        for _ in range(count):
            length = 0
            while line := file.readline().strip():
                name, _, value = line.partition(b": ")
                length = int(value) if name == b"content-length" else length
            response = json.loads(file.read(length))["response"]
            found.append((response["uid"], response["allowed"]))
    return found


def test_many_in_one_go_are_answered_in_their_order(guard: Guard) -> None:
    """Also those behind one that waits for vSphere."""
    with guard.connected() as connection:
        sent = [(f"u-{number}", number % 3 != 1) for number in range(9)]
        posts = (_post(PVC if right else WRONG, uid) for uid, right in sent)
        connection.sendall(b"".join(posts))
        assert _answers(connection, len(sent)) == sent


@pytest.mark.parametrize("at", [10, 100, -200, -1], ids=str)
def test_in_two_pieces_it_is_the_same(guard: Guard, at: int) -> None:
    with guard.connected() as connection:
        for number in range(3):
            sent = _post(PVC, f"u-{number}")
            connection.sendall(sent[:at])
            with guard.client() as another:  # answered when the first piece has been read
                assert another.get("/livez").status_code == 200
            connection.sendall(sent[at:])
            assert _answers(connection, 1) == [(f"u-{number}", True)]


@pytest.mark.parametrize("more", [SMALL - 3000, SMALL, 4 * SMALL], ids=str)
def test_however_large_it_is(guard: Guard, more: int) -> None:
    with guard.connected() as connection:
        connection.sendall(_post(PVC, "u-1", more=more) + _post(PVC, "u-2"))
        assert _answers(connection, 2) == [("u-1", True), ("u-2", True)]


@pytest.mark.parametrize("obj", [PVC, WRONG], ids=["right", "wrong"])
@pytest.mark.parametrize(("header", "version"), [("connection: close", "1.1"), ("x: y", "1.0")])
def test_a_client_that_wants_no_more_is_closed_after_its_answer(
    guard: Guard, obj: Any, header: str, version: str
) -> None:
    with guard.connected() as connection:
        connection.sendall(_post(obj, "u-1", header, version=version))
        assert _answers(connection, 1) == [("u-1", obj is PVC)]
        assert closed(connection)


def test_a_client_that_waits_for_a_word_gets_it(guard: Guard) -> None:
    with guard.connected() as connection:
        head, _, body = _post(PVC, "u-1", "expect: 100-continue").partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert _answers(connection, 1) == [("u-1", True)]


def test_a_client_that_goes_before_its_answer_harms_nobody(guard: Guard) -> None:
    for _ in range(20):
        with guard.connected() as connection:
            connection.sendall(_post(WRONG, "u-1"))
    with guard.connected() as connection:
        connection.sendall(_post(PVC, "u-2"))
        assert _answers(connection, 1) == [("u-2", True)]


def test_a_head_that_has_come_before_says_nothing_of_the_body(guard: Guard) -> None:
    """The same head, byte for byte: with another body, in pieces, with more behind it."""
    right, wrong = _post(PVC, "u-1"), _post(WRONG, "u-2")
    wrong += b" " * (len(right) - len(wrong))  # blanks are no part of the review
    head = right.partition(b"\r\n\r\n")[0]
    wrong = head + wrong[wrong.index(b"\r\n\r\n") :]
    assert len(right) == len(wrong)
    with guard.connected() as connection:
        for _ in range(2):
            connection.sendall(right)
            assert _answers(connection, 1) == [("u-1", True)]
        connection.sendall(wrong)
        assert _answers(connection, 1) == [("u-2", False)]
        connection.sendall(right + wrong + right)
        assert _answers(connection, 3) == [("u-1", True), ("u-2", False), ("u-1", True)]
        connection.sendall(right[:-9])
        with guard.client() as another:
            assert another.get("/livez").status_code == 200
        connection.sendall(right[-9:] + right)
        assert _answers(connection, 2) == [("u-1", True), ("u-1", True)]


def test_a_request_that_has_begun_goes_on_however_its_rest_looks(guard: Guard) -> None:
    """Its header here is the first line of a request whose head has come before."""
    right = _post(PVC, "u-1")
    with guard.connected() as connection:
        connection.sendall(right)
        assert _answers(connection, 1) == [("u-1", True)]
        connection.sendall(right + b"PUT /validate HTTP/1.1\r\nx: ")
        assert _answers(connection, 1) == [("u-1", True)]
        connection.sendall(right)
        assert connection.recv(64).startswith(b"HTTP/1.1 405 ")


def test_a_blank_line_between_two_requests_ends_nothing(guard: Guard) -> None:
    """It counts as the beginning of a request, whose rest must come within a time."""
    right = _post(PVC, "u-1")
    with guard.connected() as connection:
        for ending in (b"\r\n", b"", b"\n"):
            connection.sendall(right)
            assert _answers(connection, 1) == [("u-1", True)]
            connection.sendall(ending)
        until = time.monotonic() + HEADERS_SECONDS + 1
        while time.monotonic() < until:
            connection.sendall(right)
            assert _answers(connection, 1) == [("u-1", True)]


def test_what_begins_behind_a_whole_request_must_end_in_time(guard: Guard) -> None:
    with guard.connected() as connection:
        connection.sendall(_post(PVC, "u-1") + b"POST /validate HTTP/1.1\r\nx: ")
        assert _answers(connection, 1) == [("u-1", True)]
        assert closed(connection)


BODY = b'{"a": 1}'


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"A\r\n\r\n" + BODY + b"A\r\n\r\n", [(b"content-length", b"8")]),
        (b"A\r\n\r\n", [(b"content-length", b"8")]),
        (b"A\r\n\r\n" + BODY, [(b"content-length", b"08")]),
        (b"A\r\n\r\n" + BODY, [(b"content-length", b"8"), (b"content-length", b"8")]),
        (b"A\r\n\r\n" + BODY, [(b"content-length", b"8"), (b"transfer-encoding", b"identity")]),
        (b"A\r\n\r\n" + BODY, []),
        (b"A" * 4096 + b"\r\n\r\n" + BODY, [(b"content-length", b"8")]),
    ],
    ids=["more behind", "body apart", "odd length", "twice", "framed", "no length", "large"],
)
def test_only_what_is_plain_is_kept(data: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    heads = Heads()
    heads.keep(data, "call", headers, BODY)
    assert heads.find(data[: data.index(b"\r\n\r\n")] + b"\r\n\r\n" + BODY) is None


def test_heads_are_kept_and_forgotten() -> None:
    heads = Heads()
    plain = [(b"content-length", b"8")]
    for number in range(1000):
        heads.keep(b"%d\r\n\r\n" % number + BODY, f"call {number}", plain, BODY)
    assert heads.find(b"0\r\n\r\n" + BODY) is None
    assert heads.find(b"999\r\n\r\n" + BODY[::-1]) == ("call 999", BODY[::-1])
    assert heads.find(b"999\r\n\r\n" + BODY + b" ") is None
    for number in range(255):  # what has been found last is forgotten last
        heads.keep(b"more-%d\r\n\r\n" % number + BODY, "call", plain, BODY)
    assert heads.find(b"999\r\n\r\n" + BODY) is not None
    assert heads.find(BODY) is None
