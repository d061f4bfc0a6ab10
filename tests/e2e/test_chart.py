"""The Helm chart: the same objects as kustomize's, and a release's whole life on an API server."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import chart
from tests.e2e.bed import Bed, eventually
from tests.e2e.parts import Parts, part
from tests.e2e.test_combinations import CHOICES, MOVED, Choice, built, folder, said
from tests.e2e.test_install_guide import BLOCK
from tests.e2e.test_overlays import crds_of, crds_of_cert_manager
from tests.e2e.world import MANIFESTS, OWN_CRDS, ROOT
from tests.guard import running

__all__ = ["folder"]  # a fixture

pytestmark = pytest.mark.e2e

CHART = str(chart.CHART)
OWN = "conversion-guard"


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


@pytest.mark.parametrize("choice", CHOICES, ids=str)
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
            "silence": 20,
            "rules": {"pvc-capacity": "warn"},
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
    "action": ({"settings": {"rules": {"pvc-vm": "maybe"}}}, "/settings/rules/pvc-vm"),
    "twice": ({"settings": {"providerNamespaces": ["a"]}}, "providerNamespaces"),
    "namespace": ({"forklift": {"namespace": "Forklift"}}, "/forklift/namespace"),
    "trust": ({"trust": {"clientCA": "PEM"}}, "/trust/allowedClientNames"),
    "replicas": ({"replicas": 0}, "/replicas"),
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
        "trust": {"clientCA": "PEM", "allowedClientNames": ["me"], "network": True},
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
    }
    assert maps["conversion-guard-client-ca"] == {"ca.crt": "PEM"}
    roles = {i["metadata"]["namespace"] for i in objects if i["kind"] == "Role"}
    assert roles == {OWN, "one", "two"}


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


@pytest.fixture(scope="module")
def bed(programs: Parts) -> Iterator[Bed]:
    with Bed(programs=programs) as bed:
        bed.install_crds(OWN_CRDS)
        crds_of_cert_manager(bed)
        crds_of(bed, "monitoring.coreos.com", "PodMonitor", "PrometheusRule")
        yield bed


def _release(bed: Bed, *args: str) -> str:
    own, _ = MOVED
    done = helm(*args, "-n", own, kubeconfig=bed.kubeconfig(), home=bed.folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _there(bed: Bed, kind: str, name: str, *where: str) -> Any:
    shown = bed.kubectl("get", kind, name, "-o", "json", "--ignore-not-found", *where, check=True)
    return json.loads(shown.stdout or "null")


CONFIGURATION = "validatingwebhookconfiguration"


def test_installed_upgraded_rolled_back_tested_and_uninstalled(bed: Bed, tmp_path: Path) -> None:
    own, forklifts = MOVED
    place = ["--set", f"forklift.namespace={forklifts}"]
    notes = _release(bed, "install", "guard", CHART, "--create-namespace", *place)
    assert f"There is no namespace {forklifts} yet" in notes
    assert _there(bed, "deployment", OWN, "-n", own)
    assert not _there(bed, "role", OWN, "-n", own)

    ca = base64.b64encode(bed.api.ca_file.read_bytes()).decode()
    bundle = {"name": "pvc.conversion-guard.io", "clientConfig": {"caBundle": ca}}
    how = ["patch", CONFIGURATION, OWN, "-p", json.dumps({"webhooks": [bundle]})]
    account = f"system:serviceaccount:{own}:conversion-guard"
    bed.kubectl(*how, "--as", account, check=True)

    bed.kubectl("create", "namespace", forklifts, check=True)
    everything = ["--set", "api=true,strict=true,monitoring=true"]
    notes = _release(bed, "upgrade", "guard", CHART, *place, *everything)
    assert "There is no namespace" not in notes
    assert _there(bed, "role", OWN, "-n", forklifts)["rules"]
    assert _there(bed, "prometheusrule", OWN, "-n", own)
    hooks = _there(bed, CONFIGURATION, OWN)["webhooks"]
    assert {hook["failurePolicy"] for hook in hooks} == {"Fail"}
    assert hooks[0]["clientConfig"]["caBundle"], "an upgrade takes no CA away"

    _release(bed, "rollback", "guard", "1")
    hooks = _there(bed, CONFIGURATION, OWN)["webhooks"]
    assert {hook["failurePolicy"] for hook in hooks} == {"Fail", "Ignore"}
    assert hooks[0]["clientConfig"]["caBundle"], "nor does a way back"
    assert not _there(bed, "prometheusrule", OWN, "-n", own)

    objects = [
        item for item in yaml.safe_load_all(_release(bed, "get", "manifest", "guard")) if item
    ]
    assert said(yaml.safe_dump_all(objects)) <= {own, forklifts, "konveyor-forklift"}
    _release(bed, "uninstall", "guard")
    for item in objects:
        where = item["metadata"].get("namespace")
        named = [item["kind"], item["metadata"]["name"], *(["-n", where] if where else [])]
        assert _there(bed, *named) is None, named


def test_helm_test_asks_a_replica(bed: Bed, tmp_path: Path) -> None:
    """Without kubelets this test runs the pod's command itself, and says how it ended."""
    _release(bed, "install", "asked", CHART, "--create-namespace", "--set", "api=true")
    own, _ = MOVED
    command = [str(part("helm")), "test", "asked", "-n", own, "--timeout", "2m"]
    env = {**os.environ, "KUBECONFIG": str(bed.kubeconfig()), "HOME": str(bed.folder)}
    with (
        running(tmp_path, {}) as guard,
        subprocess.Popen(command, env=env, text=True, stdout=-1, stderr=-2) as asking,
    ):
        pod = eventually(
            lambda: _there(bed, "pod", "conversion-guard-test", "-n", own), 60, "its pod"
        )
        (container,) = pod["spec"]["containers"]
        script, url = container["args"]
        assert url == f"https://conversion-guard.{own}.svc/readyz"
        with guard.client() as client:
            eventually(lambda: client.get("/readyz").status_code == 200, 60, "it is ready")

        def asked(address: str) -> "subprocess.CompletedProcess[str]":
            # Not -W error: the pod's Python has no such option.
            argv = [sys.executable, "-c", script, f"{address}/readyz"]
            return subprocess.run(argv, capture_output=True, text=True, check=False)

        good, bad = asked(guard.url), asked("https://127.0.0.1:9")
        assert (good.returncode, bad.returncode) == (0, 1), (good, bad)
        assert bad.stderr.startswith("https://127.0.0.1:9/readyz: ")
        status = {"status": {"phase": "Succeeded"}}
        how = ["patch", "pod", "conversion-guard-test", "-n", own, "--subresource=status"]
        bed.kubectl(*how, "--type=merge", "-p", json.dumps(status), check=True)
        told, _ = asking.communicate(timeout=120)
        assert asking.returncode == 0, told
    _release(bed, "uninstall", "asked")


def test_every_command_of_the_guide(bed: Bed, tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "helm.md").read_text()
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    blocks = BLOCK.findall(guide)
    (tmp_path / "values.yaml").write_text(next(text for kind, text in blocks if kind == "yaml"))
    commands = [line for kind, text in blocks if not kind for line in text.splitlines()]
    assert len(commands) > 5
    for command in commands:
        done = bed.shell(command, tmp_path, part("helm").parent)
        assert done.returncode == 0, (command, done.stderr)
    named = set(re.findall(r"^\| (.+?) \|", guide, re.MULTILINE)) - {"value", "---"}
    told = {part.lstrip(".") for cell in named for part in re.findall(r"`([^`]+)`", cell)}
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    for name, value in values.items():
        inner = value if isinstance(value, dict) and value else {"": None}
        for field in inner:
            full = f"{name}.{field}".rstrip(".")
            assert full in told or field in told, full
