"""Who may send a review where clientCAFile is set, and what is told to whom: real certificates."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.cases import BASE, review_of
from tests.certificates import Authority
from tests.guard import Guard, running
from webhook.cli.demo import merged
from webhook.model.review import parse

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
    vms = [{"moref": moref, **vm} for moref, vm in BASE["vsphere"].items()]
    provider = {"namespace": "openshift-mtv", "name": "vsphere-production", "vms": vms}
    (folder / "snapshot.yaml").write_bytes(msgspec.yaml.encode({"providers": [provider]}))
    return {"snapshots": [str(folder / "snapshot.yaml")]}


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
    assert not parse(body).user.proven
    assert parse(body, proven=True).user.proven
