"""What the rules and defaults say of themselves: their docstrings, taken apart."""

import re
from importlib import import_module

import msgspec

from webhook.facts.facts import (
    ConversionFacts,
    ConvertingFacts,
    MigrationFacts,
    PlanFacts,
    PvcFacts,
)
from webhook.model.keys import Action
from webhook.rules import DEFAULTS, RULES

KINDS = {
    PvcFacts: "PersistentVolumeClaim",
    PlanFacts: "Plan",
    ConvertingFacts: "Migration",
    MigrationFacts: "Migration",
    ConversionFacts: "Conversion",
}
VERBS = {"deny": "Denies", "warn": "Warns", "audit": "Records"}
"""Under which head a rule's docstring says what it finds."""


class RuleText(msgspec.Struct, frozen=True):
    """A rule, as in docs/rules.md."""

    id: str
    kind: str
    """Of the objects that it judges. One of Plans or Migrations may judge what comes after, too."""
    action: Action
    """What is done about its findings, unless the settings say otherwise."""
    title: str
    text: dict[str, str]
    """Reads, Asks, Accepts, Denies, Warns or Records; Forklift: what it does without the rule."""


class DefaultText(msgspec.Struct, frozen=True):
    """A default: what is filled in."""

    id: str
    kind: str
    on: bool
    title: str
    text: dict[str, str]
    """Reads, Fills."""


class Reference(msgspec.Struct, frozen=True):
    """All rules and defaults, in the order in which they run."""

    rules: tuple[RuleText, ...]
    defaults: tuple[DefaultText, ...]


def reference() -> Reference:
    """Of this version."""
    return Reference(
        tuple(RuleText(r.id, KINDS[r.facts], r.action, *parts(r.id)) for r in RULES),
        tuple(DefaultText(d.id, KINDS[d.facts], d.on, *parts(d.id)) for d in DEFAULTS),
    )


def parts(rule: str) -> tuple[str, dict[str, str]]:
    """The title of a rule's or default's docstring, and its paragraphs by their heads."""
    doc = import_module(f"webhook.rules.{rule.replace('-', '_')}").__doc__ or ""
    title, _, rest = doc.partition("\n\n")
    found = re.findall(r"^(\w+): +(.*(?:\n +.*)*)", rest, re.MULTILINE)
    return title, {head: " ".join(text.split()) for head, text in found}
