"""What a rule is, and what it finds: frozen facts in, findings out.

A rule is a pure function; so is a default, which yields patch operations.
"""

from collections.abc import Callable, Iterator
from typing import Generic

import msgspec

from webhook.facts.facts import ConversionFacts, F, MigrationFacts, PlanFacts, PvcFacts
from webhook.model.keys import Action
from webhook.model.review import PatchOp, Reason


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong: a field path, and a sentence that says what would be right.

    `at_most` caps the rule's action, where a case is milder than the rule.
    """

    field: str
    message: str
    reason: Reason = "FieldValueInvalid"
    at_most: Action = "deny"
    certain: bool = False
    """Whether it holds whatever vSphere says, though its rule asks vSphere."""
    expected: str | None = None
    """The one right value, where there is one; never more than the message tells."""


class Unknown(msgspec.Struct, frozen=True):
    """One thing that can't be told now, and why: it makes the verdict undecided, never a denial."""

    field: str
    message: str


class Rule(msgspec.Struct, Generic[F], frozen=True, kw_only=True):
    """`check`, and what the engine must know to run it."""

    id: str
    facts: type[F]
    reads: frozenset[str]
    """Field paths: on an UPDATE that changes none of them the rule doesn't run."""
    check: Callable[[F], Iterator[Finding | Unknown]]
    asks_vsphere: bool = True
    """Whether its findings rest on the inventory, so that a denial needs a fresh read."""
    action: Action = "deny"
    gate: bool = False
    """Whether it proves a whole disk set: a namespace's label doesn't lower it by itself."""


AnyRule = Rule[PvcFacts] | Rule[PlanFacts] | Rule[MigrationFacts] | Rule[ConversionFacts]


class Default(msgspec.Struct, Generic[F], frozen=True, kw_only=True):
    """`fill` yields what to write where only one answer is right and isn't there yet."""

    id: str
    facts: type[F]
    reads: frozenset[str]
    """As for a rule: a default acts on what this request adds or changes, and on nothing else."""
    fill: Callable[[F], Iterator[PatchOp]]
    asks_vsphere: bool = False
    on: bool = True
