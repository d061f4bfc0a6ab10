"""What a rule is: frozen facts in, findings out.

A rule is a pure function; so is a default, which yields patch operations.
"""

from collections.abc import Callable, Iterator
from typing import Generic

import msgspec

from webhook.facts.facts import (
    ConversionFacts,
    ConvertingFacts,
    F,
    MigrationFacts,
    PlanFacts,
    PvcFacts,
)
from webhook.facts.finding import Finding, Unknown
from webhook.model.keys import Action
from webhook.model.review import PatchOp

__all__ = ["AnyRule", "Default", "Finding", "Rule", "Unknown"]


class Rule(msgspec.Struct, Generic[F], frozen=True, kw_only=True):
    """`check`, and what the engine must know to run it."""

    id: str
    facts: type[F]
    reads: frozenset[str]
    """Field paths: on an UPDATE that changes none of them the rule doesn't run."""
    check: Callable[[F], Iterator[Finding | Unknown]]
    asks_vsphere: bool = True
    """Whether its findings rest on the inventory, so that a denial needs a fresh read."""
    asks_cluster: bool = False
    """Whether they rest on what is followed of the cluster, so that a denial needs a live one."""
    action: Action = "deny"
    gate: bool = False
    """Whether it proves a whole disk set: a namespace's label doesn't lower it by itself."""
    again: bool = False
    """Of a Plan's rule: a Migration of that Plan is judged by it, too. At the Plan it warns at the
    most, for what is missing may be on its way. Of a Migration's: a Plan is judged by it, too. Both
    but for a Plan that has been started: what it says begins at once."""


AnyRule = (
    Rule[PvcFacts]
    | Rule[PlanFacts]
    | Rule[ConvertingFacts]
    | Rule[MigrationFacts]
    | Rule[ConversionFacts]
)


class Default(msgspec.Struct, Generic[F], frozen=True, kw_only=True):
    """`fill` yields what to write where only one answer is right and isn't there yet."""

    id: str
    facts: type[F]
    reads: frozenset[str]
    """As for a rule: a default acts on what this request adds or changes, and on nothing else."""
    fill: Callable[[F], Iterator[PatchOp]]
    asks_vsphere: bool = False
    on: bool = True
