"""Alert expressions judged on two real scrapes, 15 minutes apart as they are told.

Prometheus's own grammar (promql_parser), and as much of its meaning as the shipped alerts use. No
Prometheus runs here: it also extrapolates `increase` to the ends of its range, and waits for `for`.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import promql_parser as ast

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Scrape = Mapping[str, Vector]
"""By name, without `__name__`."""

# Not by prometheus_client's parser, which gives the API server's counters another name.
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_AGGREGATES: dict[str, Callable[[Iterable[float]], float]] = {"max": max, "min": min, "sum": sum}
_COMPARISONS = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "==": operator.eq,
}  # fmt: skip
_MATCHES: dict[str, Callable[[str, str], object]] = {
    "MatchOp.Equal": operator.eq,
    "MatchOp.NotEqual": operator.ne,
    "MatchOp.Re": lambda value, pattern: re.fullmatch(pattern, value),
    "MatchOp.NotRe": lambda value, pattern: not re.fullmatch(pattern, value),
}


def scraped(*texts: str) -> Scrape:
    """What one or several targets expose; each gets a label `pod`, as from a PodMonitor."""
    found: dict[str, Vector] = {}
    for number, text in enumerate(texts):
        for name, labels, value in _SAMPLE.findall(text):
            of_pod = frozenset([*_LABEL.findall(labels), ("pod", f"pod-{number}")])
            found.setdefault(name, {})[of_pod] = float(value)
    return found


class Moment(NamedTuple):
    """Now, and 15 minutes before."""

    before: Scrape
    now: Scrape

    def evaluated(self, expression: str) -> Vector:
        """What an alert fires for: empty where it doesn't."""
        value = self._of(ast.parse(expression))
        assert isinstance(value, dict), "an alert's expression is a vector"
        return value

    def _of(self, node: object) -> Vector | float:
        match node:
            case ast.NumberLiteral():
                return node.val
            case ast.ParenExpr():
                return self._of(node.expr)
            case ast.VectorSelector():
                return _selected(node, self.before if node.offset else self.now)
            case ast.AggregateExpr():
                names = set(node.modifier.labels) if node.modifier else set()
                return _aggregated(str(node.op), self._vector(node.expr), names)
            case ast.Call():
                return self._called(node.func.name, node.args[0])
            case ast.BinaryExpr():
                return _joined(str(node.op), self._of(node.lhs), self._of(node.rhs))
        raise NotImplementedError(type(node).__name__)

    def _vector(self, node: object) -> Vector:
        value = self._of(node)
        assert isinstance(value, dict)
        return value

    def _called(self, name: str, argument: object) -> Vector | float:
        match name:
            case "absent":
                return {} if self._vector(argument) else {frozenset(): 1.0}
            case "scalar":
                values = list(self._vector(argument).values())
                return values[0] if len(values) == 1 else math.nan
            case "increase":
                assert isinstance(argument, ast.MatrixSelector)
                before = _selected(argument.vector_selector, self.before)
                now = _selected(argument.vector_selector, self.now)
                # A series that is new has one value, and no increase.
                return {labels: now[labels] - before[labels] for labels in now.keys() & before}
        raise NotImplementedError(name)


def _selected(node: ast.VectorSelector, scrape: Scrape) -> Vector:
    wanted = [(m.name, _MATCHES[str(m.op)], m.value) for m in node.matchers.matchers]
    return {
        labels: value
        for labels, value in scrape.get(node.name or "", {}).items()
        if all(fits(dict(labels).get(name, ""), text) for name, fits, text in wanted)
    }


def _aggregated(how: str, vector: Vector, names: set[str]) -> Vector:
    groups: dict[Labels, list[float]] = {}
    for labels, value in vector.items():
        kept = frozenset((name, text) for name, text in labels if name in names)
        groups.setdefault(kept, []).append(value)
    return {labels: _AGGREGATES[how](values) for labels, values in groups.items()}


def _joined(how: str, left: Vector | float, right: Vector | float) -> Vector | float:
    if isinstance(left, dict) and isinstance(right, dict) and how in ("and", "or", "unless"):
        match how:
            case "and":
                return {labels: left[labels] for labels in left.keys() & right}
            case "unless":
                return {labels: left[labels] for labels in left.keys() - right}
        return right | left
    if how in _COMPARISONS:
        assert isinstance(left, dict)
        others = right if isinstance(right, dict) else dict.fromkeys(left, right)
        both = left.keys() & others
        return {name: left[name] for name in both if _COMPARISONS[how](left[name], others[name])}
    assert how == "*"
    assert not isinstance(left, dict)
    if isinstance(right, dict):
        return {labels: left * value for labels, value in right.items()}
    return left * right
