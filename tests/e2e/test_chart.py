"""The Helm chart renders the same objects as kustomize, and its schema refuses wrong values."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import chart
from tests.e2e.parts import Parts, part
from tests.e2e.test_combinations import CHOICES, MOVED, Choice, built, folder

__all__ = ["folder"]  # a fixture

pytestmark = pytest.mark.e2e

CHART = str(chart.CHART)
OWN = "conversion-guard"
COMPARED = [
    choice for choice in CHOICES if (choice.namespaces == MOVED) is bool(len(choice.options) % 2)
]
"""Each set of options once, in one of the two sets of namespaces."""


def helm(
    *args: str, kubeconfig: Path | None = None, home: Path = Path("/nonexistent")
) -> "subprocess.CompletedProcess[str]":
    """Whatever its user has set up counts for nothing."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    if kubeconfig:
        env["KUBECONFIG"] = str(kubeconfig)
    command = [str(part("helm")), *args]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def rendered(namespace: str, values: dict[str, Any], place: Path) -> list[dict[str, Any]]:
    file = place / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = helm("template", "guard", CHART, "-n", namespace, "-f", str(file), "--skip-tests")
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def _values(choice: Choice) -> dict[str, Any]:
    return {
        "certificate": {"source": choice.certificate},
        "forklift": {"namespace": choice.namespaces[1]},
        **dict.fromkeys(choice.options, True),
    }


def _plain(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """By kind and name, without what each tool does its own way: how the pods notice new settings,
    and the order of lists whose entries have names. Helm makes the namespace itself."""
    found = {}
    for item in objects:
        kind, name = item["kind"], item["metadata"]["name"]
        if kind == "Namespace":
            continue
        if name.startswith("conversion-guard-settings"):
            item["metadata"]["name"] = name = "conversion-guard-settings"
            item["data"]["settings.yaml"] = yaml.safe_load(item["data"]["settings.yaml"])
        if kind == "Deployment":
            item["spec"]["template"]["metadata"].pop("annotations", None)
            for volume in item["spec"]["template"]["spec"]["volumes"]:
                if volume["name"] == "settings":
                    volume["configMap"]["name"] = "conversion-guard-settings"
        found[f"{kind}/{name}/{item['metadata'].get('namespace')}"] = _sorted(item)
    return found


def _sorted(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _sorted(value) for key, value in node.items()}
    if isinstance(node, list):
        entries = [_sorted(one) for one in node]
        named = all(isinstance(one, dict) and {"name", "port"} & one.keys() for one in entries)
        return sorted(entries, key=json.dumps) if named else entries
    return node


@pytest.mark.parametrize("choice", COMPARED, ids=str)
def test_it_renders_what_kustomize_builds(
    programs: Parts, folder: Path, choice: Choice, tmp_path: Path
) -> None:
    _, objects = built(programs, choice.write(folder))
    made = _plain(rendered(choice.namespaces[0], _values(choice), tmp_path))
    wanted = _plain(objects)
    assert made.keys() == wanted.keys()
    for name, item in wanted.items():
        assert made[name] == item, name


def test_lint_finds_nothing(tmp_path: Path) -> None:
    for values in ({}, {"certificate": {"source": "openshift"}, "api": True, "strict": True}):
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        done = helm("lint", "--strict", CHART, "-f", str(file))
        assert done.returncode == 0, done.stdout + done.stderr


GOOD: dict[str, dict[str, Any]] = {
    "image": {"image": {"repository": "r.example.com:5000/guard", "digest": f"sha256:{'0' * 64}"}},
    "settings": {
        "settings": {
            "maxAge": "1h30m",
            "silence": "5s",
            "audit": {"every": "1m"},
            "rules": {"pvc-capacity": "warn", "pvc-name": False},
            "defaults": {"pvc-identity": True},
            "namespaces": {"team-a": {"enforce": "audit", "rules": {"pvc-vm": "off"}}},
            "deniedNetworks": ["10.0.0.0/8"],
            "api": {"ratePerUser": 5},
            "tls": {"extraNames": ["guard.example.com"]},
        }
    },
    "trust": {"trust": {"clientCA": "PEM", "allowedClientNames": ["kube-apiserver"]}},
}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "certificate": ({"certificate": {"source": "letsencrypt"}}, "/certificate/source"),
    "misspelt": ({"monitorin": True}, "monitorin"),
    "flag": ({"strict": "yes"}, "/strict"),
    "digest": ({"image": {"digest": "abc"}}, "/image/digest"),
    "setting": ({"settings": {"maxage": "1h"}}, "maxage"),
    "duration": ({"settings": {"maxAge": "soon"}}, "/settings/maxAge"),
    "rule": ({"settings": {"rules": {"no-rule": "deny"}}}, "no-rule"),
    "true": ({"settings": {"rules": {"pvc-vm": True}}}, "/settings/rules/pvc-vm"),
    "ignored": ({"settings": {"ignoreProviders": ["a"]}}, "/settings/ignoreProviders/0"),
    "action": ({"settings": {"rules": {"pvc-vm": "maybe"}}}, "/settings/rules/pvc-vm"),
    "twice": ({"settings": {"providerNamespaces": ["a"]}}, "providerNamespaces"),
    "namespace": ({"forklift": {"namespace": "Forklift"}}, "/forklift/namespace"),
    "trust": ({"trust": {"clientCA": "PEM"}}, "/trust/allowedClientNames"),
    "replicas": ({"replicas": 0}, "/replicas"),
    "port": ({"settings": {"listen": "0.0.0.0:9443"}}, "listen"),
    "metrics port": ({"settings": {"metricsListen": "0.0.0.0:9000"}}, "metricsListen"),
    "api port": ({"settings": {"api": {"listen": "0.0.0.0:9444"}}}, "listen"),
    "file": ({"settings": {"tls": {"certFile": "/x"}}}, "certFile"),
    "secret": ({"settings": {"tls": {"secret": "my-tls"}}}, "secret"),
    "service": ({"settings": {"tls": {"service": "mine"}}}, "service"),
    "place": ({"settings": {"tls": {"namespace": "mine"}}}, "namespace"),
    "validating": (
        {"settings": {"tls": {"validatingWebhookConfiguration": "mine"}}},
        "validatingWebhookConfiguration",
    ),
    "mutating": (
        {"settings": {"tls": {"mutatingWebhookConfiguration": "mine"}}},
        "mutatingWebhookConfiguration",
    ),
    "too short": ({"settings": {"silence": "1s"}}, "/settings/silence"),
    "too few": ({"settings": {"silence": 1}}, "/settings/silence"),
    "too often": ({"settings": {"audit": {"every": "59.9s"}}}, "/settings/audit/every"),
    "bundle": ({"certificate": {"caBundle": "abc"}}, "/certificate/caBundle"),
    "bundle of another": (
        {"certificate": {"source": "openshift", "caBundle": "abc"}},
        "/certificate/caBundle",
    ),
    "secret name": ({"certificate": {"secretName": "My Secret"}}, "/certificate/secretName"),
}


_NAMESPACES: list[tuple[str, dict[str, Any]]] = [
    ("openshift-mtv", {}),
    ("konveyor", {"forklift": {"namespace": "konveyor"}}),
    ("openshift-mtv", {"providerNamespaces": ["team-a"]}),
    ("team-a", {"providerNamespaces": ["openshift-mtv", "team-a"]}),
]


@pytest.mark.parametrize(("namespace", "values"), _NAMESPACES, ids=str)
def test_the_guards_namespace_is_none_that_it_watches(
    namespace: str, values: dict[str, Any], tmp_path: Path
) -> None:
    """Its webhooks leave it out, so that it never blocks its own start."""
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = helm("template", "guard", CHART, "-n", namespace, "-f", str(file))
    assert done.returncode != 0
    assert f"nothing in {namespace} would be checked" in done.stderr
    assert "write -n conversion-guard" in done.stderr


def test_forklifts_release_may_be_asked_for_where_no_provider_is(tmp_path: Path) -> None:
    objects = rendered(OWN, {"providerNamespaces": ["team-a"]}, tmp_path)
    roles = [item for item in objects if item["kind"] == "Role"]
    read = {
        place: {
            resource
            for role in roles
            if role["metadata"]["namespace"] == place
            for rule in role["rules"]
            for resource in rule["resources"]
        }
        for place in ("openshift-mtv", "team-a")
    }
    release = {"clusterserviceversions", "deployments"}
    assert read == {"openshift-mtv": release, "team-a": release | {"providers", "secrets"}}
    bindings = [item for item in objects if item["kind"] == "RoleBinding"]
    assert {(b["roleRef"]["name"], b["metadata"]["namespace"]) for b in bindings} == {
        (role["metadata"]["name"], role["metadata"]["namespace"]) for role in roles
    }


@pytest.mark.parametrize("values", GOOD.values(), ids=GOOD)
def test_the_schema_takes_what_can_be_set(values: dict[str, Any], tmp_path: Path) -> None:
    assert rendered(OWN, values, tmp_path)


@pytest.mark.parametrize(("values", "says"), WRONG.values(), ids=WRONG)
def test_the_schema_refuses_what_cannot(values: dict[str, Any], says: str, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = helm("template", "guard", CHART, "-f", str(file))
    assert done.returncode != 0
    assert says in done.stderr, done.stderr


def test_every_setting_has_its_place(tmp_path: Path) -> None:
    """In `settings`, or in a value that becomes one."""
    values = {
        "providerNamespaces": ["one", "two"],
        "trust": {"clientCA": "PEM", "allowedClientNames": ["me"], "network": True, "path": False},
        "settings": {"maxAge": "2h", "tls": {"extraNames": ["x.example.com"]}},
    }
    objects = rendered(OWN, values, tmp_path)
    maps = {i["metadata"]["name"]: i["data"] for i in objects if i["kind"] == "ConfigMap"}
    assert yaml.safe_load(maps["conversion-guard-settings"]["settings.yaml"]) == {
        "allowedClientNames": ["me"],
        "cacheDir": "/var/cache/conversion-guard",
        "clientCAFile": "/etc/conversion-guard/client-ca/ca.crt",
        "maxAge": "2h",
        "providerNamespaces": ["one", "two"],
        "tls": {"extraNames": ["x.example.com"]},
        "trustNetwork": True,
        "trustPath": False,
    }
    assert maps["conversion-guard-client-ca"] == {"ca.crt": "PEM"}
    roles = {i["metadata"]["namespace"] for i in objects if i["kind"] == "Role"}
    assert roles == {OWN, "one", "two", "openshift-mtv"}


def test_the_pod_is_as_it_is_wished(tmp_path: Path) -> None:
    digest = f"sha256:{'1' * 64}"
    values = {
        "image": {"repository": "r.example.com/guard", "digest": digest},
        "resources": {"limits": {"memory": "1Gi"}},
        "replicas": 3,
        "nodeSelector": {"a": "b"},
        "volumes": [{"name": "v", "configMap": {"name": "v"}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "certificate": {"source": "files", "secretName": "mine", "caBundle": "PEM"},
    }  # fmt: skip
    objects = rendered(OWN, values, tmp_path)
    (deployment,) = [item for item in objects if item["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert deployment["spec"]["replicas"] == 3
    assert container["image"] == f"r.example.com/guard@{digest}"
    assert container["resources"] == {"limits": {"memory": "1Gi"}}

    assert pod["nodeSelector"] == {"a": "b"}
    secrets = [v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v]
    assert secrets == ["mine"]
    assert {"name": "v", "mountPath": "/v"} in container["volumeMounts"]
    configurations = [i for i in objects if i["kind"].endswith("WebhookConfiguration")]
    bundles = {h["clientConfig"]["caBundle"] for i in configurations for h in i["webhooks"]}
    assert bundles == {"UEVN"}


def test_the_alerts_lead_to_the_pages_that_are_served(tmp_path: Path) -> None:
    objects = rendered(OWN, {"monitoring": True, "docs": "https://docs.example.org/cg"}, tmp_path)
    (alerts,) = [item for item in objects if item["kind"] == "PrometheusRule"]
    text = yaml.safe_dump(alerts)
    assert "https://docs.example.org/cg/runbook/ConversionGuardDown.md" in text
    assert "conversion-guard.example.com" not in text


@pytest.mark.parametrize("source", ["cert-manager", "openshift"])
def test_who_issues_the_certificate_fills_the_secret_that_is_mounted(
    source: str, tmp_path: Path
) -> None:
    values = {"certificate": {"source": source, "secretName": "mine"}}
    text = yaml.safe_dump_all(rendered(OWN, values, tmp_path))
    assert len(re.findall(r"secretName: mine$|secret-name: mine$", text, re.MULTILINE)) == 2
    assert "conversion-guard-tls" not in text
