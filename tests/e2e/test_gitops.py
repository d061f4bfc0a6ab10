"""docs/gitops.md: applied twice, nothing differs, also after the CA and the path were written."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cases import NAMESPACE
from tests.e2e.bed import PLAIN, Bed
from tests.e2e.parts import Parts
from tests.e2e.test_combinations import CERTIFICATES, MOVED, Choice
from tests.e2e.test_install_guide import BLOCK
from tests.e2e.test_overlays import crds_of_cert_manager
from tests.e2e.world import MANIFESTS, OWN_CRDS, ROOT

pytestmark = pytest.mark.e2e

GUIDE = (ROOT / "docs" / "gitops.md").read_text()
KINDS = "mutatingwebhookconfiguration", "validatingwebhookconfiguration"


@pytest.fixture(scope="module")
def bed(programs: Parts) -> Iterator[Bed]:
    with Bed(programs=programs) as bed:
        bed.install_crds(OWN_CRDS)
        crds_of_cert_manager(bed)
        for namespace in (NAMESPACE, MOVED[1]):
            bed.kubectl("create", "namespace", namespace, check=True)
        yield bed


def commands() -> tuple[str, str]:
    """The guide's: apply, and diff."""
    apply, diff = next(text for kind, text in BLOCK.findall(GUIDE) if not kind).splitlines()
    return apply, diff


def twice(bed: Bed, folder: Path, *, managed: bool = False) -> None:
    """`managed`: by the guard itself, which also writes the path."""
    apply, diff = commands()
    for written in (False, True):
        done = bed.shell(apply, folder)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        if written:
            assert kept(bed) == {(CA, managed)}, "it is not taken away"
        else:
            write_ca(bed, managed=managed)
        compared = bed.shell(diff, folder)
        assert (compared.returncode, compared.stdout) == (0, ""), compared.stderr


CA = "the PEM of a CA, set by whoever issues the certificate"


END = "0f" * 32


def write_ca(bed: Bed, *, managed: bool) -> None:
    """As all who do it: only this field, by a manager of their own."""
    pem = base64.b64encode(bed.api.ca_file.read_bytes()).decode()
    for kind in KINDS:
        there = json.loads(bed.kubectl("get", kind, "conversion-guard", "-o", "json").stdout)
        path = f"{PLAIN[there['kind']]}/{END}"
        written = {"caBundle": pem, **({"service": {"path": path}} if managed else {})}
        hooks = [{"name": hook["name"], "clientConfig": written} for hook in there["webhooks"]]
        applied = {
            "apiVersion": there["apiVersion"],
            "kind": there["kind"],
            "metadata": {"name": "conversion-guard"},
            "webhooks": hooks,
        }
        how = ["apply", "--server-side", "--field-manager", "conversion-guard", "-f", "-"]
        bed.kubectl(*how, stdin=json.dumps(applied), check=True)


def kept(bed: Bed) -> set[tuple[str, bool]]:
    """CA, if it is the one that was written, and whether the path is: everywhere."""
    pem = base64.b64encode(bed.api.ca_file.read_bytes()).decode()
    found = set()
    for kind in KINDS:
        there = json.loads(bed.kubectl("get", kind, "conversion-guard", "-o", "json").stdout)
        clients = [hook["clientConfig"] for hook in there["webhooks"]]
        found |= {(one.get("caBundle"), one["service"]["path"].endswith(END)) for one in clients}
    return {(CA if one == pem else str(one), path) for one, path in found}


def test_the_guides_folder_does_not_drift(bed: Bed, tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    text = next(t for kind, t in BLOCK.findall(GUIDE) if t.startswith("# my-cluster"))
    file = tmp_path / "my-cluster" / "kustomization.yaml"
    file.parent.mkdir()
    file.write_text(text)
    twice(bed, tmp_path)
    shown = bed.kubectl("get", KINDS[0], "conversion-guard", "-o", "json", check=True).stdout
    notes = json.loads(shown)["metadata"]["annotations"]
    assert notes["argocd.argoproj.io/sync-wave"] == "1"
    assert notes["cert-manager.io/inject-ca-from"] == "conversion-guard/conversion-guard"
    deployment = ["get", "deployment", "conversion-guard", "-n", "conversion-guard", "-o", "yaml"]
    image = yaml.safe_load(text)["images"][0]
    running = f"image: {image['newName']}@{image['digest']}"
    assert running in bed.kubectl(*deployment, check=True).stdout


@pytest.mark.parametrize("certificate", CERTIFICATES)
def test_nor_does_any_other(bed: Bed, certificate: str, tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    Choice(certificate, ("api", "strict"), MOVED).write(tmp_path)
    for kind in KINDS:  # of another way: whose the path is differs
        bed.kubectl("delete", kind, "conversion-guard", "--ignore-not-found", check=True)
    twice(bed, tmp_path, managed=certificate == "self-managed")


def test_what_argo_cd_is_told_to_ignore_is_what_others_write() -> None:
    application = next(t for kind, t in BLOCK.findall(GUIDE) if t.startswith("# application"))
    spec = yaml.safe_load(application)["spec"]
    ignored = {
        entry["kind"].lower(): entry["jqPathExpressions"] for entry in spec["ignoreDifferences"]
    }
    fields = ("caBundle", "service.path")
    written = [f".webhooks[].clientConfig.{field}" for field in fields]
    assert ignored == dict.fromkeys(KINDS, written)
    assert "ServerSideApply=true" in spec["syncPolicy"]["syncOptions"]
