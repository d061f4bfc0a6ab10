"""The vendors' REST API, over HTTPS: who may call, what is told, and what a bad request gets."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from tests.cases import BASE, NAMESPACE, READY_PLAN, VSPHERE, Case, all_cases
from tests.e2e.bed import eventually
from tests.guard import Guard, running
from tests.stand_in import StandIn, standing_in
from webhook.api.answers import Search, page
from webhook.api.callers import TOKEN_SECONDS, Callers
from webhook.api.problems import Problem
from webhook.api.routes import BODY_LIMIT, OBJECTS
from webhook.cli.demo import merged
from webhook.engine.check import check
from webhook.engine.readiness import readiness
from webhook.engine.results import Candidate
from webhook.inventory.index import Index
from webhook.inventory.provider import ProviderInventory
from webhook.model.keys import DISK_SOURCE, VM_ID, VM_UUID
from webhook.model.objects import Provider, User
from webhook.model.vms import VirtualMachine
from webhook.rules import DEFAULTS, RULES

SNAPSHOT = Path(__file__).parents[1] / "webhook/cli/demo/inventory.yaml"
PROVIDERS = "/api/v1/providers"
VMS = f"{PROVIDERS}/{NAMESPACE}/{VSPHERE}/vms"
CHECK = "/api/v1/check"
GET = "get providers.forklift.konveyor.io openshift-mtv"
RIGHTS = {
    "all": ["*"],
    "nobody": [],
    "vendor": [f"{GET} {VSPHERE}", "create persistentvolumeclaims vms "],
    "planner": ["get plans.forklift.konveyor.io * *"],
}


@dataclass
class Api:
    """A guard with its API, and the API server that it asks."""

    guard: Guard
    cluster: StandIn

    def __post_init__(self) -> None:
        self.cluster.rights = dict(RIGHTS)

    def client(self, user: str = "all") -> httpx.Client:
        return httpx.Client(
            base_url=self.guard.api_url,
            verify=self.guard.tls(),
            headers={"Authorization": f"Bearer token-{user}"} if user else {},
            timeout=30,
        )

    def get(self, path: str, user: str = "all", code: int = 200, **query: Any) -> Any:
        with self.client(user) as client:
            return _answer(client.get(path, params=query), code)

    def post(
        self, path: str, body: object, user: str = "all", code: int = 200, **query: Any
    ) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        with self.client(user) as client:
            headers = {"content-type": "application/json"}
            done = client.post(path, content=content, headers=headers, params=query)
            return _answer(done, code)


def _answer(done: httpx.Response, code: int) -> Any:
    assert done.status_code == code, done.text
    answer = done.json()
    if code >= 400:
        assert done.headers["content-type"] == "application/problem+json"
        assert (answer["status"], answer["type"]) == (code, "about:blank")
        assert answer["requestId"] == done.headers["x-request-id"]
        assert answer["title"]
        assert answer["detail"]
    return answer


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Api]:
    with standing_in(folder) as cluster:
        everything = {
            "snapshots": [str(SNAPSHOT)],
            "audit": {"enabled": False},
            "kubeconfig": str(cluster.kubeconfig),
            "api": {"enabled": True, "listen": "127.0.0.1:0", "ratePerUser": 1e6, **settings},
        }
        with running(folder, everything) as guard:
            yield Api(guard, cluster)
            assert guard.process.poll() is None, "the process must live on, whatever it was sent"
            assert "Traceback" not in guard.log, guard.log
            assert "token-" not in guard.log, "no token is ever written"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serving(tmp_path_factory.mktemp("api")) as api:
        yield api


# Who calls.


@pytest.mark.parametrize(
    "path", [PROVIDERS, "/api/v1/rules", "/api/v1/openapi.json", "/board", "/x"]
)
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Basic dXNlcjp4", "Bearer nonsense", "Bearer a b", "Bearer é"],
)
def test_without_a_good_token_there_is_nothing(
    api: Api, path: str, authorization: str | None
) -> None:
    value = (authorization or "").encode("latin-1")
    headers = {} if authorization is None else {b"Authorization": value}
    with api.client("") as client:
        done = client.get(path, headers=headers)
    _answer(done, 401)
    assert done.headers["www-authenticate"].startswith('Bearer realm="conversion-guard"')


def test_a_token_of_another_audience_is_none(api: Api) -> None:
    assert "audience conversion-guard" in api.get(PROVIDERS, "elsewhere", 401)["detail"]


def test_a_token_is_reviewed_once_in_ten_seconds(api: Api) -> None:
    def reviews() -> int:
        return sum(line.endswith("/tokenreviews") for line in api.cluster.asked)

    before = reviews()
    for _ in range(3):
        api.get("/api/v1/rules", "somebody-new")
    assert reviews() == before + 1


def test_neither_listener_serves_what_the_other_does(api: Api) -> None:
    api.post("/validate", {}, code=404)
    with api.guard.client() as client:
        assert client.get(PROVIDERS).status_code == 404


def test_an_api_server_that_does_not_answer_is_no_refusal(api: Api) -> None:
    api.cluster.broken = True
    try:
        detail = api.get(PROVIDERS, "yet-another", 503)["detail"]
        assert "the cluster can't answer" in detail
    finally:
        api.cluster.broken = False
    api.get(PROVIDERS, "yet-another")


def test_without_a_cluster_it_does_not_start(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("api: {enabled: true}\ntls: {source: files}\n")
    done = subprocess.run(
        [sys.executable, "-m", "webhook", "serve", "--settings", settings],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "api.enabled: only the API server of a cluster can check a token" in done.stderr


# What is told.


def test_only_providers_that_one_may_get_are_listed(api: Api) -> None:
    known = api.get(PROVIDERS)["providers"]
    assert [(one["name"], one["type"], one["state"], one["vms"]) for one in known] == [
        ("openstack-lab", "openstack", None, 0),
        (VSPHERE, "vsphere", "known", 4),
    ]
    assert [one["name"] for one in api.get(PROVIDERS, "vendor")["providers"]] == [VSPHERE]
    assert api.get(PROVIDERS, "nobody") == {"providers": []}


@pytest.mark.parametrize("provider", [VSPHERE, "no-such-thing"])
@pytest.mark.parametrize("rest", ["vms", "vms/vm-178/disks"])
def test_a_provider_is_there_only_for_those_who_may_get_it(
    api: Api, provider: str, rest: str
) -> None:
    answer = api.get(f"{PROVIDERS}/{NAMESPACE}/{provider}/{rest}", "nobody", 403)
    right = {
        "verb": "get",
        "resource": "providers.forklift.konveyor.io",
        "namespace": NAMESPACE,
        "name": provider,
    }
    assert answer["missing"] == [right]
    named = f"get providers.forklift.konveyor.io {provider} in namespace {NAMESPACE}"
    assert answer["detail"] == f"nobody may not: {named}"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (
            f"{PROVIDERS}/{NAMESPACE}/no-such-thing/vms",
            "Provider openshift-mtv/no-such-thing is not known",
        ),
        (f"{PROVIDERS}/{NAMESPACE}/openstack-lab/vms", "is of type openstack"),
        (f"{VMS}/vm-999/disks", 'provider openshift-mtv/vsphere-production has no VM "vm-999"'),
        ("/api/v1/plans/a/b/readiness", "there is no Plan a/b"),
        ("/api/v1/nothing", "/api/v1/openapi.json"),
        (f"{PROVIDERS}/", "/api/v1/openapi.json"),
        (f"{VMS}/..%2f..%2fx/disks", "/api/v1/openapi.json"),
    ],
)
def test_what_is_not_there_is_404(api: Api, path: str, says: str) -> None:
    assert says in api.get(path, code=404)["detail"]


def test_vms_come_in_pages(api: Api) -> None:
    seen: list[Any] = []
    more: dict[str, Any] = {}
    while True:
        answer = api.get(VMS, limit=3, **more)
        seen += answer["vms"]
        if "continue" not in answer:
            break
        assert len(answer["vms"]) == 3
        more = {"continue": answer["continue"]}
    assert [vm["moref"] for vm in seen] == ["vm-178", "vm-179", "vm-180", "vm-181"]
    assert seen[0] == {
        "moref": "vm-178",
        "uuid": "42324a11-8a5e-2f0d-6b0c-1f2e3d4c5b6a",
        "instanceUuid": "50324a11-5d13-4f9b-9b46-7c8b9f8e123a",
        "name": "production-database",
        "path": "/DC0/vm/production-database",
        "powerState": "poweredOn",
        "template": False,
        "disks": 2,
        "trouble": None,
    }


@pytest.mark.parametrize(
    ("query", "morefs"),
    [
        ({"contains": "PRODUCTION"}, ["vm-178", "vm-179"]),
        ({"name": "production"}, []),
        ({"name": "production-database"}, ["vm-178"]),
        ({"name": "/DC0/vm/production-database"}, ["vm-178"]),
        ({"name": "vm-178"}, ["vm-178"]),
        ({"uuid": "42324A11-8A5E-2F0D-6B0C-1F2E3D4C5B6A"}, ["vm-178"]),
        ({"uuid": "50324a11-5d13-4f9b-9b46-7c8b9f8e123a"}, ["vm-178"]),
        ({"uuid": "60324a11-5d13-4f9b-9b46-7c8b9f8e123a"}, []),
        ({"diskSource": "[vendor-ds] vendor-migrated-vm-01/disk.vmdk"}, ["vm-180"]),
        ({"diskSource": "[vendor-ds] vendor-migrated-vm-01/disk-000001.vmdk"}, ["vm-180"]),
        ({"diskSource": "disk.vmdk"}, []),
        ({"name": "production-database", "uuid": "60324a11-5d13-4f9b-9b46-7c8b9f8e123a"}, []),
    ],
)
def test_a_vm_is_found_by_what_is_known_of_it(
    api: Api, query: dict[str, Any], morefs: list[str]
) -> None:
    assert [vm["moref"] for vm in api.get(VMS, **query)["vms"]] == morefs


@pytest.mark.parametrize("wrong", ["x", "vm 178", "vm-178", "vm-178.00000000", "."])
def test_a_page_that_no_page_has_told_of_is_400(api: Api, wrong: str) -> None:
    answer = api.get(VMS, code=400, **{"continue": wrong})
    assert [fault["field"] for fault in answer["errors"]] == ["query.continue"]
    assert "begin without it" in answer["detail"]


def test_a_page_of_another_list_is_none_of_this(api: Api) -> None:
    more: dict[str, Any] = {"continue": api.get(VMS, limit=1)["continue"]}
    assert api.get(VMS, limit=2, **more)["vms"]
    api.get(VMS, code=400, contains="production", **more)


def test_a_page_misses_no_vm_while_others_come_and_go() -> None:
    provider = ProviderInventory(Provider("mtv", "prod"))
    provider.vms = Index(VirtualMachine(f"vm-{n}") for n in (2, 10, 9, 100, 11))
    first = page(provider, Search(), 2, "", 0.0)
    assert [vm.moref for vm in first.vms] == ["vm-2", "vm-9"]
    provider.vms.drop("vm-9")
    provider.vms.put(VirtualMachine("vm-3"))
    assert isinstance(first.more, str)
    rest = page(provider, Search(), 9, first.more, 0.0)
    assert [vm.moref for vm in rest.vms] == ["vm-10", "vm-11", "vm-100"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "query.limit"),
        ({"limit": "501"}, "query.limit"),
        ({"limit": "many"}, "query.limit"),
        ({"uuid": "4232f3d0"}, "query.uuid"),
        ({"nmae": "x"}, "query.nmae"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(api: Api, query: dict[str, str], field: str) -> None:
    answer = api.get(VMS, code=422, **query)
    assert [fault["field"] for fault in answer["errors"]] == [field]
    assert field.partition(".")[2] in answer["detail"]


def test_disks_come_with_what_a_pvc_must_say(api: Api) -> None:
    answer = api.get(f"{VMS}/vm-180/disks", "vendor")
    first = answer["disks"][0]
    assert first["diskSource"] == "[vendor-ds] vendor-migrated-vm-01/disk.vmdk"
    assert first["file"] == "[vendor-ds] vendor-migrated-vm-01/disk-000001.vmdk"
    assert (first["capacity"], first["bus"], first["supported"]) == (10737418240, "scsi", True)
    assert answer["vm"]["disks"] == len(answer["disks"]) == 3


def test_manifests_are_right_and_nothing_is_created(api: Api) -> None:
    wanted = {"namespace": "vms", "storageClass": "fast", "name": "{moref}-{index}"}
    made = api.post(f"{VMS}/vm-178/pvcs", wanted, "vendor")
    assert made["leftOut"] == []
    assert [pvc["metadata"]["name"] for pvc in made["pvcs"]] == ["vm-178-0", "vm-178-1"]
    assert made["pvcs"][0]["spec"]["storageClassName"] == "fast"
    extra: dict[str, Any] = {
        "labels": {"app": "web"},
        "annotations": {"conversion-guard.io/not-ready": "copying"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "job", "uid": "u-1"}],
    }
    more = api.post(f"{VMS}/vm-178/pvcs", {**wanted, **extra}, "vendor")["pvcs"][0]["metadata"]
    assert more["ownerReferences"] == extra["ownerReferences"]
    own = made["pvcs"][0]["metadata"]
    assert more["labels"] == {**own["labels"], **extra["labels"]}
    assert more["annotations"] == {**own["annotations"], **extra["annotations"]}
    for field, key in (("labels", "vmID"), ("annotations", "forklift.konveyor.io/disk-source")):
        refused = api.post(f"{VMS}/vm-178/pvcs", {**wanted, field: {key: "x"}}, "vendor", 422)
        assert refused["detail"] == f"{field}: {key} is not yours to choose: leave it out"
    results = api.post(CHECK, made["pvcs"], "vendor")["results"]
    assert [(one["verdict"], one["patch"]) for one in results] == [("admitted", [])] * 2
    posts = {line for line in api.cluster.asked if not line.startswith("GET")}
    assert {line.rpartition("/")[2] for line in posts} == {"tokenreviews", "subjectaccessreviews"}


@pytest.mark.parametrize(
    ("vm", "wanted", "says"),
    [
        ("vm-178", {}, "body: Object missing required field `namespace`"),
        ("vm-178", {"namespace": "Not A Name"}, "body.namespace: "),
        ("vm-178", {"namespace": "vms\n"}, "body.namespace: "),
        (
            "vm-178",
            {"namespace": "vms", "volumeMode": "Blok"},
            "body.volumeMode: 'Blok' is none of",
        ),
        ("vm-178", {"namespace": "vms", "accessModes": ["x"]}, "body.accessModes[0]: 'x' is none"),
        ("vm-178", {"namespace": "vms", "name": "{x}"}, "is not one of {vm}, {moref}, {index}"),
        ("vm-178", {"namespace": "vms", "name": "same"}, "add {index} to it"),
        ("vm-181", {"namespace": "vms"}, "is a template"),
    ],
)
def test_what_cant_be_rendered_is_422(api: Api, vm: str, wanted: Any, says: str) -> None:
    assert says in api.post(f"{VMS}/{vm}/pvcs", wanted, code=422)["detail"]


def test_the_rules_are_all_there(api: Api) -> None:
    answer = api.get("/api/v1/rules", "nobody")
    assert [rule["id"] for rule in answer["rules"]] == [rule.id for rule in RULES]
    assert [default["id"] for default in answer["defaults"]] == [d.id for d in DEFAULTS]
    assert {rule["kind"] for rule in answer["rules"]} == {
        "PersistentVolumeClaim", "Plan", "Migration", "Conversion",
    }  # fmt: skip
    (vm,) = [rule for rule in answer["rules"] if rule["id"] == "pvc-vm"]
    assert vm["action"] == "deny"
    assert vm["text"].keys() == {"Reads", "Asks", "Accepts", "Denies", "Forklift"}


def test_the_served_openapi_is_the_committed_one(api: Api) -> None:
    committed = json.loads((SNAPSHOT.parents[3] / "docs/openapi.json").read_text())
    assert api.get("/api/v1/openapi.json") == committed
    assert committed["openapi"].startswith("3.1")


# What is judged.


def _pvc(**change: Any) -> dict[str, Any]:
    """A right one of the demo's vCenter."""
    pvc: dict[str, Any] = merged(
        BASE["PersistentVolumeClaim"],
        {
            "metadata": {
                "namespace": "vms",
                "labels": {VM_ID: "vm-179", VM_UUID: "4232f3d0-7c1b-9e55-0a44-5b6c7d8e9f01"},
                "annotations": {DISK_SOURCE: "[vendor-ds] production-webserver/vm-disk-001.vmdk"},
            },
            "spec": {"resources": {"requests": {"storage": "40Gi"}}},
        },
    )
    return merged(pvc, change)


WRONG = _pvc(metadata={"annotations": {DISK_SOURCE: "vm-disk-001.vmdk"}})
PLAN = merged(READY_PLAN, {"spec": {"targetNamespace": "vms"}})


def test_the_answer_is_that_of_the_command(api: Api, tmp_path: Path) -> None:
    objects = [WRONG, _pvc(metadata={"labels": {VM_ID: "vm-99"}}), {"kind": "Pod"}, 7]
    objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}})
    file = tmp_path / "list.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    command = [sys.executable, "-m", "webhook", "check", str(file), "--snapshot", str(SNAPSHOT)]
    done = subprocess.run([*command, "--output", "json"], capture_output=True, check=False)
    expected = json.loads(done.stdout)["results"]
    for result in expected:
        del result["file"], result["line"]
    answers = api.post(CHECK, objects)["results"]
    assert [one["verdict"] for one in answers] == [
        "admitted", "denied", "denied", "denied", "not-checked",
    ]  # fmt: skip
    assert answers[0]["patch"][0]["value"] == "[vendor-ds] production-webserver/vm-disk-001.vmdk"
    for result in (*answers, *expected):  # only in a cluster there are storage classes
        for kind in ("findings", "warnings"):
            result[kind] = [said for said in result[kind] if "storage" not in json.dumps(said)]
    assert answers == expected


def test_one_object_a_list_and_an_array_are_the_same(api: Api) -> None:
    one = api.post(CHECK, WRONG)
    assert one == api.post(CHECK, [WRONG])
    assert one == api.post(CHECK, {"apiVersion": "v1", "kind": "List", "items": [WRONG]})
    as_got = {"apiVersion": "v1", "kind": "PersistentVolumeClaimList", "items": [WRONG]}
    assert one == api.post(CHECK, as_got)
    assert one == api.post(CHECK, {"kind": "List", "items": [as_got]})
    assert api.post(CHECK, []) == {"results": []}


def test_a_check_needs_the_right_to_create(api: Api) -> None:
    api.post(CHECK, [_pvc(), {"apiVersion": "v1", "kind": "Pod"}], "vendor")
    elsewhere = _pvc(metadata={"namespace": "other"})
    answer = api.post(CHECK, [_pvc(), elsewhere, PLAN], "vendor", 403)
    assert answer["missing"] == [
        {
            "verb": "create",
            "resource": "persistentvolumeclaims",
            "namespace": "other",
            "name": "",
        },
        {
            "verb": "create",
            "resource": "plans.forklift.konveyor.io",
            "namespace": PLAN["metadata"]["namespace"],
            "name": "",
        },
    ]
    homeless = _pvc(metadata={"namespace": None})
    assert "in every namespace" in api.post(CHECK, homeless, "vendor", 403)["detail"]
    (result,) = api.post(CHECK, homeless, "vendor", namespace="vms")["results"]
    assert result["verdict"] == "admitted"


@pytest.mark.parametrize("depth", range(4))
def test_no_list_hides_an_object_from_the_rights_or_the_limit(api: Api, depth: int) -> None:
    def sent(count: int) -> Any:
        body: Any = [WRONG] * count
        for _ in range(depth):
            body = {"apiVersion": "v1", "kind": "List", "items": body}
            body = [body]
        return body

    refused = api.post(CHECK, sent(1), "nobody", code=403)
    assert refused["missing"][0]["verb"] == "create"
    assert "split them" in api.post(CHECK, sent(OBJECTS + 1), code=422)["detail"]


def test_what_a_caller_may_not_get_is_not_told(api: Api) -> None:
    """A vmID alone proves nothing: its uuid is told only to who may get the Provider."""
    api.cluster.rights["blind"] = ["create persistentvolumeclaims vms "]
    guess = _pvc(metadata={"labels": {VM_UUID: None}})
    uuid = "4232f3d0-7c1b-9e55-0a44-5b6c7d8e9f01"
    assert uuid not in json.dumps(api.post(CHECK, guess, "blind"))
    (result,) = api.post(CHECK, guess, "vendor")["results"]
    assert (result["verdict"], result["patch"][0]["value"]) == ("admitted", uuid)


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (b"", 400, "empty"),
        (b"{", 400, "not valid JSON"),
        (b'{"a": NaN}', 400, "not valid JSON"),
        (b'"\xff"', 400, "not valid JSON"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b'{"a":' * 100_000, 400, "nested too deeply"),
        (b"7", 422, "send an object, a List or an array"),
        (b"null", 422, "send an object, a List or an array"),
        (json.dumps([{}] * (OBJECTS + 1)).encode(), 422, "split them"),
        (b" " * (BODY_LIMIT + 1), 413, "split it"),
    ],
    ids=["empty", "cut", "nan", "latin", "deep", "deeper", "number", "null", "many", "large"],
)
def test_a_body_that_cant_be_judged_is_refused(api: Api, body: bytes, code: int, says: str) -> None:
    assert says in api.post(CHECK, body, code=code)["detail"]


@pytest.mark.parametrize("depth", [*range(50, 1100, 50), 2000, 5000])
def test_depth_never_is_a_fault_of_the_server(api: Api, depth: int) -> None:
    deep = _pvc(spec={"x": 0})
    body = json.dumps(deep).replace('"x": 0', '"x": ' + "[" * depth + "]" * depth).encode()
    with api.client() as client:
        done = client.post(CHECK, content=body, headers={"content-type": "application/json"})
    assert done.status_code in (200, 400, 422), done.text
    if done.status_code >= 400:
        assert "nested too deeply" in _answer(done, done.status_code)["detail"]


def test_a_lone_surrogate_is_no_fault_of_the_server(api: Api) -> None:
    for body in (b'{"apiVersion": "v1", "kind": "\\ud800"}', b'{"\\udfff": 1}'):
        with api.client() as client:
            done = client.post(CHECK, content=body, headers={"content-type": "application/json"})
        assert done.status_code in (200, 400)


def test_other_content_is_not_taken(api: Api) -> None:
    with api.client() as client:
        for headers in (
            {"content-type": "application/yaml"},
            {"content-type": "application/json", "content-encoding": "gzip"},
            {},
        ):
            _answer(client.post(CHECK, content=b"{}", headers=headers), 415)


def test_a_method_that_is_not_there_names_those_that_are(api: Api) -> None:
    with api.client() as client:
        for method, path, allowed in (
            ("GET", CHECK, "POST"),
            ("DELETE", PROVIDERS, "GET"),
            ("PUT", f"{VMS}/vm-178/pvcs", "POST"),
        ):
            done = client.request(method, path)
            _answer(done, 405)
            assert done.headers["allow"] == allowed


def test_a_request_has_an_id(api: Api) -> None:
    with api.client() as client:
        given = client.get("/api/v1/rules", headers={"X-Request-Id": "pipeline-7"})
        made = client.get("/api/v1/rules", headers={"X-Request-Id": 'evil" id'})
    assert given.headers["x-request-id"] == "pipeline-7"
    assert len(made.headers["x-request-id"]) == 16
    assert given.headers["cache-control"] == "no-store"
    eventually(lambda: "id=pipeline-7 user=all" in api.guard.log, "it is logged")
    assert "evil" not in api.guard.log


def test_requests_are_counted_by_route_and_code(api: Api) -> None:
    api.get(f"{VMS}/vm-178/disks")
    api.get(f"{VMS}/vm-1/disks", code=404)
    route = "/api/v1/providers/{namespace}/{provider}/vms/{moref}/disks"
    metrics = api.guard.metrics()
    for code in (200, 404):
        assert f'conversion_guard_api_requests_total{{code="{code}",route="{route}"}}' in metrics
    assert "vm-178" not in metrics


# How often.


def test_a_user_who_asks_too_often_waits_and_others_do_not(tmp_path: Path) -> None:
    # One request in ten minutes, so that it is no matter how soon one comes after the other.
    with serving(tmp_path, ratePerUser=1 / 600) as api, api.client("eager") as client:
        assert client.get("/api/v1/rules").status_code == 200
        refused = client.get("/api/v1/rules")
        _answer(refused, 429)
        assert 0 < int(refused.headers["retry-after"]) <= 600
        api.post(CHECK, [{}] * 50, "patient")
        with api.client("patient") as other:
            after = other.get("/api/v1/rules")
        assert after.status_code == 429, "each object of a check counts"
        assert int(after.headers["retry-after"]) > 48 * 600


def _guessing(api: Api, guesses: int) -> list[int]:
    """The codes that so many bad tokens get, one after the other."""
    with api.client("") as client:
        headers = [{"Authorization": f"Bearer guess-{uuid4()}"} for _ in range(guesses)]
        return [client.get(PROVIDERS, headers=one).status_code for one in headers]


def _token_reviews(api: Api) -> int:
    return sum(line.endswith("/tokenreviews") for line in api.cluster.asked)


def test_bad_tokens_soon_cost_the_api_server_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as api, ThreadPoolExecutor(40) as strangers:
        codes = [code for some in strangers.map(partial(_guessing, api), [2] * 40) for code in some]
        assert set(codes) == {401, 429}
        assert _token_reviews(api) < 60
        eventually(lambda: api.get(PROVIDERS), "a good one is heard again")


def test_one_strangers_tokens_lock_out_nobody_behind_the_same_address(tmp_path: Path) -> None:
    with serving(tmp_path) as api, ThreadPoolExecutor(1) as stranger:
        guesses = stranger.submit(_guessing, api, 40)
        eventually(lambda: _token_reviews(api) > 5, "all that is at once has been used up")
        for number in range(5):
            api.get("/api/v1/rules", f"new-{number}")
        assert not guesses.done()
        assert set(guesses.result()) == {401}


def test_a_token_that_was_good_waits_for_no_stranger() -> None:
    now = 0.0
    asked: list[str] = []

    class Reader:
        async def user(self, token: str, audience: str) -> User | None:
            asked.append(token)
            return None if token.startswith("guess") else User(token)

    async def told() -> None:
        nonlocal now
        callers = Callers(Reader(), "guard", 1e6, lambda: now)

        async def code(token: str) -> object:
            try:
                return (await callers.of(f"Bearer {token}".encode(), "10.0.0.1")).username
            except Problem as problem:
                return problem.status

        assert await code("good") == "good"
        now += 1e-9 + TOKEN_SECONDS  # so it is asked for once more
        *strangers, good = await asyncio.gather(
            *(code(f"guess-{number}") for number in range(100)), code("good")
        )
        assert good == "good"
        assert set(strangers) == {401, 429}
        assert len(asked) < 20

    asyncio.run(told())


def test_who_asks_too_often_is_named_in_the_log(tmp_path: Path) -> None:
    with serving(tmp_path, ratePerUser=1) as api, api.client("eager") as client:
        while client.get("/api/v1/rules").status_code != 429:
            pass
        eventually(
            lambda: any("user=eager" in line for line in api.guard.told("code=429")),
            "it is told",
        )


def test_a_client_that_goes_away_in_its_body_is_no_fault(api: Api) -> None:
    head = (
        b"POST /api/v1/check HTTP/1.1\r\nhost: x\r\nauthorization: Bearer token-all\r\n"
        b"x-request-id: gone-away\r\n"
        b"content-type: application/json\r\ncontent-length: 1000\r\n\r\n["
    )
    with (
        socket.create_connection(("127.0.0.1", api.guard.api_port), 10) as plain,
        api.guard.tls().wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(head)
        eventually(lambda: api.get(PROVIDERS), "it has come so far")
    eventually(lambda: api.guard.told("id=gone-away"), "it is told")
    assert "Traceback" not in api.guard.log


# Readiness.


def _wanted(case: Case) -> Any:
    """The Plan that a Migration's case is about, where it is a whole Migration of one."""
    there = case.there
    return there.plan if there is not None and case.old is None else None


@pytest.mark.parametrize(
    "case",
    [case for case in all_cases() if case.object["kind"] == "Migration" and _wanted(case)],
    ids=lambda case: case.id,
)
def test_ready_is_what_a_migration_would_be_admitted(case: Case) -> None:
    if case.object["spec"].get("resumeConversion"):
        return
    assert case.there is not None
    case.there.rights = (*case.there.rights, "create migrations")
    sources, plan = case.sources(), _wanted(case)
    place = plan["metadata"]["namespace"], plan["metadata"]["name"]
    user = User("vendor", proven=True)
    answer = asyncio.run(readiness(*place, plan, sources, user))
    named = {"plan": {"namespace": place[0], "name": place[1]}}
    migration = merged(BASE["Migration"], {"spec": named})
    (judged,) = asyncio.run(check([Candidate(migration)], sources, user=user))
    states = {"admitted": ("ready", "not-checked"), "denied": ("not-ready",)}
    assert answer.state in states.get(judged.verdict, ("undecided",)), (answer, judged)
    found = {one.message for vm in answer.vms for one in vm.findings}
    assert {one.message for one in judged.findings} <= found | {o.message for o in answer.findings}


def _bound(pvc: dict[str, Any], **change: Any) -> dict[str, Any]:
    return merged(merged(pvc, {"status": {"phase": "Bound"}}), change)


def test_readiness_tells_each_caller_what_he_may_know(api: Api) -> None:
    plan = merged(
        PLAN, {"spec": {"vms": [{"id": "vm-178"}, {"id": "vm-179"}, {"id": "vm-5", "name": "x"}]}}
    )
    place = f"{plan['metadata']['namespace']}/{plan['metadata']['name']}"
    labels = {VM_ID: "vm-178", VM_UUID: "42324a11-8a5e-2f0d-6b0c-1f2e3d4c5b6a"}
    first = "[vendor-ds] production-database/vm-disk-001.vmdk"

    def of_database(name: str, source: str | None) -> dict[str, Any]:
        meta = {"name": name, "labels": labels, "annotations": {DISK_SOURCE: source}}
        return _pvc(metadata=meta)

    api.cluster.plans = {place: plan}
    api.cluster.pvcs = [
        _bound(
            _pvc(metadata={"name": "web-0"}, spec={"resources": {"requests": {"storage": "40Gi"}}})
        ),
        of_database("db-0", first),
        _bound(of_database("db-1", "[vendor-ds] elsewhere/x.vmdk")),
        _bound(of_database("db-2", None)),
    ]
    path = f"/api/v1/plans/{place}/readiness"
    answer = api.get(path)
    database, web, unknown = answer["vms"]
    assert (answer["ready"], answer["state"]) == (False, "not-ready")
    assert (web["ready"], web["findings"]) == (True, [])
    assert web["matched"][0]["pvc"] == "web-0"
    assert database["matched"] == [{"diskSource": first, "pvc": "db-0"}]
    assert [one["diskSource"] for one in database["missing"]] == [
        "[vendor-ds] production-database/vm-disk-002.vmdk"
    ]
    assert database["wrong"] == [{"diskSource": "[vendor-ds] elsewhere/x.vmdk", "pvc": "db-1"}]
    assert database["surplus"] == [{"pvc": "db-2"}]
    assert database["unbound"] == [{"diskSource": first, "pvc": "db-0"}]
    assert "is not one VM of provider" in unknown["findings"][0]["message"]
    assert {one["field"] for one in database["findings"]} == {"spec.vms[0]"}
    told = json.dumps(api.get(path, "planner"))
    for secret in ("db-0", "web-0", "production-", ".vmdk", "42324a11"):
        assert secret not in told
    assert api.get(path, "planner")["vms"][0]["wrong"] == [{}], "one, and no more"
    assert api.get(path, "vendor", 403)["missing"][0]["resource"] == "plans.forklift.konveyor.io"
    api.cluster.plans = {place: merged(plan, {"spec": {"type": "warm"}})}
    assert api.get(path)["state"] == "not-checked"
    api.cluster.plans = {place: merged(plan, {"spec": {"vms": "none"}})}
    assert api.get(path)["findings"][0]["field"] == "spec.vms"


def test_the_encoded_answer_is_that_of_check() -> None:
    """One JSON wherever it is asked for: nothing is added or renamed on its way."""
    (result,) = asyncio.run(check([Candidate(WRONG)], all_cases()[0].sources()))
    keys = {"apiVersion", "kind", "namespace", "name", "verdict", "message", "findings"}
    keys |= {"warnings", "notes", "patch", "patched"}
    assert msgspec.to_builtins(result).keys() == keys
