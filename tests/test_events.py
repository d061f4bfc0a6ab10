"""How many Events a Plan gets, whatever a controller does."""

from webhook.cluster.events import PlanEvents, _event

RULES = ("migration-disks",)


def test_retries_and_floods_make_few_events() -> None:
    results: list[str] = []
    events = PlanEvents(results.append)
    for _ in range(1000):
        events.refused("mtv", "plan", RULES)
    assert results == ["spared"] * 999
    for number in range(1000):
        events.refused("mtv", f"plan-{number}", RULES)
    assert len(results) == 999 + 901, "a hundred wait for their turn"


def test_replicas_name_the_same_event_alike_and_another_differently() -> None:
    def name(rules: tuple[str, ...] = RULES, at: float = 600.0, plan: str = "plan") -> str:
        made: str = _event("mtv", plan, "uid", rules, at)["metadata"]["name"]
        return made

    assert name() == name(at=899.0)
    assert len({name(), name(at=900.0), name(("plan-vm",)), name(plan="other")}) == 4
    assert len(name(plan="p" * 253)) <= 253
