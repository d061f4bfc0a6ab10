"""Who may send a review where clientCAFile is set, and what is told to whom: real certificates."""

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.cases import BASE, base_settings, review_of
from tests.certificates import Authority
from tests.e2e.bed import eventually
from tests.guard import Guard, running
from webhook import tls
from webhook.cli.demo import merged
from webhook.server.codec import read_review

TLSv1_2, TLSv1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
API_SERVER = "kube-apiserver"
WRONG = merged(
    BASE["PersistentVolumeClaim"],
    {"metadata": {"labels": {"vmUUID": "00000000-0000-4000-8000-000000000000"}}},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def settings(folder: Path) -> dict[str, Any]:
    return base_settings(folder)


@pytest.fixture(scope="module")
def guard(folder: Path, authority: Authority, settings: dict[str, Any]) -> Iterator[Guard]:
    chosen = {"clientCAFile": str(authority.file), "allowedClientNames": [API_SERVER]}
    with running(folder, {**settings, **chosen}) as guard:
        yield guard
        assert "Traceback" not in guard.log


def _send(
    guard: Guard, certificate: Path | None, path: str = "/validate", **request: Any
) -> httpx.Response:
    tls = guard.tls()
    if certificate is not None:
        tls.load_cert_chain(certificate)
    with httpx.Client(base_url=guard.url, verify=tls, timeout=30) as client:
        return client.post(path, json=review_of(WRONG, **request))


@pytest.mark.parametrize("path", ["/validate", "/mutate"])
@pytest.mark.parametrize(
    "names", [(), ("somebody",), (API_SERVER, "somebody")], ids=["none", "other", "two"]
)
def test_only_the_api_server_may_send_a_review(
    guard: Guard, authority: Authority, path: str, names: tuple[str, ...]
) -> None:
    answer = _send(guard, authority.issue(*names) if names else None, path)
    status = answer.json()
    assert (answer.status_code, status["code"], status["reason"]) == (403, 403, "Forbidden")
    assert status["kind"] == "Status"
    there = '"somebody"' if names == ("somebody",) else "missing"
    assert there in status["message"]
    assert _send(guard, authority.issue(API_SERVER), path).status_code == 200


def test_a_certificate_of_another_ca_gets_no_connection(guard: Guard, tmp_path: Path) -> None:
    with pytest.raises((httpx.TransportError, ssl.SSLError)):
        _send(guard, Authority(tmp_path).issue(API_SERVER))


def _accepted(guard: Guard, certificate: Path) -> bool:
    try:
        return _send(guard, certificate).status_code == 200
    except (httpx.TransportError, ssl.SSLError):
        return False


def test_cas_that_change_count_from_the_next_connection_on(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    cas = tmp_path / "cas.crt"
    folders = tmp_path / "old", tmp_path / "new"
    for each in folders:
        each.mkdir()
    old, new = map(Authority, folders)
    certificates = old.issue(API_SERVER), new.issue(API_SERVER)
    cas.write_bytes(old.file.read_bytes())
    chosen = {"clientCAFile": str(cas), "allowedClientNames": [API_SERVER]}
    with running(tmp_path, {**settings, **chosen}) as guard:

        def accepts(*wanted: bool) -> None:
            def both() -> bool:
                return [_accepted(guard, one) for one in certificates] == list(wanted)

            eventually(both, f"accepted are {wanted}")

        accepts(True, False)
        taken_up = guard.tls()
        taken_up.load_cert_chain(certificates[0])
        taken_up.maximum_version = ssl.TLSVersion.TLSv1_2  # 1.3 takes up nothing: see below
        session = _review_over(guard, taken_up, None, 200)
        cas.write_text("no certificate")
        eventually(lambda: "clientCAFile" in guard.log, "it is told")
        accepts(True, False)
        cas.write_bytes(old.file.read_bytes() + new.file.read_bytes())
        accepts(True, True)
        cas.write_bytes(new.file.read_bytes())
        accepts(False, True)
        _review_over(guard, taken_up, session, 403)  # what was accepted then is not now
        assert "Traceback" not in guard.log


def _review_over(
    guard: Guard, tls: ssl.SSLContext, session: ssl.SSLSession | None, code: int
) -> ssl.SSLSession:
    """Send a review over a connection that takes a session up again; return what to take up."""
    body = json.dumps(review_of(WRONG)).encode()
    with (
        socket.create_connection(("127.0.0.1", guard.port), 20) as plain,
        tls.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as secure,
    ):
        assert secure.session_reused is (session is not None)
        secure.sendall(
            b"POST /validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        answer = http.client.HTTPResponse(secure)
        answer.begin()
        assert answer.status == code
        left = secure.session
    assert left is not None
    return left


def test_a_session_is_not_taken_up_again(guard: Guard) -> None:
    tls = guard.tls()
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    with (
        socket.create_connection(("127.0.0.1", guard.port), 20) as plain,
        tls.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        assert secure.recv(100).startswith(b"HTTP/1.1 200")
        assert secure.session is not None
        assert not secure.session.has_ticket  # two of them are the rule


def test_probes_need_no_certificate(guard: Guard) -> None:
    with guard.client() as client:
        for path in ("/livez", "/readyz", "/healthz"):
            assert client.get(path).status_code == 200


def _told(answer: httpx.Response) -> bool:
    """Whether the right uuid is in it, which the wrong object doesn't prove."""
    return BASE["vsphere"]["vm-178"]["uuid"] in answer.text


def test_who_the_api_server_vouches_for_is_believed(
    guard: Guard, authority: Authority, settings: dict[str, Any], tmp_path: Path
) -> None:
    assert _told(_send(guard, authority.issue(API_SERVER)))
    with running(tmp_path, settings) as open_to_all:
        user = {"username": "vendor", "proven": True}
        assert not _told(_send(open_to_all, None, userInfo=user))


def test_nobody_proves_himself_by_saying_so() -> None:
    body = msgspec.json.encode(review_of(WRONG, userInfo={"username": "x", "proven": True}))
    assert not read_review(body).user.proven
    assert read_review(body, proven=True).user.proven


class _Resuming:
    """A client that takes up its first TLS session again, where that can be done."""

    def __init__(self, guard: Guard, certificate: Path, version: ssl.TLSVersion) -> None:
        self._port, self._tls = guard.port, guard.tls()
        self._tls.load_cert_chain(certificate)
        self._tls.minimum_version = self._tls.maximum_version = version
        self._session: ssl.SSLSession | None = None
        assert self._status() == 200

    def served_again(self) -> bool:
        try:
            return self._status() == 200
        except (OSError, http.client.HTTPException):
            return False

    def _status(self) -> int:
        body = msgspec.json.encode(review_of(WRONG))
        head = "POST /validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        with (
            socket.create_connection(("127.0.0.1", self._port), 20) as plain,
            self._tls.wrap_socket(
                plain, server_hostname="localhost", session=self._session
            ) as secure,
        ):
            secure.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            answer = http.client.HTTPResponse(secure)
            answer.begin()
            self._session = secure.session
            return answer.status


def test_a_ca_that_rotates_is_followed_and_the_old_one_is_forgotten(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    before, after = old.issue(API_SERVER), new.issue(API_SERVER)
    file = tmp_path / "mounted.crt"
    file.write_bytes(old.file.read_bytes())
    chosen = {"clientCAFile": str(file), "allowedClientNames": [API_SERVER]}

    with running(tmp_path, {**settings, **chosen}) as guard:

        def served(certificate: Path) -> bool:
            try:
                return _send(guard, certificate).status_code == 200
            except (httpx.TransportError, ssl.SSLError):
                return False

        assert (served(before), served(after)) == (True, False)
        resumed = [_Resuming(guard, before, version) for version in (TLSv1_2, TLSv1_3)]
        file.write_bytes(new.file.read_bytes()[:100])
        eventually(lambda: guard.told("contains no PEM certificate"), "it is told")
        assert (served(before), served(after)) == (True, False), "half a file changes nothing"
        file.write_bytes(old.file.read_bytes() + new.file.read_bytes())
        eventually(lambda: served(after), "both count")
        assert served(before)
        file.write_bytes(new.file.read_bytes())
        eventually(lambda: not served(before), "the old one doesn't")
        assert served(after)
        assert not any(client.served_again() for client in resumed)
        with guard.client() as client:
            assert client.get("/livez").status_code == 200, "probes still need none"
        tls.write(tls.issue(["localhost", "127.0.0.1"], datetime.now(UTC)), tmp_path)
        eventually(lambda: served(after), "a new pair is served beside the new CA")
        assert "Traceback" not in guard.log
