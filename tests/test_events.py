"""How many Events a Plan gets, whatever a controller does."""

from unittest.mock import ANY

import pytest

from webhook.cluster.events import Events, _refusal, _slip

RULES = ("migration-disks",)


def test_retries_and_floods_make_few_events() -> None:
    results: list[str] = []
    events = Events(results.append)
    for _ in range(1000):
        events.refused("mtv", "plan", RULES)
    assert results == ["spared"] * 999
    for number in range(1000):
        events.refused("mtv", f"plan-{number}", RULES)
    assert len(results) == 999 + 901, "a hundred wait for their turn"


def test_replicas_name_the_same_event_alike_and_another_differently() -> None:
    def name(rules: tuple[str, ...] = RULES, at: float = 600.0, plan: str = "plan") -> str:
        made: str = _refusal("mtv", plan, "uid", rules, at)["metadata"]["name"]
        return made

    assert name() == name(at=899.0)
    assert len({name(), name(at=900.0), name(("plan-vm",)), name(plan="other")}) == 4
    assert len(name(plan="p" * 253)) <= 253


def test_a_label_that_is_a_slip_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    results: list[str] = []
    events = Events(results.append)
    for value in ("warn", "wran", "wran", "deny", "wran", ""):
        events.labelled("vms", value)
    told = [line for line in caplog.messages if 'is "wran", which changes nothing' in line]
    assert len(told) == 2, "once more after it was right"
    assert "write deny, warn or audit" in told[0]


def test_all_replicas_name_the_event_on_a_namespace_alike() -> None:
    assert _slip("vms", "wran", 1.0) == {**_slip("vms", "wran", 9e9), "eventTime": ANY}
    assert _slip("vms", "wran", 1.0)["metadata"] != _slip("vms", "x", 1.0)["metadata"]
