"""Whatever comes in: nothing raises, every patch applies and is idempotent, no answer misleads."""

import asyncio
import base64
import math
from typing import Any

import jsonpatch
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import BASE, FIXTURES, PATIENCE, load, repaired, review_of
from webhook import quantity
from webhook.cli.demo import merged
from webhook.engine.judge import decide
from webhook.engine.sources import Sources
from webhook.errors import ReviewMalformed
from webhook.model.keys import DISK_SOURCE, VM_ID, VM_UUID
from webhook.model.review import Admitted, Denied, Review
from webhook.model.vms import trim_backing_file
from webhook.server.codec import read_review, render

_SOURCES = load(FIXTURES / "pvc-identity" / "fail" / "vmid-filled-in.yaml").sources()

_word = st.text(max_size=9)
_leaves = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20)
_json = st.recursive(
    _leaves,
    lambda some: st.lists(some, max_size=3) | st.dictionaries(_word, some, max_size=3),
    max_leaves=8,
)
_known = st.sampled_from(
    [
        "vm-178", "vm-179", "vm-9", "42324a11-8a5e-2f0d-6b0c-1f2e3d4c5b6a",
        "42324A11-8A5E-2F0D-6B0C-1F2E3D4C5B6A", "50324a11-5d13-4f9b-9b46-7c8b9f8e123a",
        "[LocalDS_0] database/disk-001.vmdk", "disk-001.vmdk", "DISK-002.vmdk", "", " ", "10Gi",
    ]
)  # fmt: skip
_keys = st.sampled_from([VM_ID, VM_UUID, DISK_SOURCE, "app"])
_pvcs = st.fixed_dictionaries(
    {
        "labels": st.none() | st.dictionaries(_keys, _known | st.none(), max_size=4),
        "annotations": st.none() | st.dictionaries(_keys, _known, max_size=3),
        "storage": _known,
        "volumeMode": st.sampled_from(["Block", "Filesystem"]),
    }
).map(
    lambda parts: merged(
        BASE["PersistentVolumeClaim"],
        {
            "metadata": {"labels": parts["labels"], "annotations": parts["annotations"]},
            "spec": {
                "volumeMode": parts["volumeMode"],
                "resources": {"requests": {"storage": parts["storage"]}},
            },
        },
    )
)


@st.composite
def _mangled(draw: st.DrawFn) -> dict[str, Any]:
    """A right object with anything at all somewhere in it."""
    obj: Any = msgspec.json.decode(
        msgspec.json.encode(BASE[draw(st.sampled_from(["PersistentVolumeClaim", "Plan"]))])
    )
    at, path = obj, []
    while isinstance(at, dict | list) and at and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        path.append((at, key))
        at = at[key]
    if path and path[0][1] != "kind":
        parent, key = path[-1]
        parent[key] = draw(_json | _known)
    mangled: dict[str, Any] = obj
    return mangled


def _parsed(obj: dict[str, Any], old: dict[str, Any] | None = None) -> Review:
    return read_review(msgspec.json.encode(review_of(obj, old)))


def _judged(review: Review, sources: Sources) -> Any:
    async def judge() -> Any:
        return await decide(review, sources, asyncio.get_running_loop().time() + PATIENCE)

    return asyncio.run(judge())


def _patch(review: Review, verdict: Admitted) -> list[dict[str, Any]]:
    response = msgspec.json.decode(render(review, verdict))["response"]
    assert ("patch" in response) == ("patchType" in response) == bool(verdict.patch)
    operations: list[dict[str, Any]] = msgspec.json.decode(
        base64.b64decode(response.get("patch", "")) or b"[]"
    )
    return operations


@given(st.binary(max_size=300) | _json.map(msgspec.json.encode))
def test_a_body_is_a_review_or_a_review_malformed(body: bytes) -> None:
    try:
        read_review(body)
    except ReviewMalformed as error:
        assert str(error).isprintable()


@given(_mangled(), st.none() | _mangled())
def test_no_object_makes_the_engine_raise(obj: dict[str, Any], old: dict[str, Any] | None) -> None:
    if "metadata" not in obj or not isinstance(obj["metadata"], dict):
        return
    try:
        review = _parsed(obj, old if old and old["kind"] == obj["kind"] else None)
    except ReviewMalformed:
        return
    answer = msgspec.json.decode(render(review, _judged(review, _SOURCES)))
    assert answer["response"]["uid"] == review.uid
    render(review, repaired(review, _SOURCES))


@given(_mangled())
def test_every_patch_applies_and_a_second_one_is_empty(obj: dict[str, Any]) -> None:
    if not isinstance(obj.get("metadata"), dict):
        return
    try:
        review = _parsed(obj)
    except ReviewMalformed:
        return
    fixed = jsonpatch.apply_patch(obj, _patch(review, repaired(review, _SOURCES)))
    assert repaired(_parsed(fixed), _SOURCES).patch == ()


@settings(max_examples=300)
@given(_pvcs)
def test_a_repaired_claim_touches_the_three_keys_only(pvc: dict[str, Any]) -> None:
    review = _parsed(pvc)
    fixed = jsonpatch.apply_patch(pvc, _patch(review, repaired(review, _SOURCES)))
    for obj in (pvc, fixed):
        metadata = obj["metadata"]
        for keys in (metadata.get("labels"), metadata.get("annotations")):
            for key in (VM_ID, VM_UUID, DISK_SOURCE):
                (keys or {}).pop(key, None)
        for empty in ("labels", "annotations"):
            if not metadata.get(empty):
                metadata.pop(empty, None)
    assert fixed == pvc


@settings(max_examples=300)
@given(_pvcs)
def test_what_is_admitted_with_all_keys_is_what_forklift_would_match(pvc: dict[str, Any]) -> None:
    verdict = _judged(_parsed(pvc), _SOURCES)
    metadata = pvc["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if isinstance(verdict, Denied) or not (labels.get(VM_ID) and labels.get(VM_UUID)):
        return
    vm = BASE["vsphere"][labels[VM_ID]]
    assert labels[VM_UUID] == vm["uuid"]
    wanted = trim_backing_file(annotations[DISK_SOURCE])
    assert [trim_backing_file(disk["file"]) for disk in vm["disks"]].count(wanted) == 1


@given(
    st.from_regex(
        r"[0-9]{1,12}(\.[0-9]{1,3})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[0-9])?", fullmatch=True
    )
)
def test_a_quantity_is_what_the_api_server_takes_it_for(text: str) -> None:
    from fractions import Fraction

    digits = text.rstrip("numkKMGTPEie") if "e" not in text else text.partition("e")[0]
    suffix = text[len(digits) :]
    scale = {
        "": Fraction(1), "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000),
        "k": Fraction(1000),
        **{s: Fraction(1000) ** (i + 2) for i, s in enumerate("MGTPE")},
        **{f"{s}i": Fraction(1024) ** (i + 1) for i, s in enumerate("KMGTPE")},
    }  # fmt: skip
    factor = Fraction(10) ** int(suffix[1:]) if suffix.startswith("e") else scale[suffix]
    number = quantity.parse(text)
    assert number is not None
    exact = Fraction(digits) * factor
    billionths = min(math.ceil(exact * 10**9), (2**63 - 1) * 10**9)
    assert Fraction(number) == Fraction(billionths, 10**9)
