"""What may be the affinity of a pod (Kubernetes: core/validation, validateAffinity)."""

from collections.abc import Iterator, Mapping
from typing import Any

from webhook.facts import labels
from webhook.model.keys import echoed
from webhook.model.shape import mapping

_DURING = "DuringSchedulingIgnoredDuringExecution"
_WITH_VALUES, _WITHOUT = ("In", "NotIn"), ("Exists", "DoesNotExist")
_OF_NUMBERS = ("Gt", "Lt")
_HEAVIEST = 100

Flaw = tuple[str, str]
"""The field below the affinity, and what is wrong with it and what to write."""


def flaws(affinity: Mapping[str, Any]) -> Iterator[Flaw]:
    """Of the fields that are of their types: the API server refuses the others itself."""
    nodes = mapping(affinity.get("nodeAffinity"))
    needed = f"required{_DURING}"
    wished = f"preferred{_DURING}"
    terms = f"nodeAffinity.{needed}.nodeSelectorTerms"
    required = mapping(nodes.get(needed))
    if needed in nodes and not _listed(required, "nodeSelectorTerms"):
        yield terms, "is empty: write at least one term"
    for at, term in _each(required, "nodeSelectorTerms", terms):
        yield from _node_term(at, term)
    for at, wish in _each(nodes, wished, f"nodeAffinity.{wished}"):
        yield from _weight(at, wish)
        yield from _node_term(f"{at}.preference", mapping(wish.get("preference")))
    for kind in ("podAffinity", "podAntiAffinity"):
        pods = mapping(affinity.get(kind))
        for at, term in _each(pods, needed, f"{kind}.{needed}"):
            yield from _pod_term(at, term)
        for at, wish in _each(pods, wished, f"{kind}.{wished}"):
            yield from _weight(at, wish)
            yield from _pod_term(f"{at}.podAffinityTerm", mapping(wish.get("podAffinityTerm")))


def _weight(at: str, wish: Mapping[str, Any]) -> Iterator[Flaw]:
    weight = wish.get("weight")
    if isinstance(weight, int) and not 1 <= weight <= _HEAVIEST:
        yield f"{at}.weight", f"is {weight}: write 1 to {_HEAVIEST}"


def _node_term(at: str, term: Mapping[str, Any]) -> Iterator[Flaw]:
    for where, one in _each(term, "matchExpressions", f"{at}.matchExpressions"):
        yield from _key(where, one)
        yield from _operator(where, one, numbers=True)


def _pod_term(at: str, term: Mapping[str, Any]) -> Iterator[Flaw]:
    key = term.get("topologyKey")
    if not key:
        yield f"{at}.topologyKey", 'is missing: write "kubernetes.io/hostname", for example'
    elif isinstance(key, str) and (fault := labels.fault(key, "")):
        yield f"{at}.topologyKey", fault
    selector = mapping(term.get("labelSelector"))
    for key, value in mapping(selector.get("matchLabels")).items():
        if isinstance(value, str) and (fault := labels.fault(key, value)):
            yield f"{at}.labelSelector.matchLabels", fault
    expressions = f"{at}.labelSelector.matchExpressions"
    for where, one in _each(selector, "matchExpressions", expressions):
        yield from _key(where, one)
        yield from _operator(where, one, numbers=False)


def _key(at: str, one: Mapping[str, Any]) -> Iterator[Flaw]:
    key = one.get("key")
    if isinstance(key, str) and (fault := labels.fault(key, "")):
        yield f"{at}.key", fault


def _operator(at: str, one: Mapping[str, Any], *, numbers: bool) -> Iterator[Flaw]:
    operator, values = one.get("operator"), len(_listed(one, "values"))
    known = (*_WITH_VALUES, *_WITHOUT, *(_OF_NUMBERS if numbers else ()))
    if operator not in known:
        yield f"{at}.operator", f"{echoed(operator)} is none of {', '.join(known)}: write one"
    elif operator in _WITH_VALUES and not values:
        yield f"{at}.values", f"is empty: write what {operator} is about"
    elif operator in _WITHOUT and values:
        yield f"{at}.values", f"{operator} takes none: remove them"
    elif operator in _OF_NUMBERS and values != 1:
        yield f"{at}.values", f"has {values} values: {operator} takes one"


def _each(there: Mapping[str, Any], name: str, at: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for index, one in enumerate(_listed(there, name)):
        yield f"{at}[{index}]", mapping(one)


def _listed(there: Mapping[str, Any], name: str) -> list[Any]:
    found = there.get(name)
    return found if isinstance(found, list) else []
