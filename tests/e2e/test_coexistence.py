"""Beside forklift-api's own webhook on Plans, which replaces what it touches and refuses booleans.

A stand-in does what the real one was seen to do (Forklift: mutators/plan-mutator.go), under the
same configuration name.
"""

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cases import NAMESPACE
from tests.e2e.test_scenarios import GUIDES_PLAN, plan
from tests.e2e.world import Vm, World
from tests.guard import Guard
from webhook import tls
from webhook.cli.demo import merged

pytestmark = pytest.mark.e2e

_POPULATORS = {"populatorLabels": "True"}


class _ForkliftApi(BaseHTTPRequestHandler):
    """Decodes into Go structs, sets a transfer network, and writes /spec and /metadata whole."""

    drops_storage = False

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))["request"]
        response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
        spec, metadata = request["object"]["spec"], request["object"]["metadata"]
        if isinstance(spec.get("targetPowerState"), bool):
            why = "json: cannot unmarshal bool into Go struct field PlanSpec.spec.targetPowerState"
            response |= {"allowed": False, "status": {"code": 400, "message": why}}
        elif request["operation"] == "CREATE":
            spec["transferNetwork"] = {"name": "fast", "namespace": NAMESPACE}
            spec["vms"] = [{**vm, "luks": {}} for vm in spec["vms"]]
            if self.drops_storage:
                spec["map"].pop("storage", None)
            metadata["annotations"] = metadata.get("annotations", {}) | _POPULATORS
            patch = [
                {"op": "replace", "path": "/spec", "value": spec},
                {"op": "replace", "path": "/metadata", "value": metadata},
            ]
            encoded = base64.b64encode(json.dumps(patch).encode()).decode()
            response |= {"patchType": "JSONPatch", "patch": encoded}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        body = json.dumps(review | {"response": response}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def forklift_api(
    world: World, folder: Path, name: str = "forklift-api-plans", *, drops_storage: bool = False
) -> Iterator[None]:
    folder.mkdir()
    tls.write(tls.issue(["127.0.0.1"], datetime.now(UTC)), folder)
    handler = type("Handler", (_ForkliftApi,), {"drops_storage": drops_storage})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever).start()
        ca = base64.b64encode((folder / "ca.crt").read_bytes()).decode()
        rule = {
            "apiGroups": ["forklift.konveyor.io"],
            "apiVersions": ["v1beta1"],
            "resources": ["plans"],
            "operations": ["CREATE", "UPDATE"],
        }
        webhook = {
            "name": "plans.forklift.konveyor.io",
            "clientConfig": {"url": f"https://127.0.0.1:{server.server_port}/", "caBundle": ca},
            "rules": [rule],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        config = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [webhook],
        }
        world.bed.kubectl("apply", "-f", "-", stdin=json.dumps(config), check=True)
        try:
            yield
        finally:
            world.bed.kubectl("delete", "mutatingwebhookconfiguration", name, check=True)
            server.shutdown()


@pytest.fixture(scope="module")
def guard(world: World) -> Iterator[Guard]:
    with world.guarded(trustNetwork=True) as guard:
        yield guard


@pytest.fixture(scope="module")
def vm(world: World, guard: Guard) -> Vm:
    return world.vm("DC0_H0_VM0")


def made(world: World, obj: dict[str, Any]) -> dict[str, Any]:
    """The Plan as it would be stored, once the API server has heard of the stand-in."""
    done = world.create(obj, dry_run=True)
    assert done.returncode == 0, done.stderr
    created: dict[str, Any] = json.loads(done.stdout)
    return created


def guides_plan(vm: Vm, name: str) -> dict[str, Any]:
    """As printed, its power state a boolean, and without the storage map that the CRD demands."""
    obj = merged(plan(GUIDES_PLAN, vm, vm), {"metadata": {"name": name}})
    obj["spec"]["vms"] = obj["spec"]["vms"][:1]
    del obj["spec"]["map"]["storage"]
    assert obj["spec"]["targetPowerState"] is True
    return obj


def test_each_does_its_part(world: World, vm: Vm, tmp_path: Path) -> None:
    with forklift_api(world, tmp_path / "api"):
        stored = made(world, guides_plan(vm, "beside"))
        while "transferNetwork" not in stored["spec"]:  # until the API server knows of it
            stored = made(world, guides_plan(vm, "beside"))
    assert stored["metadata"]["annotations"] == _POPULATORS
    assert stored["spec"]["targetPowerState"] == "on"
    assert stored["spec"]["map"]["storage"] == {}
    assert stored["spec"]["vms"][0]["luks"] == {}


def test_what_it_drops_is_filled_in_again(world: World, vm: Vm, tmp_path: Path) -> None:
    with forklift_api(world, tmp_path / "api", drops_storage=True):
        stored = made(world, guides_plan(vm, "dropped"))
        while "transferNetwork" not in stored["spec"]:
            stored = made(world, guides_plan(vm, "dropped"))
    assert stored["spec"]["map"]["storage"] == {}


def test_the_order_of_the_names_is_what_makes_it_work(world: World, vm: Vm, tmp_path: Path) -> None:
    """Called first, it refuses what would have been repaired."""
    with forklift_api(world, tmp_path / "api", "a-forklift-api-plans"):
        done = world.create(guides_plan(vm, "first"), dry_run=True)
        while done.returncode == 0:
            done = world.create(guides_plan(vm, "first"), dry_run=True)
    assert "cannot unmarshal bool" in done.stderr
