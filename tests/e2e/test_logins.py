"""Replicas and a wrong password: one of them tries it, by a Lease of the real API server."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.bed import Vcsim, eventually
from tests.e2e.world import TARGET, World
from tests.live import following, live_address
from tests.middleman import middleman
from webhook.cluster import Cluster
from webhook.runtime.logins import Logins
from webhook.vsphere.refusals import Refusals

pytestmark = pytest.mark.e2e


@contextmanager
def cluster_of(world: World) -> Iterator[tuple[Cluster, asyncio.AbstractEventLoop]]:
    """An open cluster, and the event loop of a thread that it is used in."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(what: object) -> object:
        return asyncio.run_coroutine_threadsafe(what, loop).result(60)  # type: ignore[arg-type]

    opening = Cluster.open(world.bed.kubeconfig())
    try:
        cluster = run(opening.__aenter__())
        assert isinstance(cluster, Cluster)
        yield cluster, loop
        run(opening.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def replica(name: str, cluster: Cluster, loop: asyncio.AbstractEventLoop) -> Logins:
    made = Logins(TARGET, name)

    async def opened() -> None:
        made.open(cluster)

    asyncio.run_coroutine_threadsafe(opened(), loop).result(60)
    return made


def test_a_wrong_password_is_tried_by_one_replica_and_the_right_one_by_all(
    world: World, vcsim: Vcsim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook.vsphere.source._PASSWORD_LOOKS", 0.1)
    monkeypatch.setattr("webhook.vsphere.source._PAUSES", (0.1, 0.1))
    with middleman(vcsim) as man, cluster_of(world) as (cluster, loop), ExitStack() as stack:
        right = live_address(vcsim, tmp_path, url=f"https://127.0.0.1:{man.port}/sdk")
        passwords = ["wrong"]
        address = replace(right, password=lambda: passwords[-1])
        inventories = []
        for name in ("a", "b", "c"):
            turn = replica(name, cluster, loop)
            source = following(address, name=name, refusals=Refusals(), turn=turn)
            inventories.append(stack.enter_context(source))
        eventually(lambda: all(one.unreachable_since for one in inventories), "nobody is in")
        waiting = "another replica tries to log in first, for all of them"
        refused = "user or password is wrong"
        expected = sorted([refused, waiting, waiting])
        eventually(lambda: sorted(one.cause for one in inventories) == expected, "who waits")
        assert man.calls["Login"] == 1
        passwords.append(right.password())
        eventually(lambda: all(one.synced for one in inventories), "everybody is in")
        assert man.calls["Login"] == 4
