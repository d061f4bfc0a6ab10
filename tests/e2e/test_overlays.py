"""Every way to install, as kustomize renders it: sound in itself, and taken by the API server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cases import NAMESPACE
from tests.e2e.bed import PLAIN, Bed
from tests.e2e.parts import Parts
from tests.e2e.world import MANIFESTS, OWN_CRDS
from webhook.settings import Settings

pytestmark = pytest.mark.e2e

OWN = "conversion-guard"
ITS_OWN = {"leases", "reports", "policyreports"}
PART = "app.kubernetes.io/part-of"
OVERLAYS = (
    ".",
    "overlays/api",
    "overlays/cert-manager",
    "overlays/openshift",
    "overlays/strict",
)
CLUSTER_WIDE = {
    "Namespace",
    "PriorityClass",
    "ClusterRole",
    "ClusterRoleBinding",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


@pytest.fixture(scope="module")
def bed(programs: Parts) -> Iterator[Bed]:
    """With Forklift, and the kinds of cert-manager: their schema isn't tested here."""
    with Bed(programs=programs) as bed:
        bed.install_crds(OWN_CRDS)
        bed.kubectl("create", "namespace", NAMESPACE, check=True)
        crds_of_cert_manager(bed)
        yield bed


def crds_of_cert_manager(bed: Bed) -> None:
    crds_of(bed, "cert-manager.io", "Issuer", "Certificate")


def crds_of(bed: Bed, group: str, *kinds: str) -> None:
    """Kinds of these names, of any content."""
    for kind in kinds:
        bed.kubectl("create", "-f", "-", stdin=json.dumps(_crd(group, kind)), check=True)
    crds = [f"crd/{kind.lower()}s.{group}" for kind in kinds]
    bed.kubectl("wait", "--for=condition=Established", *crds, check=True)


def _crd(group: str, kind: str) -> dict[str, Any]:
    names = {"kind": kind, "singular": kind.lower(), "plural": f"{kind.lower()}s"}
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": names | {"listKind": f"{kind}List"},
            "versions": [version],
        },
    }


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def objects(bed: Bed, overlay: str) -> list[dict[str, Any]]:
    return bed.shipped(MANIFESTS / overlay)


def _of(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [item for item in objects if item["kind"] == kind]
    return found


def _pod(objects: list[dict[str, Any]]) -> dict[str, Any]:
    template: dict[str, Any] = _of(objects, "Deployment")["spec"]["template"]
    return template


def test_all_of_it_is_found_by_its_label_and_in_its_namespace(
    objects: list[dict[str, Any]],
) -> None:
    for item in objects:
        meta = item["metadata"]
        assert meta["labels"][PART] == OWN, meta
        if item["kind"] in CLUSTER_WIDE:
            assert "namespace" not in meta, meta
        elif item["kind"] in ("Role", "RoleBinding"):
            assert meta["namespace"] in (OWN, NAMESPACE), meta
        else:
            assert meta["namespace"] == OWN, meta


def test_what_selects_pods_selects_the_guards(objects: list[dict[str, Any]]) -> None:
    deployment = _of(objects, "Deployment")
    spread = _pod(objects)["spec"]["topologySpreadConstraints"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        _of(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        _of(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        _of(objects, "Service")["spec"]["selector"],
        *(constraint["labelSelector"]["matchLabels"] for constraint in spread),
    ]
    labels = _pod(objects)["metadata"]["labels"]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels.items()
    assert [constraint["topologyKey"] for constraint in spread] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]


def test_one_replica_may_go_and_none_may_be_missed(objects: list[dict[str, Any]]) -> None:
    spec = _of(objects, "Deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert _of(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    pod = _pod(objects)["spec"]
    assert pod["priorityClassName"] == _of(objects, "PriorityClass")["metadata"]["name"]
    delay = Settings().shutdown_delay
    assert pod["terminationGracePeriodSeconds"] > delay + 30
    (container,) = pod["containers"]
    ready = container["readinessProbe"]
    assert ready["periodSeconds"] * ready["failureThreshold"] < delay, "seen to go while it serves"


def test_every_port_is_known_to_the_network_policy(objects: list[dict[str, Any]]) -> None:
    (container,) = _pod(objects)["spec"]["containers"]
    names = {port["name"] for port in container["ports"]}
    policy = _of(objects, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == names
    assert {port["targetPort"] for port in _of(objects, "Service")["spec"]["ports"]} == names
    ways_out = {
        (port["port"], port["protocol"]) for rule in policy["egress"] for port in rule["ports"]
    }
    dns = {(port, protocol) for port in (53, 5353) for protocol in ("UDP", "TCP")}
    assert ways_out == dns | {(443, "TCP"), (6443, "TCP")}


def test_a_secret_is_mounted_only_where_somebody_else_fills_it(
    objects: list[dict[str, Any]], overlay: str
) -> None:
    kinds = {item["kind"] for item in objects}
    mounted = [v["secret"]["secretName"] for v in _pod(objects)["spec"]["volumes"] if "secret" in v]
    rules = [rule for i in objects if i["kind"].endswith("Role") for rule in i["rules"]]
    changing = [rule for rule in rules if {"patch", "update"} & set(rule["verbs"])]
    writes = {resource for rule in changing for resource in rule["resources"]}
    configurations = [i for i in objects if i["kind"].endswith("WebhookConfiguration")]
    notes = [item["metadata"].get("annotations", {}) for item in configurations]
    (container,) = _pod(objects)["spec"]["containers"]
    files = {"name": "CONVERSION_GUARD_TLS__SOURCE", "value": "files"} in container["env"]
    if overlay in ("overlays/cert-manager", "overlays/openshift"):
        assert mounted == ["conversion-guard-tls"]
        assert files
        assert writes == ITS_OWN, "its account can write nothing that the API server goes by"
        assert "ValidatingAdmissionPolicy" not in kinds
        assert all(notes)
    else:
        assert mounted == []
        assert not files
        assert writes > ITS_OWN
        assert "ValidatingAdmissionPolicy" in kinds
        assert not any(notes)
    for item in configurations:
        plain = None if "ValidatingAdmissionPolicy" in kinds else PLAIN[item["kind"]]
        for webhook in item["webhooks"]:
            assert "caBundle" not in webhook["clientConfig"]
            assert webhook["clientConfig"]["service"].get("path") == plain


def test_only_where_there_is_the_api_may_tokens_be_reviewed(
    objects: list[dict[str, Any]], overlay: str
) -> None:
    resources = {
        resource
        for item in objects
        if item["kind"] == "ClusterRole"
        for rule in item["rules"]
        for resource in rule["resources"]
    }
    (container,) = _pod(objects)["spec"]["containers"]
    enabled = {"name": "CONVERSION_GUARD_API_ENABLED", "value": "true"} in container["env"]
    assert ("tokenreviews" in resources) is enabled is (overlay == "overlays/api")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports.get("api") == (8444 if enabled else None)


def test_only_strict_stops_migrations(objects: list[dict[str, Any]], overlay: str) -> None:
    hooks = _of(objects, "ValidatingWebhookConfiguration")["webhooks"]
    ignoring = {hook["name"] for hook in hooks if hook["failurePolicy"] == "Ignore"}
    only_warns = {"pvc-warn.conversion-guard.io"}
    strict = overlay == "overlays/strict"
    assert ignoring == only_warns | (set() if strict else {"migration.conversion-guard.io"})


def test_the_api_server_takes_it_without_a_warning(bed: Bed, overlay: str) -> None:
    done = bed.kubectl("apply", "-k", str(MANIFESTS / overlay))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    # kubectl's own "configured" is no sign: it also says so of a patch that changed nothing.
    again = bed.kubectl("diff", "-k", str(MANIFESTS / overlay))
    assert (again.returncode, again.stdout) == (0, ""), "as it was written, so it is kept"


@pytest.mark.parametrize("loosened", [False, True])
def test_its_pods_are_restricted_ones(
    bed: Bed, overlay: str, objects: list[dict[str, Any]], loosened: bool
) -> None:
    """The API server's own judgement, by the labels of the shipped namespace."""
    bed.kubectl("apply", "-k", str(MANIFESTS / overlay), check=True)
    template = json.loads(json.dumps(_pod(objects)))
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] |= {"name": "guard", "namespace": OWN}
    if loosened:
        del pod["spec"]["securityContext"]["runAsNonRoot"]
    done = bed.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    if loosened:
        assert 'violates PodSecurity "restricted' in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    for container in pod["spec"]["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["resources"].keys() == {"requests", "limits"}
        assert container["resources"]["limits"].keys() == {"memory"}
