"""What the rules say on one provider's word, sorted by what is to be done about it."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Generic

import msgspec

from webhook.engine.ask import Asked, Seen
from webhook.engine.policy import milder
from webhook.facts.facts import F
from webhook.facts.rule import Finding, Rule, Unknown
from webhook.inventory.provider import ProviderInventory
from webhook.model.keys import Action
from webhook.model.review import Cause, Reason

_MANY = 8
"""Warnings of one rule up to which each has its line: about as many as an answer has room for."""


class Opinion(msgspec.Struct, Generic[F], frozen=True):
    """The causes, by what they rest on and what is done about them."""

    source: ProviderInventory | None
    facts: F
    told: bool
    """Whether the provider's name may be told."""
    deny: tuple[Cause, ...] = ()
    """Denials that the object alone is enough for."""
    deny_vsphere: tuple[Cause, ...] = ()
    """Denials that rest on the inventory: to be confirmed."""
    deny_cluster: tuple[Cause, ...] = ()
    """Denials that rest on what is followed of the cluster: to be confirmed."""
    unknown: tuple[Cause, ...] = ()
    warn: tuple[Cause, ...] = ()
    audit: tuple[Cause, ...] = ()
    unsaid: tuple[Cause, ...] = ()
    """What would be warned of, but rests on vSphere, where nobody's word counts: not known."""

    @property
    def clean(self) -> bool:
        """Whether nothing is in the way."""
        return not (self.denies or self.unknown)

    @property
    def denies(self) -> bool:
        """Whether something is wrong; else it may be that nobody can tell."""
        return bool(self.deny or self.deny_vsphere or self.deny_cluster)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """All of them."""
        denials = (*self.deny, *self.deny_vsphere, *self.deny_cluster)
        return (*denials, *self.unknown, *self.warn, *self.audit)

    @property
    def warnings(self) -> tuple[str, ...]:
        """In the order in which a reader expects them: what a rule says of many entries, once."""
        if not self.warn:
            return ()
        ordered = sorted(self.warn, key=Cause.place)
        counted = Counter(cause.rule for cause in ordered)
        told, many = [], set()
        for cause in ordered:
            if (count := counted[cause.rule]) <= _MANY:
                told.append(f"{cause.field}: {cause}")
            elif cause.rule not in many:
                many.add(cause.rule)
                told.append(f"{cause.field} and {count - 1} more: {cause}")
        return tuple(told)

    @property
    def rules(self) -> str:
        """Of all causes, for the audit log: `pvc-capacity,pvc-vm`."""
        if self.clean and not (self.warn or self.audit):
            return ""
        return ",".join(sorted({cause.rule for cause in self.causes}))

    @property
    def rests_on_vsphere(self) -> bool:
        """Whether it must be confirmed by a fresh read."""
        return bool(self.deny_vsphere or (self.unknown and self.source))


def opine(
    asked: Asked[F],
    rules: Iterable[tuple[Rule[F], Action]],
    source: ProviderInventory | None,
    seen: Seen[F],
) -> Opinion[F]:
    """What `rules`, each with what is done about its findings, say of what `source` says."""
    piles: dict[str, tuple[Cause, ...]] = {}
    for rule, action in rules:
        facts = asked.facts_for(rule.reads, seen.facts)
        if facts is None:
            continue
        for said in rule.check(facts):
            where = _pile(rule, action, said, known=source is not None)
            if where != "off":
                piles[where] = (*piles.get(where, ()), _cause(said, rule, where))
    return Opinion(source, seen.facts, seen.told, **piles)


def _pile(rule: Rule[Any], action: Action, said: Finding | Unknown, *, known: bool) -> str:
    """Where in an opinion it belongs. `known`: whether it is by a provider's word."""
    if isinstance(said, Unknown):
        return "unknown" if action == "deny" else action
    action = milder(action, said.at_most)
    if said.certain:
        return action
    if rule.asks_vsphere and not known:
        return {"deny": "deny_vsphere", "warn": "unsaid"}.get(action, "off")
    if action != "deny":
        return action
    if rule.asks_vsphere:
        return "deny_vsphere"
    return "deny_cluster" if rule.asks_cluster else "deny"


def _cause(said: Finding | Unknown, rule: Rule[Any], where: str) -> Cause:
    action: Action = "warn" if where == "warn" else "audit" if where == "audit" else "deny"
    if isinstance(said, Unknown):
        reason: Reason = "FieldValueInvalid"
        return Cause(said.field, said.message, reason, rule.id, action, entry=said.entry)
    return Cause(said.field, said.message, said.reason, rule.id, action, said.expected, said.entry)
