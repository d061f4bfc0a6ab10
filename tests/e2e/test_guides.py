"""docs/vendors.md and docs/cli.md: every command is run, and every answer in them is the real one.

`--update-fixtures` writes what is answered now.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.bed import GUARD
from tests.e2e.world import MANIFESTS, ROOT, World

pytestmark = pytest.mark.e2e

DEMO = ROOT / "webhook" / "cli" / "demo" / "inventory.yaml"
_BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
_FAST = """\
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast}
provisioner: example.com/fast
"""


@pytest.mark.parametrize("name", ["vendors", "cli"])
def test_every_answer_in_the_guide_is_real(
    world: World, tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    kubectl = world.bed.kubectl
    kubectl("apply", "-f", "-", stdin=_FAST, check=True)
    if name == "cli":
        kubectl("create", "namespace", "vms")
    settings: dict[str, Any] = {
        "snapshots": [str(DEMO)],
        "kubeconfig": str(world.bed.kubeconfig(GUARD)),
    }
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    (tmp_path / "webhook/cli/demo").mkdir(parents=True)
    shutil.copy(DEMO, tmp_path / "webhook/cli/demo")
    guide = ROOT / "docs" / f"{name}.md"
    text = guide.read_text()
    with world.guarded(providers=[], trustNetwork=True, **settings):
        real = _BLOCK.sub(lambda block: _answered(world, tmp_path, block[0]), text)
    kubectl("apply", "-k", str(MANIFESTS / "provider-namespace"), check=True)
    kubectl("delete", "storageclass", "fast", check=True)
    world.bed.empty("openshift-mtv", "Plan")
    world.bed.empty("vms", "PersistentVolumeClaim")
    if request.config.getoption("--update-fixtures"):
        guide.write_text(real)
    assert real == text


def _answered(world: World, folder: Path, block: str) -> str:
    """The block's commands, each with what it says now."""
    told = []
    for line in block.splitlines():
        if line.startswith("$ "):
            ours = Path(sys.executable).parent
            done = world.bed.shell(f"exec 2>&1; {line[2:]}", folder, ours)
            told += [f"{line}\n", *(f"{said}\n" for said in done.stdout.splitlines())]
    return "".join(told)
