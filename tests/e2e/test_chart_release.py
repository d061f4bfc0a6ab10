"""A Helm release's whole life on an API server."""

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

from tests.chart import CHART as FOLDER
from tests.e2e.bed import Bed, eventually
from tests.e2e.parts import Parts, part
from tests.e2e.test_chart import CHART, OWN, helm
from tests.e2e.test_combinations import MOVED, said
from tests.e2e.test_install_guide import BLOCK
from tests.e2e.test_overlays import crds_of
from tests.e2e.world import MANIFESTS, OWN_CRDS, ROOT
from tests.guard import running

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def bed(programs: Parts) -> Iterator[Bed]:
    with Bed(programs=programs) as bed:
        bed.install_crds(OWN_CRDS)
        crds_of(bed, "monitoring.coreos.com", "PodMonitor", "PrometheusRule")
        yield bed


def _release(bed: Bed, *args: str) -> str:
    own, _ = MOVED
    done = helm(*args, "-n", own, kubeconfig=bed.kubeconfig(), home=bed.folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _when_down(hooks: list[dict[str, Any]]) -> str:
    """What becomes of a Migration while the guard is down."""
    (policy,) = (one["failurePolicy"] for one in hooks if one["name"].startswith("migration."))
    return str(policy)


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
    bed.kubectl("delete", "mutatingwebhookconfiguration", OWN, check=True)
    everything = ["--set", "api=true,strict=true,monitoring=true"]
    notes = _release(bed, "upgrade", "guard", CHART, *place, *everything)
    assert "There is no namespace" not in notes
    assert _there(bed, "role", OWN, "-n", forklifts)["rules"]
    assert _there(bed, "mutatingwebhookconfiguration", OWN), "what was switched off is on again"
    assert _there(bed, "prometheusrule", OWN, "-n", own)
    hooks = _there(bed, CONFIGURATION, OWN)["webhooks"]
    assert _when_down(hooks) == "Fail"
    assert hooks[0]["clientConfig"]["caBundle"], "an upgrade takes no CA away"

    _release(bed, "rollback", "guard", "1")
    hooks = _there(bed, CONFIGURATION, OWN)["webhooks"]
    assert _when_down(hooks) == "Ignore"
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
        pod = eventually(lambda: _there(bed, "pod", "conversion-guard-test", "-n", own), "its pod")
        (container,) = pod["spec"]["containers"]
        script, url = container["args"]
        assert url == f"https://conversion-guard.{own}.svc/readyz"
        with guard.client() as client:
            eventually(lambda: client.get("/readyz").status_code == 200, "it is ready")

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
    values = yaml.safe_load((FOLDER / "values.yaml").read_text())
    for name, value in values.items():
        inner = value if isinstance(value, dict) and value else {"": None}
        for field in inner:
            full = f"{name}.{field}".rstrip(".")
            assert full in told or field in told, full
