"""What a rule finds."""

import msgspec

from webhook.model.keys import Action
from webhook.model.review import Reason


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
    entry: int | None = None
    """The index in the Plan's spec.vms that a Migration's finding is about."""


class Unknown(msgspec.Struct, frozen=True):
    """One thing that can't be told now, and why: it makes the verdict undecided, never a denial."""

    field: str
    message: str
    entry: int | None = None
