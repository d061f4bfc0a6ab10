"""By which paths the API server calls the guard, in its configurations and on the wire."""

import re
from typing import Literal, NamedTuple

Webhook = Literal["validate", "mutate"]

_PATH = re.compile(r"/(validate|mutate)(?:/([^/]*))?")
_END = re.compile(r"[0-9a-f]{64}")
"""32 bytes: as much as the API server takes for a part of a path (a-z, 0-9), and the
ValidatingAdmissionPolicy says the same."""


class Hook(NamedTuple):
    """A webhook of the configurations, as far as the guard keeps it right."""

    bundle: bytes
    """PEM: its caBundle."""
    end: str | None
    """Of its path; empty where that is the plain one, None where it leads elsewhere."""


def path(webhook: Webhook, end: str = "") -> str:
    """`/validate`, or with an unguessable end `/validate/<end>`."""
    return f"/{webhook}/{end}" if end else f"/{webhook}"


def split(path: str) -> tuple[Webhook, str] | None:
    """Where a path leads, and what its end is; None where it leads nowhere."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    webhook: Webhook = "validate" if found[1] == "validate" else "mutate"
    return webhook, found[2] or ""


def made(end: str) -> bool:
    """Whether a guard can have made this end."""
    return bool(_END.fullmatch(end))


def hidden(text: str) -> str:
    """What somebody else says, such as an error of the API server's, without such an end."""
    return _END.sub("…", text)
