"""A rule that judges a Plan, and then the Migration that starts it."""

import asyncio
from typing import Any

import msgspec
import pytest

from tests.cases import BASE, PATIENCE, READY_PLAN, Case, all_cases, review_of
from webhook.engine.judge import decide
from webhook.model.review import Admitted, Denied, Verdict
from webhook.server.codec import read_review

ABSENT = next(case for case in all_cases() if case.id == "plan-luks-secret/fail/absent")
RULE = "plan-luks-secret"


def judged(
    obj: dict[str, Any], old: Any = None, *, case: Case = ABSENT, **settings: Any
) -> Verdict:
    case = msgspec.structs.replace(case, settings={"trustNetwork": True, **settings})
    review = read_review(msgspec.json.encode(review_of(obj, old)))

    async def verdict() -> Verdict:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        return await decide(review, case.sources(), deadline)

    return asyncio.run(verdict())


def plan(**vm: Any) -> dict[str, Any]:
    return {**READY_PLAN, "spec": {**READY_PLAN["spec"], "vms": [{"id": "vm-178", **vm}]}}


@pytest.mark.parametrize(
    ("action", "verdict", "warned"),
    [
        ("deny", Denied, False),
        ("warn", Admitted, True),
        ("audit", Admitted, False),
        ("off", Admitted, False),
    ],
)
def test_one_setting_is_for_both(action: str, verdict: type, warned: bool) -> None:
    said = judged(BASE["Migration"], rules={RULE: action})
    assert isinstance(said, verdict)
    assert any(RULE in warning for warning in said.warnings) is warned
    assert (RULE in said.audit.get("rules", "")) is (action != "off")


def test_at_the_plan_even_an_explicit_denial_warns() -> None:
    case = msgspec.structs.replace(ABSENT)
    assert case.there is not None
    rights = (*case.there.rights, "get secrets")
    case.there = msgspec.structs.replace(case.there, rights=rights)
    said = judged(plan(luks={"name": "keys"}), case=case, rules={RULE: "deny"})
    assert isinstance(said, Admitted)
    assert [RULE in warning for warning in said.warnings] == [True]
    unchanged = plan(luks={"name": "keys"})
    annotated = {**unchanged, "spec": {**unchanged["spec"], "description": "x"}}
    said = judged(annotated, unchanged, case=case)
    assert isinstance(said, Admitted)
    assert said.warnings == (), "what was there before is not judged again"
    said = judged(unchanged, plan(), case=case)
    assert [RULE in warning for warning in said.warnings] == [True], "a Secret is named now"


def test_the_migration_of_a_plan_in_another_namespace_tells_no_secret() -> None:
    elsewhere = {**BASE["Migration"], "metadata": {"name": "start", "namespace": "elsewhere"}}
    said = judged(elsewhere)
    assert isinstance(said, Denied)
    assert "keys" not in str(said)
    assert "Secret" not in str(said)
