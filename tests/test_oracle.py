"""What the real Forklift did, row by row (tests/oracle.yaml): whatever ended with the source VM off
is refused when its Migration is created, and whatever succeeded is admitted by each webhook."""

import asyncio
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import pytest

from tests.cases import BASE, Case, Expect, File, case_of, review_of
from webhook.cli.demo import merged
from webhook.engine.judge import decide
from webhook.facts.facts import ConvertingFacts
from webhook.model.review import Admitted, Denied, Verdict
from webhook.rules import RULES
from webhook.server import codec

FILE = Path(__file__).parent / "oracle.yaml"


class _Seen(msgspec.Struct, forbid_unknown_fields=True):
    """One scenario, in the words of tests/fixtures."""

    what: str
    object: dict[str, Any] = {}
    vsphere: dict[str, Any] = {}
    folders: list[dict[str, Any]] = []
    plan: dict[str, Any] = {}
    pvcs: dict[str, Any] = {}
    classes: list[dict[str, Any]] = []
    standing: dict[str, Any] = {}
    surroundings: list[dict[str, Any]] = []
    release: str = "2.12.1"
    """Of the Forklift in the cluster."""
    by: dict[str, list[str]] = {}
    verdict: Literal["", "denied"] = ""
    """Of the Migration, where how it ended asks for none."""
    unknown: str = ""


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    row: str
    forklift: Literal["Off", "Harm", "Succeeded", "On", "unlike"]
    seen: str
    cases: list[_Seen]


class _Oracle(msgspec.Struct, forbid_unknown_fields=True):
    whole: dict[str, Any]
    rows: list[_Row]


ORACLE = msgspec.yaml.decode(FILE.read_bytes(), type=_Oracle)


class Scenario(NamedTuple):
    row: _Row
    seen: _Seen

    @property
    def judged(self) -> bool:
        return not self.seen.unknown

    def case(self) -> Case:
        seen = self.seen
        pvcs = merged(ORACLE.whole, seen.pvcs)
        file = {
            "why": seen.what,
            "object": {"kind": "Migration", **seen.object},
            "vsphere": seen.vsphere,
            "folders": seen.folders,
            "settings": {"trustNetwork": True},
            "cluster": {
                "plan": seen.plan,
                "pvcs": [merged({"metadata": {"name": name}}, pvc) for name, pvc in pvcs.items()],
                "classes": seen.classes,
                "standing": seen.standing,
                "surroundings": seen.surroundings,
                "forklift": seen.release,
            },
            "expect": Expect(),
        }
        return case_of(msgspec.convert(file, File), FILE)


SCENARIOS = [Scenario(row, seen) for row in ORACLE.rows for seen in row.cases]


def each(scenarios: list[Scenario]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "scenario", scenarios, ids=lambda one: f"{one.row.row}: {one.seen.what}"
    )


@each([one for one in SCENARIOS if one.judged])
def test_what_ended_off_is_refused_and_what_succeeded_is_admitted(scenario: Scenario) -> None:
    answers = asyncio.run(_answers(scenario.case()))
    gate = next(verdict for kind, verdict in answers if kind == "Migration")
    if scenario.row.forklift in ("Off", "Harm") or scenario.seen.verdict == "denied":
        assert isinstance(gate, Denied), gate
    elif scenario.row.forklift == "Succeeded":
        assert not [verdict for _, verdict in answers if not isinstance(verdict, Admitted)]


@each([one for one in SCENARIOS if one.judged or one.seen.by])
def test_the_rules_that_answer_are_the_ones_that_are_written(scenario: Scenario) -> None:
    answers = asyncio.run(_answers(scenario.case()))
    for kind, rules in scenario.seen.by.items():
        found: set[str] = set()
        for of_kind, verdict in answers:
            if of_kind == kind:
                found |= _rules(verdict)
        assert found >= set(rules), (kind, found)


ALIKE = {rule.id for rule in RULES if rule.facts is ConvertingFacts}
"""The rules that judge a Conversion made by hand as they judge a Migration."""


@each([one for one in SCENARIOS if ALIKE.intersection(one.seen.by.get("Migration", ()))])
def test_a_conversion_by_hand_of_such_pvcs_meets_the_same_rules(scenario: Scenario) -> None:
    case = scenario.case()
    assert case.there is not None
    names = [pvc["metadata"]["name"] for pvc in case.there.pvcs]
    disks = [{"name": name, "namespace": "migrated-workloads"} for name in names]
    by_hand = merged(BASE["Conversion"], {"spec": {"disks": disks}})
    migrated, converted = (asyncio.run(_said(obj, case)) for obj in (case.object, by_hand))
    assert type(converted) is type(migrated)
    assert _rules(converted) & ALIKE == _rules(migrated) & ALIKE != set()


def test_every_row_has_its_cases_and_what_is_open_is_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len({row.row for row in ORACLE.rows}) == len(ORACLE.rows)
    for row in ORACLE.rows:
        assert bool(row.cases) is (row.forklift != "unlike"), row.row
    unknown = [one for one in SCENARIOS if not one.judged]
    judged = len(SCENARIOS) - len(unknown)
    lines = [
        f"oracle: {len(ORACLE.rows)} rows, {judged} cases judged, "
        f"{len(unknown)} the guard can't know"
    ]
    for one in unknown:
        lines.append(f"  unknown: {one.row.row}: {one.seen.what}: {one.seen.unknown}")
    with capsys.disabled():
        print("", *lines, sep="\n")


def test_the_rules_that_are_named_are_there() -> None:
    named = {rule for one in SCENARIOS for rules in one.seen.by.values() for rule in rules}
    assert named <= {rule.id for rule in RULES}


async def _answers(case: Case) -> list[tuple[str, Verdict]]:
    """What the guard says of each object on its way to the conversion: kind and verdict."""
    assert case.there is not None
    assert case.there.plan is not None
    objects = [*case.there.pvcs, case.there.plan, case.object]
    return [(obj["kind"], await _said(obj, case)) for obj in objects]


async def _said(obj: dict[str, Any], case: Case) -> Verdict:
    body = msgspec.json.encode(review_of(obj))
    deadline = asyncio.get_running_loop().time() + 60
    return await decide(codec.read_review(body, proven=True), case.sources(), deadline)


def _rules(verdict: Verdict) -> set[str]:
    return set(verdict.audit.get("rules", "").split(","))
