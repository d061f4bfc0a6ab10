"""What came of judging one object."""

from typing import Literal

import msgspec

from webhook.engine.results import Found, Result
from webhook.engine.watched import Key

Word = Literal["pass", "warn", "fail", "error"]
"""As reports have it; `error`: it could not be judged."""
WORDS: tuple[Word, ...] = ("pass", "warn", "fail", "error")
Severity = Literal["critical", "high", "medium", "low", "info"]

UNDECIDED = "undecided"
"""Stands for a rule, where none could be asked."""
_WORDS: dict[str, tuple[Word, Severity]] = {
    "deny": ("fail", "high"),
    "warn": ("warn", "medium"),
    "audit": ("warn", "low"),
}


class Remark(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that isn't right."""

    rule: str
    result: Word
    severity: Severity
    message: str
    """`field: what is there, and what to write`."""
    field: str = ""
    expected: str = ""
    """The one right value of the field, where it is known."""
    provider: str = ""
    """`namespace/name` of the Provider that was asked, where it may be told."""


class AuditResult(msgspec.Struct, frozen=True):
    """Of one object; of one that is right there are no remarks."""

    key: Key
    uid: str
    remarks: tuple[Remark, ...] = ()

    @property
    def word(self) -> Word:
        """The worst that there is to say."""
        words = {remark.result for remark in self.remarks}
        return next((word for word in reversed(WORDS[1:]) if word in words), "pass")

    @property
    def worst(self) -> Remark:
        """What an Event tells; there must be one."""
        return next(remark for remark in self.remarks if remark.result == self.word)


def of_found(found: Found, provider: str = "", *, gate: bool = False) -> Remark:
    """A rule's word. `gate`: of a Migration that runs: nobody has shut the VM down yet."""
    word, severity = _WORDS[found.action]
    if gate and word == "fail":
        severity = "critical"
    message = f"{found.field}: {found.message}"
    expected = found.expected or ""
    return Remark(found.rule, word, severity, message, found.field, expected, provider)


def of_doubt(why: str, provider: str = "") -> Remark:
    """It could not be judged."""
    return Remark(UNDECIDED, "error", "medium", why, provider=provider)


def of_result(result: Result, *, but: frozenset[str] = frozenset()) -> tuple[Remark, ...]:
    """What `audit` says of an object, except of what lies in the fields `but`."""
    provider = result.provider if isinstance(result.provider, str) else ""
    if result.verdict == "undecided":
        return (of_doubt(result.message, provider),)
    if isinstance(result.doubt, str):
        said = result.warnings or (f"not checked: {result.doubt}",)
        return (of_doubt(said[0], provider),)
    judged = (found for found in result.findings if not _within(found.field, but))
    return tuple(of_found(found, provider) for found in judged)


def _within(field: str, places: frozenset[str]) -> bool:
    return any(field == place or field.startswith(f"{place}.") for place in places)
