"""Forklift's own compare, in Go: Python's must answer the same, and what the rules admit it finds.

So must Python read vSphere's names as Go does.

Its answers to chosen questions are recorded in fixtures/forklift.json, for machines without Go;
`pytest --update-fixtures` asks them again.
"""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import BASE, NAMESPACE, PATIENCE, VSPHERE, review_of
from tests.e2e.parts import part
from webhook.cli.demo import merged
from webhook.engine.judge import decide
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.facts.proof import prove
from webhook.inventory.index import Index
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.inventory.snapshot import SnapshotReader
from webhook.model.keys import DISK_SOURCE, is_blank
from webhook.model.objects import Claim, Provider
from webhook.model.review import Admitted
from webhook.model.vms import Disk, VirtualMachine, trim_backing_file
from webhook.server.codec import read_review
from webhook.vsphere.names import unescaped

RECORDED = Path(__file__).parent / "fixtures" / "forklift.json"

_UUID = BASE["vsphere"]["vm-178"]["uuid"]

# Where two languages may differ: digits of other scripts, blanks, any character for the dot, and
# suffixes that touch or repeat.
_PIECES = st.sampled_from(
    [
        "[ds] ",
        "[d s] ",
        "vm/",
        "disk",
        "-000001",
        "-00001",
        "-0000001",
        "-123456",
        "-٠٠٠٠٠١",
        ".vmdk",
        "Xvmdk",
        "\nvmdk",
        ".VMDK",
        " ",
        "\t",
        "\x1c",
        "\x1f",
        "\x85",
        "\xa0",
        "\u2003",
        "\u200b",
        "\u3000",
        "ü",
        "𝟘",
        "]",
        "",
    ]
)
_FILES = st.lists(_PIECES, max_size=7).map("".join)
_NAMES = st.sampled_from(["a", "prime-1", "prime", "x-prime-"])
_ESCAPED = st.lists(
    st.sampled_from(["%", "%2f", "%5C", "%25", "%e2", "%82", "%ac", "%ff", "%00", "2", "f", "g"])
    | st.characters(codec="utf-8"),
    max_size=7,
).map("".join)
_QUESTIONS = st.fixed_dictionaries(
    {
        "disks": st.lists(_FILES, max_size=4),
        "claims": st.lists(st.fixed_dictionaries({"name": _NAMES, "source": _FILES}), max_size=5),
        "names": st.lists(_ESCAPED, max_size=3),
    }
)


class Forklift:
    """The Go program, a question at a time."""

    def __init__(self, program: Path) -> None:
        self._program = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._program.stdin
        assert self._program.stdout
        self._program.stdin.write(json.dumps(question) + "\n")
        self._program.stdin.flush()
        answer: dict[str, Any] = json.loads(self._program.stdout.readline())
        return answer

    def end(self) -> None:
        with self._program:
            self._program.kill()


@pytest.fixture(scope="module")
def forklift() -> Any:
    running = Forklift(part("forklift"))
    yield running
    running.end()


def ours(question: dict[str, Any]) -> dict[str, Any]:
    """What Python makes of a question."""
    claims = [
        Claim("team", f"{claim['name']}", "vm-178", _UUID, claim["source"])
        for claim in question["claims"]
    ]
    disks = tuple(Disk(file, 1, key=key) for key, file in enumerate(question["disks"]))
    proof = prove(VirtualMachine("vm-178", uuid=_UUID, disks=disks), claims)
    of_disk = {disk.key: claim for disk, claim in proof.matched}
    return {
        "trimmed": [trim_backing_file(file) for file in question["disks"]],
        "leftOut": [not claim.matchable for claim in claims],
        "found": [
            next((p for p, c in enumerate(claims) if c is of_disk.get(disk.key)), -1)
            for disk in disks
        ],
        "names": [unescaped(name) for name in question["names"]],
    }


def test_the_recorded_answers(request: pytest.FixtureRequest) -> None:
    recorded = json.loads(RECORDED.read_text())
    if request.config.getoption("--update-fixtures"):
        forklift = Forklift(part("forklift"))
        for case in recorded:
            case["answer"] = forklift.ask(case["question"])
        forklift.end()
        RECORDED.write_text(json.dumps(recorded, indent=1, ensure_ascii=True) + "\n")
    for case in recorded:
        assert ours(case["question"]) == case["answer"], case["why"]


@settings(max_examples=500)
@given(_QUESTIONS)
def test_python_compares_as_go_does(forklift: Forklift, question: dict[str, Any]) -> None:
    assert ours(question) == forklift.ask(question)


@settings(max_examples=500)
@given(st.lists(_FILES, min_size=1, max_size=4), _FILES, st.booleans())
def test_a_claim_that_the_rules_admit_is_one_that_forklift_finds(
    forklift: Forklift, files: list[str], source: str, one_of_them: bool
) -> None:
    source = files[0] if one_of_them else source
    index = Index(
        [VirtualMachine("vm-178", "database", _UUID, disks=tuple(Disk(f, 1) for f in files))]
    )
    vsphere = ProviderInventory(Provider(NAMESPACE, VSPHERE), SnapshotReader(index))
    vsphere.vms = index
    vsphere.heard(None)
    change = {"metadata": {"annotations": {DISK_SOURCE: source}}}
    pvc = merged(BASE["PersistentVolumeClaim"], change)
    review = read_review(msgspec.json.encode(review_of(pvc)))

    async def judged() -> Any:
        sources = Sources(Inventory([vsphere]), Policy(), lambda: 0.0)
        return await decide(review, sources, asyncio.get_running_loop().time() + PATIENCE)

    if isinstance(asyncio.run(judged()), Admitted):
        claims = [{"name": "disk-0", "source": source}]
        assert not is_blank(source)
        assert forklift.ask({"disks": files, "claims": claims, "names": []})["found"].count(0) == 1
