"""docs/who-learns-what.md: with its two files the API server shows a certificate."""

import json
from pathlib import Path

import pytest

from tests.cases import NAMESPACE
from tests.certificates import Authority
from tests.e2e.bed import Bed, eventually
from tests.e2e.parts import Parts
from tests.e2e.test_certificates import SNAPSHOT
from tests.e2e.test_install_guide import BLOCK
from tests.e2e.test_path_proof import RIGHT_UUID, WRONG
from tests.e2e.world import MANIFESTS, OWN_CRDS, ROOT, TARGET
from tests.guard import running

pytestmark = pytest.mark.e2e

GUIDE = (ROOT / "docs" / "who-learns-what.md").read_text()
PLACE = "/etc/kubernetes/guard"
SERVICE = "conversion-guard.conversion-guard.svc"


def test_who_the_api_server_names_is_told(programs: Parts, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    settings = {
        "clientCAFile": str(authority.file),
        "allowedClientNames": ["kube-apiserver-webhooks"],
        "snapshots": [str(SNAPSHOT)],
    }
    with Bed(programs=programs) as bed, running(tmp_path, settings) as guard:
        bed.install_crds(OWN_CRDS)
        for namespace in (NAMESPACE, TARGET):
            bed.kubectl("create", "namespace", namespace, check=True)
        ca = (tmp_path / "ca.crt").read_bytes()
        bed.apply_shipped_manifests(MANIFESTS, guard.url, ca)

        def told() -> str:
            return bed.kubectl("create", "-f", "-", stdin=json.dumps(WRONG)).stderr

        eventually(lambda: "only the API server may send reviews here" in told(), "it is asked")
        certificate = authority.issue("kube-apiserver-webhooks")
        for _, text in BLOCK.findall(GUIDE):
            name = text.splitlines()[0].removeprefix(f"# {PLACE}/")
            # In one file; and this bed's API server calls by an address, not by a Service.
            text = text.replace(f"{PLACE}/tls.crt", str(certificate))
            text = text.replace(f"{PLACE}/tls.key", str(certificate))
            text = text.replace(SERVICE, guard.url.removeprefix("https://"))
            (tmp_path / name).write_text(text.replace(PLACE, str(tmp_path)))
        bed.api.restart(f"--admission-control-config-file={tmp_path / 'admission.yaml'}")
        eventually(lambda: RIGHT_UUID in told(), "the API server is known")
