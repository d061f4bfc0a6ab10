"""When a guard is ready: by a clock of the test's own."""

import httpx
import pytest

from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.inventory.cluster import Followed
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.model.forklift import Release
from webhook.model.objects import Provider
from webhook.server.health import health

pytestmark = pytest.mark.anyio


async def _readiness(followed: Followed | None, *seconds: float) -> list[int]:
    """What /readyz answers so many seconds after the start."""
    clock = [0.0]
    inventory = Inventory([ProviderInventory(Provider("mtv", "vsphere"))])
    sources = Sources(inventory, Policy(), lambda: clock[0], followed)
    app = health(sources, lambda: False, lambda: True, tuple)
    answers = []
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="https://guard"
    ) as client:
        for clock[0] in seconds:
            answers.append((await client.get("/readyz")).status_code)
    return answers


async def test_a_first_read_is_waited_for_but_not_for_ever() -> None:
    assert await _readiness(None, 0, 59, 61) == [503, 503, 200]


async def test_who_has_never_seen_the_plans_gets_no_migration_to_judge() -> None:
    """It would have to admit every one: another replica knows more, and if there is none, the
    webhook's failurePolicy decides the same."""
    followed = Followed()
    assert await _readiness(followed, 61, 3600) == [503, 503]
    followed.plans.heard(3600)
    assert await _readiness(followed, 59, 61) == [503, 200], "for the rest it waits as before"
    for known in (followed.claims, followed.classes, followed.enforced):
        known.heard(0)
    followed.release = Release()
    assert await _readiness(followed, 59) == [503], "its vCenter has not been read"
