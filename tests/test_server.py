"""The server over a real socket: sizes, shapes, deadlines, and the life of the process."""

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cases import BASE, base_settings, review_of
from tests.e2e.bed import eventually
from tests.guard import Guard, running
from webhook.cli.demo import merged
from webhook.server.bodies import LARGEST

PVC: dict[str, Any] = BASE["PersistentVolumeClaim"]
PLAN: dict[str, Any] = BASE["Plan"]


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    folder = tmp_path_factory.mktemp("guard")
    with running(folder, {**base_settings(folder), "trustNetwork": True}) as guard:
        yield guard
        assert guard.process.poll() is None, "the process must live on, whatever it was sent"
        assert "Traceback" not in guard.log


def _post(guard: Guard, path: str, body: object, **headers: str) -> tuple[int, dict[str, Any]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with guard.client() as client:
        answer = client.post(
            path, content=content, headers={"content-type": "application/json", **headers}
        )
    return answer.status_code, answer.json()


@pytest.mark.parametrize("path", ["/validate", "/mutate"])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"not json", "not an AdmissionReview"),
        (b"[1, 2]", "not an AdmissionReview"),
        (b"{}", "no request"),
        (b'{"request": null}', "no request"),
        (b"[" * 100_000, "not an AdmissionReview"),
        (
            b'{"apiVersion": "admission.k8s.io/v1", "kind": "Pod", "request": {}}',
            "not an AdmissionReview",
        ),
    ],
    ids=["empty", "text", "list", "object", "null-request", "deep", "no-uid"],
)
def test_a_body_without_a_uid_gets_an_http_error_that_says_what_to_send(
    guard: Guard, path: str, body: bytes, says: str
) -> None:
    code, answer = _post(guard, path, body)
    assert code == 400
    assert answer["kind"] == "Status"
    assert answer["reason"] == "BadRequest"
    assert says in answer["message"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"apiVersion": "admission.k8s.io/v1beta1"}, "send admission.k8s.io/v1 AdmissionReview"),
        ({"request": {"object": {"kind": "Pod"}}}, "request.object is"),
        ({"request": {"object": None}}, "request.object is missing"),
        ({"request": {"object": {"metadata": "x"}}}, "metadata"),
        ({"request": {"object": {"metadata": {"labels": [1]}}}}, "metadata.labels"),
        ({"request": {"resource": {"resource": "pods"}}}, "request.resource"),
        ({"request": {"resource": None}}, "resource"),
        ({"request": {"operation": "UPDATE"}}, "request.oldObject is missing"),
        ({"request": {"operation": 7}}, "operation"),
    ],
    ids=str,
)
def test_a_review_that_cannot_be_judged_is_refused_with_its_uid_and_never_by_mutate(
    guard: Guard, change: dict[str, Any], says: str
) -> None:
    review = merged(review_of(PVC, uid="u-7"), change)
    if change == {"request": {"object": None}}:
        review["request"]["object"] = None
    code, answer = _post(guard, "/validate", review)
    assert code == 200
    response = answer["response"]
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert response["uid"] == "u-7"
    assert response["allowed"] is False
    assert response["status"]["code"] == 400
    assert says in response["status"]["message"]
    code, answer = _post(guard, "/mutate", review)
    assert code == 200
    assert answer["response"] == {"uid": "u-7", "allowed": True}


@pytest.mark.parametrize(
    ("obj", "field"),
    [
        (merged(PLAN, {"spec": {"vms": "x"}}), "spec.vms"),
        (merged(PLAN, {"spec": {"vms": [7]}}), "spec.vms[0]"),
        (merged(PLAN, {"spec": {"vms": [{"id": 7}]}}), "spec.vms[0].id"),
        (merged(PLAN, {"spec": {"provider": []}}), "spec.provider"),
        (merged(PLAN, {"spec": {"type": True}}), "spec.type"),
        ({**PLAN, "spec": "x"}, "spec"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_plan_of_the_wrong_shape_is_denied_by_field_and_left_alone_by_mutate(
    guard: Guard, obj: dict[str, Any], field: str
) -> None:
    _, answer = _post(guard, "/validate", review_of(obj))
    assert answer["response"]["status"]["code"] == 422
    assert [c["field"] for c in answer["response"]["status"]["details"]["causes"]] == [field]
    _, answer = _post(guard, "/mutate", review_of(obj))
    assert answer["response"]["allowed"] is True
    assert "patch" not in answer["response"]


def test_a_plan_whose_map_is_null_gets_no_patch_that_would_not_apply(guard: Guard) -> None:
    plan = {**PLAN, "spec": {**PLAN["spec"], "map": None}}
    _, answer = _post(guard, "/mutate", review_of(plan))
    assert "patch" not in answer["response"]


@pytest.mark.parametrize("value", [7, True, ["x"], {"a": "b"}])
def test_a_key_that_is_no_string_is_the_api_servers_to_refuse(guard: Guard, value: object) -> None:
    pvc = merged(PVC, {"metadata": {"labels": {"vmID": value}}})
    _, answer = _post(guard, "/validate", review_of(pvc))
    assert answer["response"]["allowed"] is True
    _, answer = _post(guard, "/mutate", review_of(pvc))
    assert answer["response"] == {"uid": "u-1", "allowed": True}


@pytest.mark.parametrize(
    "review",
    [
        review_of(PVC, operation="DELETE") | {},
        review_of(PVC, subResource="status"),
        review_of(PVC, kind={"group": "", "version": "v1", "kind": "Pod"}),
        review_of(PVC, operation="CONNECT"),
    ],
    ids=["delete", "subresource", "other-kind", "connect"],
)
def test_what_nobody_here_judges_is_admitted(guard: Guard, review: dict[str, Any]) -> None:
    if review["request"]["operation"] == "DELETE":
        review["request"].update(object=None, oldObject=PVC)
    code, answer = _post(guard, "/validate", review)
    assert code == 200
    assert answer["response"]["allowed"] is True


def test_the_largest_review_of_the_api_server_passes(guard: Guard) -> None:
    """2.9 MiB of object, twice: what an UPDATE near the API server's own limit carries."""
    padded = merged(PVC, {"metadata": {"annotations": {"filler": "x" * (29 * 2**20 // 10)}}})
    code, answer = _post(
        guard,
        "/validate",
        review_of(padded, merged(padded, {"metadata": {"labels": {"vmID": "vm-1"}}})),
    )
    assert code == 200
    assert answer["response"]["allowed"] is True


def _refused_as_too_large(connection: ssl.SSLSocket) -> bool:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    closes = answer.headers["connection"] == "close"
    return closes and answer.status == 413 and "larger" in json.loads(answer.read())["message"]


def test_a_body_over_the_limit_is_refused_by_its_length_alone(guard: Guard) -> None:
    with guard.connected() as connection:
        connection.sendall(
            b"POST /validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 8388608\r\n\r\n"
        )
        assert _refused_as_too_large(connection)


def test_a_body_without_end_is_refused_at_the_limit_and_takes_no_memory(guard: Guard) -> None:
    before = guard.peak_memory()
    with guard.connected() as connection:
        connection.sendall(
            b"POST /validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for _ in range(1024):
            connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        assert _refused_as_too_large(connection)
    assert guard.peak_memory() - before < 4 * LARGEST  # and 64 MiB were sent


@pytest.mark.parametrize(
    ("method", "headers", "code"),
    [
        ("GET", {}, 405),
        ("PUT", {"content-type": "application/json"}, 405),
        ("POST", {"content-type": "text/plain"}, 415),
        ("POST", {}, 415),
        ("POST", {"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ("POST", {"content-type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_only_a_posted_json_body_is_read(
    guard: Guard, method: str, headers: dict[str, str], code: int
) -> None:
    with guard.client() as client:
        content = json.dumps(review_of(PVC)).encode()
        answer = client.request(method, "/validate", content=content, headers=headers)
    assert answer.status_code == code


def test_unknown_fields_of_newer_api_servers_are_passed_over(guard: Guard) -> None:
    review = review_of(PVC, somethingNew={"a": 1})
    review["request"]["object"] = merged(
        PVC, {"spec": {"newField": [1]}, "status": {"phase": "Bound"}}
    )
    assert _post(guard, "/validate", review)[1]["response"]["allowed"] is True


def test_the_answer_to_one_question_is_always_the_same(guard: Guard) -> None:
    review = review_of(merged(PVC, {"metadata": {"labels": {"vmID": "vm-9"}}}))
    assert _post(guard, "/validate", review) == _post(guard, "/validate", review)


def test_health_and_readiness_tell_nothing_of_the_inventory(guard: Guard) -> None:
    with guard.client() as client:
        for path in ("/livez", "/readyz", "/healthz"):
            answer = client.get(path)
            assert (answer.status_code, answer.text) == (200, "ok\n")
        assert client.get("/nothing").status_code == 404
        assert client.get("/docs").status_code == 404


def test_reviews_are_counted_by_kind_and_verdict(guard: Guard) -> None:
    before = guard.reviews("PersistentVolumeClaim")
    _post(guard, "/validate", review_of(PVC))
    assert guard.reviews("PersistentVolumeClaim") == before + 1


def test_a_denial_is_one_line_in_the_log_without_the_object(guard: Guard) -> None:
    review = review_of(merged(PVC, {"metadata": {"labels": {"vmID": "vm-9"}}}), uid="u-log")
    review["request"]["object"]["metadata"]["annotations"]["secret"] = "canary-5f1e"
    _post(guard, "/validate", review)
    lines = eventually(lambda: guard.told("u-log"), "it is told")
    assert len(lines) == 1
    assert "rules=pvc-vm" in lines[0]
    assert "canary-5f1e" not in guard.log


def test_sigterm_ends_it_with_exit_code_zero_and_frees_the_port(tmp_path: Path) -> None:
    with running(tmp_path, {}) as guard:
        with guard.client() as client:
            assert client.get("/livez").status_code == 200
        assert guard.stop() == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", guard.port), 60)


def test_without_any_provider_a_claim_to_a_disk_is_undecided_and_says_what_to_do(
    tmp_path: Path,
) -> None:
    with running(tmp_path, {}) as guard:
        _, answer = _post(guard, "/validate", review_of(PVC))
    status = answer["response"]["status"]
    assert (status["code"], status["reason"]) == (503, "ServiceUnavailable")
    assert "no vSphere provider is known" in status["message"]


def test_undecided_can_be_made_a_warning(tmp_path: Path) -> None:
    with running(tmp_path, {"undecided": "warn"}) as guard:
        _, answer = _post(guard, "/validate", review_of(PVC))
    assert answer["response"]["allowed"] is True
    assert "not checked" in answer["response"]["warnings"][0]
