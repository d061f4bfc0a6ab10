"""Day 2: nothing stands in the way of copies of converted PVCs, and of what releases a PVC."""

import asyncio
from typing import Any

import msgspec
import pytest

from tests.cases import BASE, review_of
from webhook.cli.demo import merged
from webhook.engine.judge import decide
from webhook.engine.sources import Sources
from webhook.inventory.cluster import Followed
from webhook.inventory.provider import Inventory
from webhook.model import marks
from webhook.model.keys import DISK_SOURCE, VM_ID, VM_UUID
from webhook.model.review import Admitted, Undecided, Verdict
from webhook.runtime.sources import policy
from webhook.server.codec import read_review
from webhook.settings import Settings

PVC = BASE["PersistentVolumeClaim"]
MARKS: list[dict[str, Any]] = [
    *({"annotations": {mark: "x"}} for mark in sorted({marks.BOUND, *marks.ANNOTATIONS})),
    *({"labels": {mark: "x"}} for mark in sorted(marks.LABELS)),
    *({"ownerReferences": [{"kind": kind}]} for kind in sorted(marks.OWNER_KINDS)),
]


class Nobody:
    """A cluster that must not be asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"asked for {name}")


def judged(obj: Any, old: Any = None, user: str = "vendor", **known: Any) -> Verdict:
    """The verdict of a guard that knows no provider any more."""
    sources = Sources(Inventory([]), policy(Settings()), lambda: 0.0, **known)
    change: Any = {"userInfo": {"username": user}}

    async def answer() -> Verdict:
        review = read_review(msgspec.json.encode(review_of(obj, old, **change)))
        return await decide(review, sources, asyncio.get_running_loop().time() + 60)

    return asyncio.run(answer())


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: str(next(iter(mark.values())))[:70])
def test_a_copy_is_admitted_with_a_warning_when_every_provider_is_gone(mark: Any) -> None:
    assert isinstance(judged(PVC), Undecided)
    verdict = judged(merged(PVC, {"metadata": mark}))
    assert isinstance(verdict, Admitted)
    assert verdict.warnings


def test_the_source_alone_is_taken_off_with_a_warning_and_asks_nobody() -> None:
    bare = merged(PVC, {"metadata": {"annotations": {DISK_SOURCE: None}}})
    verdict = judged(bare, PVC, followed=Followed(), cluster=Nobody())
    assert isinstance(verdict, Admitted)
    (warning,) = verdict.warnings
    assert f"kubectl label pvc disk-0 -n migrated-workloads {VM_ID}- {VM_UUID}-" in warning


def test_all_three_are_taken_off_without_a_word() -> None:
    labels = {VM_ID: None, VM_UUID: None}
    free = {"metadata": {"labels": labels, "annotations": {DISK_SOURCE: None}}}
    verdict = judged(merged(PVC, free), PVC, followed=Followed(), cluster=Nobody())
    assert verdict == Admitted()


@pytest.mark.parametrize("user", sorted(Settings().importers))
def test_what_cdi_makes_for_a_populator_is_no_vendors(user: str) -> None:
    prime = merged(PVC, {"metadata": {"name": "prime-6b1f0000"}})
    verdict = judged(prime, user=user)
    assert isinstance(verdict, Admitted)
    assert verdict.skipped == "importer"
    assert isinstance(judged(prime, user="someone"), Undecided)
