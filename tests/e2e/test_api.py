"""The REST API as a real API server lets it be called: ServiceAccounts, their tokens and rights.

docs/api.md is followed to the letter; its outputs are held against what comes, and are rewritten by
`pytest --update-fixtures`.
"""

import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cases import NAMESPACE
from tests.command import run
from tests.e2e.bed import eventually
from tests.e2e.parts import Parts
from tests.e2e.vendors import FORKLIFT, UUID, Api, account, pvc, serving
from tests.e2e.world import ROOT, TARGET
from webhook.cli.demo import merged
from webhook.manifests import files
from webhook.model.keys import VM_UUID

pytestmark = pytest.mark.e2e

GUIDE = ROOT / "docs" / "api.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def api(programs: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serving(programs, tmp_path_factory.mktemp("guard")) as api:
        yield api


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
    assert len(told) == 9
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


READINESS = f"/plans/{NAMESPACE}/web/readiness"


def test_a_provider_that_one_may_not_get_is_not_there(api: Api) -> None:
    api.make(*account("stranger"))
    token = api.token("stranger")
    assert api.get("/providers", token).json() == {"providers": []}
    done = api.get(f"/providers/{NAMESPACE}/vsphere-production/vms", token)
    assert done.status_code == 403
    assert "system:serviceaccount:vendors:stranger may not: get providers." in done.text


def test_names_of_pvcs_are_told_to_those_who_may_list_them(api: Api) -> None:
    plans = (NAMESPACE, FORKLIFT, "plans", "get")
    claims = (TARGET, "", "persistentvolumeclaims", "list")
    api.make(*account("counter", plans), *account("reader", plans, claims))
    (counted, _) = api.get(READINESS, api.token("counter")).json()["vms"]
    assert counted["ready"]
    assert counted["matched"] == [{}]
    (read, _) = api.get(READINESS, api.token("reader")).json()["vms"]
    assert read["matched"][0]["pvc"] == "web-0"


def test_only_a_token_of_this_audience_is_good(api: Api) -> None:
    api.make(*account("stranger"))
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
    api.make(*account("leaver", (NAMESPACE, FORKLIFT, "providers", "get")))
    token = api.token("leaver")
    assert len(api.get("/providers", token).json()["providers"]) == 2
    api.bed.kubectl("delete", "rolebinding", "leaver-0", "-n", NAMESPACE, check=True)
    eventually(lambda: api.get("/providers", token).json() == {"providers": []}, "no right")
    api.bed.kubectl("delete", "serviceaccount", "leaver", "-n", "vendors", check=True)
    eventually(lambda: api.get("/rules", token).status_code == 401, "no token")


def test_check_server_asks_it(api: Api, tmp_path: Path) -> None:
    right = merged(pvc(), {"metadata": {"name": "web-1", "namespace": "vendors"}})
    wrong = merged(right, {"metadata": {"name": "web-2", "labels": {VM_UUID: UUID[:-1] + "2"}}})
    file, token = tmp_path / "manifests.yaml", tmp_path / "token"
    file.write_text(files.write([right, wrong]))
    creates = ("vendors", "", "persistentvolumeclaims", "create")
    api.make(*account("checker", creates, (NAMESPACE, FORKLIFT, "providers", "get")))
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
