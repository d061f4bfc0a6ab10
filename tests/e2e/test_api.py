"""The REST API as a real API server lets it be called: ServiceAccounts, their tokens and rights.

docs/api.md is followed to the letter; its outputs are held against what comes, and are rewritten by
`pytest --update-fixtures`.
"""

import base64
import json
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cases import NAMESPACE
from tests.command import run
from tests.e2e.bed import GUARD, Bed, eventually
from tests.e2e.parts import Parts
from tests.e2e.world import MANIFESTS, OWN_CRDS, ROOT, TARGET, find_ready
from tests.guard import Guard, running
from webhook.cli.demo import merged
from webhook.manifests import files
from webhook.model.keys import DISK_SOURCE, VM_ID, VM_UUID

pytestmark = pytest.mark.e2e

GUIDE = ROOT / "docs" / "api.md"
SNAPSHOT = ROOT / "webhook/cli/demo/inventory.yaml"
UUID = "4232f3d0-7c1b-9e55-0a44-5b6c7d8e9f01"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Api:
    """The bed, and a guard on the demo's vCenter whose API asks it."""

    bed: Bed
    guard: Guard

    def token(self, account: str, audience: str = "conversion-guard") -> str:
        """A real one of a ServiceAccount of the namespace `vendors`."""
        how = ["-n", "vendors", "--audience", audience]
        return self.bed.kubectl("create", "token", account, *how, check=True).stdout.strip()

    def get(self, path: str, token: str) -> httpx.Response:
        return httpx.get(
            f"{self.guard.api_url}/api/v1{path}",
            headers={"Authorization": f"Bearer {token}"},
            verify=self.guard.tls(),
            timeout=30,
        )

    def make(self, *objects: Any) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.bed.kubectl("apply", "-f", "-", stdin=json.dumps(listed), check=True)


@pytest.fixture(scope="module")
def api(programs: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with Bed(programs=programs) as bed:
        bed.install_crds(OWN_CRDS)
        for namespace in (NAMESPACE, TARGET, "vendors"):
            bed.kubectl("create", "namespace", namespace, check=True)
        for roles in ("base/cluster-role.yaml", "api/cluster-role.yaml"):
            bed.kubectl("apply", "-f", str(MANIFESTS / roles), check=True)
        bed.kubectl("apply", "-k", str(MANIFESTS / "provider-namespace"), check=True)
        settings = {
            "snapshots": [str(SNAPSHOT)],
            "kubeconfig": str(bed.kubeconfig(GUARD)),
            "api": {"enabled": True, "listen": "127.0.0.1:0"},
        }
        with running(tmp_path_factory.mktemp("guard"), settings) as guard:
            with guard.client() as client:
                eventually(lambda: client.get("/readyz").status_code == 200, 60, "a first list")
            api = Api(bed, guard)
            api.make(_plan(), _pvc(), _class(), _webhooks(guard))
            find_ready(bed)
            status = json.dumps({"status": {"phase": "Bound", "capacity": {"storage": "40Gi"}}})
            named = ["pvc", "web-0", "-n", TARGET, "--subresource=status", "--type=merge"]
            bed.kubectl("patch", *named, "-p", status, check=True)
            yield api
            assert "Traceback" not in guard.log, guard.log


def _plan() -> dict[str, Any]:
    source = {"name": "vsphere-production", "namespace": NAMESPACE}
    return {
        "apiVersion": "forklift.konveyor.io/v1beta1",
        "kind": "Plan",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {
            "type": "conversion",
            "targetNamespace": TARGET,
            "provider": {"source": source, "destination": {**source, "name": "host"}},
            "map": {"network": {"name": "networks", "namespace": NAMESPACE}, "storage": {}},
            "vms": [{"id": "vm-179"}, {"id": "vm-178"}],
        },
    }


def _pvc() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "web-0",
            "namespace": TARGET,
            "labels": {VM_ID: "vm-179", VM_UUID: UUID},
            "annotations": {DISK_SOURCE: "[vendor-ds] production-webserver/vm-disk-001.vmdk"},
        },
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "volumeMode": "Block",
            "storageClassName": "fast",
            "resources": {"requests": {"storage": "40Gi"}},
        },
    }


def _class() -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "fast"},
        "provisioner": "vendor.example.com",
    }


def _webhooks(guard: Guard) -> dict[str, Any]:
    """Where callers find the CA; these webhooks are called for nothing."""
    ca = base64.b64encode(guard.ca_file.read_bytes()).decode()
    never = {"apiGroups": ["none"], "apiVersions": ["v1"], "resources": ["none"]}
    hook = {
        "name": "pvc.conversion-guard.io",
        "clientConfig": {"url": guard.url, "caBundle": ca},
        "rules": [{**never, "operations": ["CREATE"]}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "conversion-guard"},
        "webhooks": [hook],
    }


def test_every_command_and_output_of_the_guide(
    api: Api, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    text = GUIDE.read_text()
    blocks = _BLOCK.findall(text)
    script = ["set -euo pipefail"]
    for kind, content in blocks:
        if kind in ("yaml", "python"):
            (tmp_path / content.partition("\n")[0].removeprefix("# ")).write_text(content)
        if kind == "bash":
            script += [content, "printf '\\n%s\\n' ----"]
    service = "https://conversion-guard.conversion-guard.svc:8444"
    done = api.bed.shell("\n".join(script).replace(service, api.guard.api_url), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    outputs = iter(done.stdout.split("\n----\n"))
    told, last = [], ""
    for kind, _ in blocks:
        if kind == "bash":
            last = next(outputs).strip()
        elif kind in ("json", "text"):
            told.append(_shown(kind, last))
    assert len(told) == 8
    if request.config.getoption("--update-fixtures"):
        rest = iter(told)
        GUIDE.write_text(
            _BLOCK.sub(
                lambda m: f"```{m[1]}\n{next(rest)}```" if m[1] in ("json", "text") else m[0], text
            )
        )
        return
    assert [content for kind, content in blocks if kind in ("json", "text")] == told


def _shown(kind: str, output: str) -> str:
    if kind == "json":
        output = json.dumps(json.loads(output), indent=2, ensure_ascii=False)
    return output + "\n"


def _account(name: str, *rights: tuple[str, str, str, str]) -> Iterator[dict[str, Any]]:
    """A ServiceAccount with a Role for each of namespace, group, resource and verb."""
    subject = {"kind": "ServiceAccount", "name": name, "namespace": "vendors"}
    yield {"apiVersion": "v1", "kind": subject["kind"], "metadata": _meta(name, "vendors")}
    for number, (namespace, group, resource, verb) in enumerate(rights):
        role = f"{name}-{number}"
        rbac = "rbac.authorization.k8s.io"
        rule = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
        kind = {"apiVersion": f"{rbac}/v1", "metadata": _meta(role, namespace)}
        yield {**kind, "kind": "Role", "rules": [rule]}
        to = {"apiGroup": rbac, "kind": "Role", "name": role}
        yield {**kind, "kind": "RoleBinding", "roleRef": to, "subjects": [subject]}


def _meta(name: str, namespace: str) -> dict[str, str]:
    return {"name": name, "namespace": namespace}


FORKLIFT = "forklift.konveyor.io"
READINESS = f"/plans/{NAMESPACE}/web/readiness"


def test_a_provider_that_one_may_not_get_is_not_there(api: Api) -> None:
    api.make(*_account("stranger"))
    token = api.token("stranger")
    assert api.get("/providers", token).json() == {"providers": []}
    done = api.get(f"/providers/{NAMESPACE}/vsphere-production/vms", token)
    assert done.status_code == 403
    assert "system:serviceaccount:vendors:stranger may not: get providers." in done.text


def test_names_of_pvcs_are_told_to_those_who_may_list_them(api: Api) -> None:
    plans = (NAMESPACE, FORKLIFT, "plans", "get")
    claims = (TARGET, "", "persistentvolumeclaims", "list")
    api.make(*_account("counter", plans), *_account("reader", plans, claims))
    (counted, _) = api.get(READINESS, api.token("counter")).json()["vms"]
    assert counted["ready"]
    assert counted["matched"] == [{}]
    (read, _) = api.get(READINESS, api.token("reader")).json()["vms"]
    assert read["matched"][0]["pvc"] == "web-0"


def test_only_a_token_of_this_audience_is_good(api: Api) -> None:
    api.make(*_account("stranger"))
    for audience in ("https://kubernetes.default.svc", "another"):
        assert api.get("/rules", api.token("stranger", audience)).status_code == 401
    admin = json.loads(api.bed.kubeconfig().read_text())["users"][0]["user"]["token"]
    assert api.get("/rules", admin).status_code == 401, "of no audience, so of none but its own"
    config = httpx.get(
        f"{api.bed.api.url}/api",
        headers={"Authorization": f"Bearer {api.token('stranger')}"},
        verify=ssl.create_default_context(cafile=api.bed.api.ca_file),
        timeout=60,
    )
    assert config.status_code == 401, "and the API's opens nothing else"


def test_a_right_and_a_token_that_are_taken_away_soon_do_not_count(api: Api) -> None:
    api.make(*_account("leaver", (NAMESPACE, FORKLIFT, "providers", "get")))
    token = api.token("leaver")
    assert len(api.get("/providers", token).json()["providers"]) == 2
    api.bed.kubectl("delete", "rolebinding", "leaver-0", "-n", NAMESPACE, check=True)
    eventually(lambda: api.get("/providers", token).json() == {"providers": []}, 60, "no right")
    api.bed.kubectl("delete", "serviceaccount", "leaver", "-n", "vendors", check=True)
    eventually(lambda: api.get("/rules", token).status_code == 401, 60, "no token")


def test_check_server_asks_it(api: Api, tmp_path: Path) -> None:
    right = merged(_pvc(), {"metadata": {"name": "web-1", "namespace": "vendors"}})
    wrong = merged(right, {"metadata": {"name": "web-2", "labels": {VM_UUID: UUID[:-1] + "2"}}})
    file, token = tmp_path / "manifests.yaml", tmp_path / "token"
    file.write_text(files.write([right, wrong]))
    creates = ("vendors", "", "persistentvolumeclaims", "create")
    api.make(*_account("checker", creates, (NAMESPACE, FORKLIFT, "providers", "get")))
    how: list[str | Path] = [
        "--server",
        api.guard.api_url,
        "--ca-file",
        api.guard.ca_file,
        "--token-file",
        token,
    ]
    token.write_text(api.token("checker"))
    done = run("check", file, *how, "--output", "json")
    assert (done.returncode, done.stderr) == (1, "")
    admitted, denied = json.loads(done.stdout)["results"]
    assert (admitted["verdict"], admitted["file"]) == ("admitted", str(file))
    assert (denied["verdict"], denied["findings"][0]["rule"]) == ("denied", "pvc-vm")
    assert denied["line"] > admitted["line"]
    token.write_text(api.token("checker", "another"))
    done = run("check", file, *how)
    assert done.returncode == 2
    assert "audience" in done.stderr
