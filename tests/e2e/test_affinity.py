"""What the guard says of a Plan's affinity is what a real API server says of a pod with it."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.world import World
from webhook.facts.affinity import flaws

pytestmark = pytest.mark.e2e

_DURING = "DuringSchedulingIgnoredDuringExecution"
_TRIES = 150


class _Making:
    """Affinities of the right types, each of whose values may be wrong."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def _one(self, *right: Any, wrong: Any) -> Any:
        return wrong if self._chance.random() < 0.06 else self._chance.choice(right)

    def _some(self, make: Callable[[], Any], least: int = 0) -> list[Any]:
        return [make() for _ in range(self._chance.randint(least, 2))]

    def _expression(self, *more: str) -> dict[str, Any]:
        operator = self._one("In", "NotIn", "Exists", "DoesNotExist", *more, wrong="Foo")
        values = {"In": 1, "NotIn": 2, "Gt": 1, "Lt": 1}.get(operator, 0)
        values = self._one(values, wrong=self._chance.randint(0, 2))
        key = self._one(
            "app", "example.com/app", wrong=self._chance.choice(["a b", "", "A/b", "-"])
        )
        found = {"key": key, "operator": operator}
        return {**found, "values": ["8"] * values} if values else found

    def _node_term(self) -> dict[str, Any]:
        return {"matchExpressions": self._some(lambda: self._expression("Gt", "Lt"))}

    def _pod_term(self) -> dict[str, Any]:
        labels = {self._one("app", wrong="a b"): self._one("web", "", wrong="w b")}
        selector = {"matchLabels": labels, "matchExpressions": self._some(self._expression)}
        key = self._one("kubernetes.io/hostname", "zone", wrong=self._chance.choice(["", "a b"]))
        return {"topologyKey": key, "labelSelector": selector}

    def _wish(self, name: str, term: Callable[[], Any]) -> dict[str, Any]:
        return {"weight": self._one(1, 100, wrong=self._chance.choice([0, 101, -1])), name: term()}

    def affinity(self) -> dict[str, Any]:
        terms = self._one(1, wrong=0)
        nodes = {
            f"required{_DURING}": {"nodeSelectorTerms": [self._node_term() for _ in range(terms)]},
            f"preferred{_DURING}": self._some(lambda: self._wish("preference", self._node_term)),
        }
        pods = {
            f"required{_DURING}": self._some(self._pod_term),
            f"preferred{_DURING}": self._some(
                lambda: self._wish("podAffinityTerm", self._pod_term)
            ),
        }
        given = {
            "nodeAffinity": nodes,
            self._chance.choice(["podAffinity", "podAntiAffinity"]): pods,
        }
        return {kind: given[kind] for kind in given if self._chance.random() < 0.7}


def test_an_affinity_is_good_where_the_api_server_takes_a_pod_with_it(world: World) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    making = _Making(random.Random(seed))
    taken = 0
    with world.bed.api.client() as client:
        for _ in range(_TRIES):
            affinity = making.affinity()
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "there"},
                "spec": {
                    "affinity": affinity,
                    "containers": [{"name": "main", "image": "example.com/main"}],
                },
            }
            path = "/api/v1/namespaces/default/pods"
            answer = client.post(path, json=pod, params={"dryRun": "All"})
            assert answer.status_code in (201, 422), answer.text
            found = list(flaws(affinity))
            assert (answer.status_code == 201) == (not found), (affinity, found, answer.text)
            taken += answer.status_code == 201
    assert 10 < taken < _TRIES - 10, "both kinds are tried"
