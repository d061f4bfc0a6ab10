"""A vSphere behind a network that fails: black holes, cuts at any byte, trickles, and no leak."""

import itertools
import logging
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.bed import Vcsim, eventually
from tests.live import following, fresh, live_address
from tests.proxy import Proxy, proxy
from webhook.errors import VsphereUnreachable

pytestmark = pytest.mark.simulator


@pytest.fixture
def between(vcsim: Vcsim) -> Iterator[Proxy]:
    with proxy(vcsim.port) as between:
        yield between


def through(between: Proxy, vcsim: Vcsim, folder: Path) -> Any:
    return live_address(vcsim, folder, url=f"https://127.0.0.1:{between.port}/sdk")


def test_a_black_hole_from_the_start(
    vcsim: Vcsim, between: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections are accepted, and nothing answers."""
    monkeypatch.setattr("webhook.vsphere.session.CONNECT", 0.3)
    between.mood = "hole"
    with following(through(between, vcsim, tmp_path)) as inventory:
        eventually(lambda: inventory.unreachable_since, "the hole")
        assert "did not answer in time" in inventory.cause
        between.mood = "pass"
        eventually(lambda: inventory.synced, "the first read")


def test_a_black_hole_in_the_middle(
    vcsim: Vcsim, between: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook.vsphere.collector.QUICK", 0.5)
    monkeypatch.setattr("webhook.vsphere.connection.CONNECT", 0.3)
    monkeypatch.setattr("webhook.vsphere.session.QUICK", 0.5)
    with following(through(between, vcsim, tmp_path), silence=2.0) as inventory:
        eventually(lambda: inventory.synced, "the first read")
        between.mood = "hole"
        with pytest.raises(
            VsphereUnreachable, match=r"prod has been unreachable since 20.*in time"
        ):
            fresh(inventory, morefs=["vm-1"])
        eventually(lambda: inventory.unreachable_since, "the hole")
        assert len(inventory.vms) == 4, "what is known stays known"
        between.mood = "pass"
        eventually(lambda: inventory.unreachable_since is None, "it is back")


def test_a_trickle_is_slow_and_right(vcsim: Vcsim, between: Proxy, tmp_path: Path) -> None:
    between.trickle = 7
    with following(through(between, vcsim, tmp_path)) as inventory:
        eventually(lambda: inventory.synced, "the first read")
        assert len(inventory.vms) == 4


# CPython drops the socket of a connection that is reset before its handshake; files are counted.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.timeout(900)  # what counts is what is left, not how long
def test_hundreds_of_cuts_at_any_byte_leave_nothing_behind(
    pytestconfig: pytest.Config,
    vcsim: Vcsim,
    between: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    monkeypatch.setattr("webhook.vsphere.source._PAUSES", (0.0, 0.0))
    monkeypatch.setattr("webhook.vsphere.session.QUICK", 1.0)  # an answer that never comes is rare
    caplog.set_level(logging.ERROR)
    between.budgets = (chance.randrange(40_000) for _ in itertools.count())
    # So short that no wait is held: there is no silence in which nothing is cut.
    with following(through(between, vcsim, tmp_path), silence=2.0) as inventory:
        eventually(lambda: inventory.synced, "the first read")
        truth = {vm.moref: vm for vm in inventory.vms}
        between.mood = "cut"

        def cut(times: int) -> tuple[int, int, int]:
            enough = between.cuts + times
            eventually(lambda: between.cuts >= enough, f"{times} more cuts", 800)
            return threading.active_count(), len(list(Path("/proc/self/fd").iterdir())), _resident()

        cut(100)  # what is made once is made by then
        threads, files, memory = cut(100)
        after = cut(1000 if pytestconfig.getoption("--soak") else 250)
        assert abs(after[0] - threads) <= 8, "the proxy's own, two a connection, come and go"
        assert abs(after[1] - files) <= 16
        assert after[2] - memory < 4 * 2**20
        between.mood = "pass"
        eventually(lambda: inventory.unreachable_since is None, "it is back")
        assert {vm.moref: vm for vm in inventory.vms} == truth
        with vcsim.connect() as instance:
            # Logged out after each cut but those that took away the answer to the login itself.
            assert len(instance.RetrieveContent().sessionManager.sessionList) < 50
    assert not caplog.records


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
