"""A bed with a guard on the demo's vCenter whose API asks the real API server."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.cases import NAMESPACE
from tests.e2e.bed import GUARD, Bed, eventually
from tests.e2e.parts import Parts
from tests.e2e.world import MANIFESTS, OWN_CRDS, ROOT, TARGET, find_ready
from tests.guard import Guard, running
from webhook.model.keys import DISK_SOURCE, VM_ID, VM_UUID

SNAPSHOT = ROOT / "webhook/cli/demo/inventory.yaml"
FORKLIFT = "forklift.konveyor.io"
UUID = "4232f3d0-7c1b-9e55-0a44-5b6c7d8e9f01"


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


@contextmanager
def serving(programs: Parts, folder: Path) -> Iterator[Api]:
    """With a Plan of two VMs in it, and the only PVC of one of them."""
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
        with running(folder, settings) as guard:
            with guard.client() as client:
                eventually(lambda: client.get("/readyz").status_code == 200, "a first list")
            api = Api(bed, guard)
            api.make(plan(), pvc(), storage_class(), webhooks(guard))
            find_ready(bed)
            status = json.dumps({"status": {"phase": "Bound", "capacity": {"storage": "40Gi"}}})
            named = ["pvc", "web-0", "-n", TARGET, "--subresource=status", "--type=merge"]
            bed.kubectl("patch", *named, "-p", status, check=True)
            yield api
            assert "Traceback" not in guard.log, guard.log


def plan() -> dict[str, Any]:
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


def pvc() -> dict[str, Any]:
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


def storage_class() -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "fast"},
        "provisioner": "vendor.example.com",
    }


def webhooks(guard: Guard) -> dict[str, Any]:
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


def account(name: str, *rights: tuple[str, str, str, str]) -> Iterator[dict[str, Any]]:
    """A ServiceAccount with a Role for each of namespace, group, resource and verb."""
    subject = {"kind": "ServiceAccount", "name": name, "namespace": "vendors"}
    yield {"apiVersion": "v1", "kind": subject["kind"], "metadata": meta(name, "vendors")}
    for number, (namespace, group, resource, verb) in enumerate(rights):
        role = f"{name}-{number}"
        rbac = "rbac.authorization.k8s.io"
        rule = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
        kind = {"apiVersion": f"{rbac}/v1", "metadata": meta(role, namespace)}
        yield {**kind, "kind": "Role", "rules": [rule]}
        to = {"apiGroup": rbac, "kind": "Role", "name": role}
        yield {**kind, "kind": "RoleBinding", "roleRef": to, "subjects": [subject]}


def meta(name: str, namespace: str) -> dict[str, str]:
    return {"name": name, "namespace": namespace}
