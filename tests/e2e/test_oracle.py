"""The oracle of the random faults itself: a wrong verdict is told, a right one isn't."""

from math import inf

import pytest

from tests.e2e.faults.oracle import SLACK, Asked, Truth, Verdict, fault

SILENCE, NOW = 5.0, 1000.0
LONG_AGO, JUST_NOW = NOW - SILENCE - SLACK - 1, NOW - 1
RIGHT, NEVER = Truth(), Truth(vsphere=-inf)
AGE = '299 - "checked with the inventory of 0:00:09 ago: it has been unreachable"'


def told(
    kind: str,
    verdict: Verdict,
    before: Truth = RIGHT,
    after: Truth | None = None,
    *warnings: str,
) -> str | None:
    after = before if after is None else after
    asked = Asked(kind, "it", NOW, NOW + 3, before, after, verdict, warnings=warnings)
    return fault(asked, SILENCE)


@pytest.mark.parametrize("kind", ["disk", "claim", "plan", "migration"])
class TestOneVerdictIsRight:
    def test_a_denial_of_what_is_right_is_wrong(self, kind: str) -> None:
        assert "denied, though nothing forbids it" in str(told(kind, "denied"))

    def test_an_admission_of_what_was_never_right_is_wrong(self, kind: str) -> None:
        assert "allowed, though vSphere has forbidden it" in str(told(kind, "allowed", NEVER))

    def test_so_is_one_of_what_has_not_been_right_for_long(self, kind: str) -> None:
        gone, claimed = Truth(vsphere=LONG_AGO), Truth(cluster=LONG_AGO)
        assert "allowed, though vSphere has" in str(told(kind, "allowed", gone))
        assert "allowed, though the cluster has" in str(told(kind, "allowed", claimed))

    def test_the_right_one_is_right(self, kind: str) -> None:
        assert told(kind, "allowed") is None
        assert told(kind, "denied", NEVER) is None
        assert told(kind, "denied", Truth(cluster=JUST_NOW)) is None

    @pytest.mark.parametrize("truth", [RIGHT, NEVER])
    @pytest.mark.parametrize("verdict", ["undecided", "lost"])
    def test_none_is_right_whatever_is_so(self, kind: str, verdict: Verdict, truth: Truth) -> None:
        assert told(kind, verdict, truth) is None


@pytest.mark.parametrize("verdict", ["allowed", "denied"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (RIGHT, NEVER),
        (NEVER, RIGHT),
        (Truth(-inf, versions=(2, 2)), Truth(-inf, versions=(4, 4))),
        (Truth(versions=(2, 3)), Truth(versions=(2, 3))),
    ],
)
def test_amid_a_change_either_is_right(verdict: Verdict, before: Truth, after: Truth) -> None:
    assert told("migration", verdict, before, after) is None


def test_where_nothing_changed_one_is() -> None:
    still = Truth(-inf, versions=(2, 2))
    assert told("migration", "allowed", still, still) is not None


class TestWhatIsFollowed:
    def test_an_admission_may_be_as_old_as_the_silence(self) -> None:
        for truth in (Truth(vsphere=JUST_NOW), Truth(cluster=JUST_NOW)):
            assert told("disk", "allowed", truth) is None
            assert told("migration", "allowed", truth) is not None, "gates read afresh"

    def test_an_older_one_says_so(self) -> None:
        gone, claimed = Truth(vsphere=LONG_AGO), Truth(cluster=LONG_AGO)
        assert told("disk", "allowed", gone, None, AGE) is None
        assert told("disk", "allowed", claimed, None, AGE) is not None, "of vSphere it speaks"
        assert told("migration", "allowed", gone, None, AGE) is not None, "gates read afresh"


def test_another_kind_of_migration_is_let_through_whatever_fails() -> None:
    for verdict in ("denied", "undecided"):
        assert "none of the guard's business" in str(told("cold", verdict))
    assert told("cold", "allowed") is None
    assert told("cold", "lost") is None
