"""Every case of tests/fixtures, as pure rules and through the web application's own bytes."""

import asyncio
import base64
from typing import Any

import httpx
import jsonpatch
import msgspec
import pytest

from tests.cases import (
    DEFAULT_IDS,
    FIXTURES,
    PATIENCE,
    RULE_IDS,
    Case,
    Expect,
    all_cases,
    recorded,
    repaired,
    review_of,
)
from webhook.engine.judge import decide
from webhook.engine.repair import repair
from webhook.facts.facts import PlanFacts
from webhook.metrics import Metrics
from webhook.model.review import PVC, Admitted, Denied, Review, Undecided
from webhook.rules import RULES
from webhook.server import codec
from webhook.server.app import Admission

CASES = all_cases()
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


def test_every_rule_and_default_has_passing_and_failing_cases_and_no_folder_is_an_orphan() -> None:
    ids = {*RULE_IDS, *DEFAULT_IDS}
    assert {path.name for path in FIXTURES.iterdir() if path.is_dir()} == ids
    for rule in ids:
        fails = [case.fails for case in CASES if case.rule == rule]
        few = f"{rule}: {fails.count(False)} passing and {fails.count(True)} failing cases"
        assert fails.count(False) >= 2, few
        assert fails.count(True) >= 3, few


@each_case
def test_case_by_the_engine(case: Case, request: pytest.FixtureRequest) -> None:
    answer = asyncio.run(_by_the_engine(case))
    if request.config.getoption("--update-fixtures"):
        case.update(answer)
        return
    assert answer == case.expect
    _check_meaning(case)


@each_case
def test_case_by_http(case: Case) -> None:
    assert asyncio.run(_by_http(case)) == case.expect


@each_case
def test_repair_is_idempotent(case: Case) -> None:
    sources = case.sources()
    first = repaired(_parsed(case, case.object), sources)
    again = _parsed(case, _patched(case.object, first))
    assert repaired(again, sources).patch == ()


def _check_meaning(case: Case) -> None:
    """A failing case draws its own rule's finding, no other denial; a passing one none."""
    expect = case.expect
    if case.rule in DEFAULT_IDS:
        assert expect.verdict == "admitted"
        assert bool(expect.patch) == case.fails
        return
    denied, warned = _rules(expect.causes), _rules(expect.warnings)
    rule = next(rule for rule in RULES if rule.id == case.rule)
    begun = case.there is not None and case.there.started
    early = rule.facts is PlanFacts and rule.again and case.object["kind"] == "Plan" and not begun
    action = "warn" if early and rule.action == "deny" else rule.action
    assert expect.verdict == ("denied" if case.fails and action == "deny" else "admitted")
    if action == "deny":
        assert denied == ({case.rule} if case.fails else set())
    else:
        found = warned if action == "warn" else set(expect.recorded)
        assert (case.rule in found) == case.fails


def _rules(told: list[str]) -> set[str]:
    return {text.rpartition("(conversion-guard: ")[2].rstrip(")") for text in told}


async def _by_the_engine(case: Case) -> Expect:
    sources = case.sources()
    deadline = asyncio.get_running_loop().time() + PATIENCE
    mutated = await repair(_parsed(case, case.object), sources, deadline)
    obj = _patched(case.object, mutated)
    verdict = await decide(_parsed(case, obj), sources, deadline)
    expect = Expect(
        verdict=type(verdict).__name__.lower(),
        patch=_operations(mutated),
        warnings=list(verdict.warnings),
    )
    if isinstance(verdict, Denied):
        expect.causes = [f"{cause.field}: {cause}" for cause in verdict.causes]
    elif isinstance(verdict, Undecided):
        expect.message = verdict.message
    expect.recorded = recorded(expect, verdict.audit)
    return expect


async def _by_http(case: Case) -> Expect:
    transport = httpx.ASGITransport(Admission(case.sources, Metrics()))
    async with httpx.AsyncClient(transport=transport, base_url="https://guard") as client:
        mutated = await _post(client, "/mutate", review_of(case.object, case.old))
        patch = msgspec.json.decode(base64.b64decode(mutated.get("patch", "")) or b"[]")
        obj = jsonpatch.apply_patch(case.object, patch)
        validated = await _post(client, "/validate", review_of(obj, case.old))
    assert "patch" not in validated
    status = validated.get("status", {})
    verdict = {422: "denied", 503: "undecided"}.get(status.get("code"), "admitted")
    assert validated["allowed"] == (verdict == "admitted")
    causes = status.get("details", {}).get("causes", [])
    expect = Expect(
        verdict=verdict,
        patch=patch,
        causes=[f"{cause['field']}: {cause['message']}" for cause in causes],
        warnings=validated.get("warnings", []),
        message=status["message"] if verdict == "undecided" else "",
    )
    expect.recorded = recorded(expect, validated.get("auditAnnotations", {}))
    return expect


async def _post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(f"{path}?timeout=5s", json=body)
    assert answer.status_code == 200
    response: dict[str, Any] = answer.json()["response"]
    assert response["uid"] == body["request"]["uid"]
    return response


def _parsed(case: Case, obj: dict[str, Any]) -> Review:
    return codec.read_review(msgspec.json.encode(review_of(obj, case.old)))


def _operations(verdict: Admitted) -> list[dict[str, Any]]:
    answer = msgspec.json.decode(codec.render(_ANY, verdict))
    encoded = answer["response"].get("patch", "")
    operations: list[dict[str, Any]] = msgspec.json.decode(base64.b64decode(encoded) or b"[]")
    return operations


def _patched(obj: dict[str, Any], verdict: Admitted) -> dict[str, Any]:
    patched: dict[str, Any] = jsonpatch.apply_patch(obj, _operations(verdict))
    return patched


_ANY = Review(uid="u", kind=PVC, operation="CREATE")
