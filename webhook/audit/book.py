"""What came of every object, by kind and namespace, and what a report says of it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from webhook.audit.outcome import AuditResult, Remark, Word
from webhook.engine.watched import Key
from webhook.model.review import API_VERSIONS

LARGEST = 500
"""Results of one report."""
_PREFIX = "conversion-guard-"


class Place(NamedTuple):
    """What one report, or one in several parts, is about."""

    kind: str
    namespace: str


class Ledger:
    """The last outcome of each object: of those that are right, only that they are."""

    def __init__(self) -> None:
        self._places: dict[Place, dict[str, AuditResult | None]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._changed: dict[Place, float | None] = {}

    def put(self, outcome: AuditResult, since: float | None = None) -> None:
        """Keep it. `since` is when vSphere's news came that it was judged for, if any did, by
        time.monotonic()."""
        key = outcome.key
        place = Place(key.kind, key.namespace)
        kept = self._places.setdefault(place, {})
        missing = object()
        new = outcome if outcome.remarks else None
        old: Any = kept.get(key.name, missing)
        if old is not missing:
            if old == new:
                return
            self._counts[key.kind, _word(old)] -= 1
        kept[key.name] = new
        self._counts[key.kind, outcome.word] += 1
        self.touch(place, since)

    def drop(self, key: Key) -> None:
        """Forget it: it is gone, or no concern any more."""
        place = Place(key.kind, key.namespace)
        kept = self._places.get(place, {})
        if key.name in kept:
            self._counts[key.kind, _word(kept.pop(key.name))] -= 1
            if not kept:
                del self._places[place]
            self.touch(place)

    def touch(self, place: Place, since: float | None = None) -> None:
        """Look at its report again."""
        first = self._changed.get(place)
        self._changed[place] = since if first is None else first

    def changed(self) -> tuple[Place, float | None] | None:
        """The place whose report has waited longest, and since which news; not told again."""
        if not self._changed:
            return None
        place = next(iter(self._changed))
        return place, self._changed.pop(place)

    def keys(self, kind: str) -> set[Key]:
        """All of a kind."""
        return {
            Key(kind, place.namespace, name)
            for place, kept in self._places.items()
            if place.kind == kind
            for name in kept
        }

    @property
    def places(self) -> tuple[Place, ...]:
        """Those with anything in them."""
        return tuple(self._places)

    def of(self, place: Place) -> dict[str, AuditResult | None]:
        """What came of its objects; None: right."""
        return self._places.get(place, {})

    def undecided(self) -> Iterator[Key]:
        """Those that could not be judged."""
        for kept in self._places.values():
            for outcome in kept.values():
                if outcome is not None and outcome.word == "error":
                    yield outcome.key

    def count(self, kind: str, word: str) -> int:
        """How many there are, for the metrics."""
        return self._counts[kind, word]


def _word(outcome: AuditResult | None) -> Word:
    return "pass" if outcome is None else outcome.word


def report_name(place: Place, part: int = 0) -> str:
    """`conversion-guard-plan`, and from the second part on its number."""
    return f"{_PREFIX}{place.kind.lower()}" + (f"-{part + 1}" if part else "")


def place_of(report: str, kinds: Iterable[str]) -> Place | None:
    """What the report `namespace/name` is about; None for a name that none has."""
    namespace, _, name = report.partition("/")
    for kind in kinds:
        place = Place(kind, namespace)
        if name == report_name(place) or name.startswith(f"{report_name(place)}-"):
            return place
    return None


def reports(place: Place, outcomes: Mapping[str, AuditResult | None]) -> dict[str, dict[str, Any]]:
    """The reports of a place by name, each with its results and a summary of what it says: that of
    the first counts also the objects that are right. Empty where there is no object at all."""
    if not outcomes:
        return {}
    wrong = sorted((one for one in outcomes.values() if one is not None), key=_named)
    results = [(one, remark) for one in wrong for remark in one.remarks]
    right = len(outcomes) - len(wrong)
    parts = [results[at : at + LARGEST] for at in range(0, len(results), LARGEST)] or [[]]
    return {
        report_name(place, number): {
            "summary": _summary((remark for _, remark in part), 0 if number else right),
            "results": [_result(one, remark) for one, remark in part],
        }
        for number, part in enumerate(parts)
    }


def _named(one: AuditResult) -> str:
    return one.key.name


def failing(outcomes: Mapping[str, AuditResult | None]) -> dict[str, str]:
    """The objects that are certainly wrong, by name, each with its uid."""
    return {name: one.uid for name, one in outcomes.items() if one and one.word == "fail"}


def _summary(remarks: Iterable[Remark], right: int) -> dict[str, int]:
    counted = Counter(remark.result for remark in remarks)
    return {"pass": right, **{word: counted[word] for word in ("fail", "warn", "error")}, "skip": 0}


def _result(one: AuditResult, remark: Remark) -> dict[str, Any]:
    key = one.key
    told = {"field": remark.field, "expected": remark.expected, "provider": remark.provider}
    properties = {name: value for name, value in told.items() if value}
    return {
        "source": "conversion-guard",
        "policy": "conversion-guard",
        "rule": remark.rule,
        "category": "Forklift conversion",
        "result": remark.result,
        "severity": remark.severity,
        "scored": True,
        "message": remark.message,
        "resources": [
            {
                "apiVersion": API_VERSIONS[key.kind],
                "kind": key.kind,
                "namespace": key.namespace,
                "name": key.name,
                "uid": one.uid,
            }
        ],
        **({"properties": properties} if properties else {}),
    }
