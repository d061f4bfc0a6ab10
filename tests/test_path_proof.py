"""The path by which callers are proven: what is in the Secret, in the webhooks, and counts."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_authority import NOW, Clock, Cluster, Replica
from webhook import tls
from webhook.model import calls
from webhook.tls.path_proof import PathProof
from webhook.tls.paths import LIFE, Paths, fresh, of_secret, renewed

SECOND = timedelta(seconds=1)
LOOK = 5 * SECOND
HELD = fresh(NOW)
CHANGING = fresh(NOW, "0" * 64)
times = st.timedeltas(-3 * LIFE, 3 * LIFE).map(lambda passed: NOW + passed)
ends = st.sampled_from([HELD.new, CHANGING.new, CHANGING.old])


@given(st.sampled_from([HELD, CHANGING]), times, st.booleans(), st.sets(ends), st.sets(ends))
def test_what_was_shown_counts_no_more_and_nothing_is_due_twice(
    held: Paths, now: datetime, settled: bool, worn: Collection[str], shown: Collection[str]
) -> None:
    once = renewed(held, now, settled=settled, worn=worn, shown=shown)
    assert not set(once.counting) & set(shown)
    assert renewed(once, now, settled=False, worn=worn, shown=shown) == once
    assert of_secret(once.data()) == once
    assert all(map(calls.made, once.counting))
    if not shown:
        assert held.new in once.counting, "what is called goes on counting"
    if once.new != held.new:
        assert once.new not in (*held.counting, *worn, *shown)


def test_it_changes_every_hour_whoever_has_the_wrong_time() -> None:
    for passed, new in (
        (LIFE - SECOND, False),
        (LIFE, True),
        (SECOND - LIFE, False),
        (-LIFE, True),
    ):
        assert (renewed(HELD, NOW + passed, settled=True).new != HELD.new) is new


def test_no_change_begins_before_the_last_one_has_ended() -> None:
    worn = CHANGING.counting
    assert renewed(CHANGING, NOW + LIFE, settled=False, worn=worn) == CHANGING
    assert renewed(CHANGING, NOW + LIFE, settled=True, worn=worn).old == CHANGING.new


@pytest.mark.parametrize(
    "change",
    [
        {"path": b""},
        {"path": b"0" * 63},
        {"path": b"\xff" * 64},
        {"path.old": b"../" * 10},
        {"path.made": b"yesterday"},
        {"path.made": b"2026-11-29T12:00:00"},
        {"path.made": None},
    ],
    ids=str,
)
def test_what_no_guard_has_made_is_no_path(change: Mapping[str, bytes | None]) -> None:
    assert of_secret({k: v for k, v in {**HELD.data(), **change}.items() if v is not None}) is None


def test_a_path_is_not_printed() -> None:
    assert HELD.new not in f"{HELD} {HELD!r} {[HELD]}"


def test_a_path_that_nobody_has_looked_after_for_a_minute_proves_nobody() -> None:
    passed = 0.0
    proof = tls.PathProof(lambda: passed)
    proof.count(HELD.counting)
    assert proof.proven(HELD.new.encode())
    assert not any(map(proof.proven, (b"", b"0" * 64, HELD.new.encode()[:-1], b"\xff")))
    passed = 61.0
    assert not proof.proven(HELD.new.encode())
    proof.count(HELD.counting)
    assert proof.proven(HELD.new.encode())


class World:
    """Two replicas, and an API server that calls by what the webhooks have."""

    def __init__(self) -> None:
        self.cluster, self.clock = Cluster(), Clock()
        self.seconds = 0.0
        self.replicas: list[Replica] = []
        self.proofs: list[tls.PathProof] = []
        for _ in range(2):
            self.start(len(self.replicas))

    def start(self, at: int) -> None:
        proof = tls.PathProof(lambda: self.seconds)
        replica = Replica(self.cluster, self.clock, proof)
        self.replicas[at : at + 1], self.proofs[at : at + 1] = [replica], [proof]
        replica.look()

    def passes(self, looks: int = 1) -> None:
        """Five seconds, and a look of each replica."""
        for _ in range(looks):
            self.clock.now += LOOK
            self.seconds += LOOK.total_seconds()
            for replica in self.replicas:
                replica.look()

    @property
    def called(self) -> str:
        """The end of the path that every webhook has."""
        (end,) = set(self.cluster.ends.values())
        assert end
        return end

    def proven(self, end: str) -> list[bool]:
        """Whether a request by it is, at each replica."""
        return [proof.proven(end.encode()) for proof in self.proofs]

    def replaces(self, before: str, looks: int = 12) -> None:
        """By then, another path is called and this one worthless; nobody is unproven meanwhile."""
        for _ in range(looks):
            self.passes()
            assert self.proven(self.called) == [True, True]
        assert self.called != before
        assert self.proven(before) == [False, False]


def test_a_first_install_is_proven_at_once_and_each_start_changes_the_path() -> None:
    world = World()
    first = world.called
    assert world.proven(first) == [True, True]
    world.replaces(first, looks=20)  # the second replica has found it there
    before, writes = world.called, world.cluster.writes
    world.passes(20)
    assert (world.called, world.cluster.writes) == (before, writes)
    world.start(0)
    world.replaces(before)


def test_every_hour_nobody_is_unproven_for_a_moment() -> None:
    world = World()
    world.passes(30)
    for _ in range(3):
        before = world.called
        world.clock.now += LIFE
        world.replaces(before)


def test_what_a_failed_call_has_shown_is_worth_nothing_there_at_once_and_soon_elsewhere() -> None:
    world = World()
    world.passes(30)
    shown = world.called
    world.proofs[0].failed()
    assert world.proven(shown) == [False, True]
    world.passes()
    assert world.proven(shown) == [False, False]
    world.passes(4)
    assert world.called != shown
    assert world.proven(world.called) == [True, True]


def test_a_path_that_is_shown_while_it_does_not_count_never_counts_again() -> None:
    now = 0.0
    proof = PathProof(lambda: now)
    end = "a" * 64
    proof.count([end])
    proof.failed(b"another")
    assert proof.proven(end.encode())
    now += 3600  # the Secret could not be read
    proof.failed(end.encode())
    proof.count([end])
    assert not proof.proven(end.encode())


def test_calls_that_fail_all_the_time_change_webhooks_at_a_bounded_rate() -> None:
    world = World()
    world.passes(30)
    changes, before = 0, world.called
    for _ in range(12 * 10):
        world.passes()
        changes, before = changes + (world.called != before), world.called
        for proof in world.proofs:
            proof.failed()
        assert world.proven(world.called) == [False, False]
    assert changes == 0
    world.passes(5)
    assert world.proven(world.called) == [True, True]


@pytest.mark.parametrize("lost", [None, {"path": b"junk"}], ids=["deleted", "garbled"])
def test_a_secret_that_is_lost_proves_on_what_is_called(lost: dict[str, bytes] | None) -> None:
    world = World()
    world.passes(30)
    before = world.called
    world.cluster.put(None if lost is None else (world.cluster.secret or {}) | lost)
    world.replaces(before)


def test_a_path_that_somebody_overwrites_is_put_back() -> None:
    world = World()
    world.passes(30)
    before = world.called
    for there in ("", None):
        world.cluster.ends["mutating"] = there
        world.passes()
        assert world.called == before


steps = st.lists(
    st.sampled_from(["look", "one", "other", "restart", "fail", "hour", "delete", "overwrite"]),
    min_size=5,
    max_size=30,
)


@settings(max_examples=30)
@given(steps)
def test_whatever_happens_it_heals_and_what_was_shown_stays_worthless(
    happenings: list[Any],
) -> None:
    world = World()
    world.passes(30)
    shown: set[str] = set()
    for what in happenings:
        match what:
            case "look":
                world.passes()
            case "one":
                world.replicas[0].look()
            case "other":
                world.replicas[1].look()
            case "restart":
                world.start(1)
            case "fail":
                called = [end for end in world.cluster.ends.values() if end]
                shown |= {end for end in called if world.proven(end)[0]}
                world.proofs[0].failed()
            case "hour":
                world.clock.now += LIFE
            case "delete":
                world.cluster.put(None)
            case "overwrite":
                world.cluster.ends["mutating"] = ""
                world.replicas[0].look()
    world.passes(24)
    assert world.proven(world.called) == [True, True]
    assert not any(any(world.proven(end)) for end in shown)
    world.passes(24)
    before = world.called
    world.passes(24)
    assert world.called == before, "it comes to rest"
