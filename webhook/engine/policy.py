"""What the operator chose, and what comes of it for one object: the action of each rule."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from webhook.facts.rule import Rule
from webhook.model import marks
from webhook.model.keys import MILDEST_FIRST, Action
from webhook.model.objects import Pvc


class NamespacePolicy(msgspec.Struct, frozen=True):
    """What the settings say of one namespace: it beats the namespace's own label."""

    enforce: Action | None = None
    """The most that is done about a finding there."""
    rules: Mapping[str, Action] = {}


class PastConversion(msgspec.Struct, frozen=True):
    """The marks of a PVC whose conversion is over: its source VM may be long gone."""

    owner_kinds: frozenset[str] = marks.OWNER_KINDS
    annotations: frozenset[str] = marks.ANNOTATIONS
    labels: frozenset[str] = marks.LABELS

    def marks(self, pvc: Pvc, *, created: bool) -> bool:
        """Whether `pvc` has one of them. Bound as soon as it is created is the copy of another."""
        return (created and marks.BOUND in pvc.annotations) or not (
            self.owner_kinds.isdisjoint(pvc.owners)
            and self.annotations.isdisjoint(pvc.annotations)
            and self.labels.isdisjoint(pvc.labels)
        )


class Policy(msgspec.Struct, frozen=True, eq=False):
    """What the operator chose. A change of the settings makes another: what comes of one is found
    once, and kept by the object itself."""

    actions: Mapping[str, Action] = {}
    """Rule id to action, where it isn't the rule's own."""
    defaults: Mapping[str, bool] = {}
    """Default id to whether it fills in, where it isn't the default's own."""
    undecided: Action = "deny"
    """deny or warn."""
    max_age: float = 3600.0
    """Seconds past which what is known of a provider decides nothing."""
    stale: float = 10.0
    """Seconds past which what is followed of the cluster decides nothing."""
    trust_network: bool = False
    """Whether only the API server can reach the guard, so that userInfo is who it says."""
    ignore_providers: frozenset[str] = frozenset()
    """`namespace/name` of providers whose silence makes no PVC undecided."""
    namespaces: Mapping[str, NamespacePolicy] = {}
    allow_namespace_opt_out: bool = False
    """Whether a namespace's label lowers the gates, too."""
    past_conversion: PastConversion = PastConversion()
    importers: frozenset[str] = frozenset()
    """Accounts that make PVCs for Forklift, such as CDI's."""


class Enforcement(msgspec.Struct, frozen=True, eq=False):
    """The policy for one object: rule < settings < namespace's label < namespace in the settings.

    A label may only lower, and the gates obey it only where the settings allow that.
    """

    policy: Policy
    namespace: NamespacePolicy | None = None
    label: str | None = None
    at_most: Action = "deny"
    """A cap that nothing lifts: warn for a PVC that is past its conversion."""

    def action(self, rule: Rule[Any]) -> Action:
        """What is done about a finding of `rule`."""
        action = self.policy.actions.get(rule.id, rule.action)
        if self.namespace is None and self.label is None and self.at_most == "deny":
            return action
        if self.namespace is not None and rule.id in self.namespace.rules:
            action = self.namespace.rules[rule.id]
        else:
            action = milder(action, self._cap(gate=rule.gate))
        return milder(action, self.at_most)

    def undecided(self, *, gate: bool) -> Action:
        """What is done where the facts can't be had: deny, warn, or audit."""
        return milder(milder(self.policy.undecided, self._cap(gate=gate)), self.at_most)

    def _cap(self, *, gate: bool) -> Action:
        if self.namespace is not None and self.namespace.enforce is not None:
            return self.namespace.enforce
        if gate and not self.policy.allow_namespace_opt_out:
            return "deny"
        # A value that is none of the three is a slip, and must not open anything.
        return LABELS.get(self.label or "", "deny")


def enforcement(
    policy: Policy, namespace: str, label: str | None, at_most: Action = "deny"
) -> Enforcement:
    """Of objects in `namespace`, which carries `label`: the same one each time."""
    named = namespace if namespace in policy.namespaces else ""
    return _enforcement(policy, named, label if label in LABELS else None, at_most)


@lru_cache(maxsize=1024)  # two of each namespace that the settings name, and of each label
def _enforcement(policy: Policy, namespace: str, label: str | None, at_most: Action) -> Enforcement:
    return Enforcement(policy, policy.namespaces.get(namespace), label, at_most)


LABELS: Mapping[str, Action] = {"deny": "deny", "warn": "warn", "audit": "audit"}
"""What a namespace's label may say, and what it means."""


def milder(one: Action, other: Action) -> Action:
    """The one that stands in fewer people's way."""
    return min(one, other, key=MILDEST_FIRST.index)
