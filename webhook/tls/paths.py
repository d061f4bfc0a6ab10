"""The unguessable end of the path that the API server calls, and when it changes: pure functions.

A request on such a path counts as the API server's (docs/decisions/2026-11-29-secret-path.md). The
API server shows the path where a call fails, so it changes: every hour, when a replica starts, and
when a call may have failed. As a CA is, it is replaced in steps:

1. The new one is in the Secret; each replica that has read it accepts both.
2. Once every replica has surely looked, it is written into the webhook configurations.
3. Once all of them have had it for two looks, the old one ceases to count.

One that a failed call may have shown ceases to count at once: until the new one is in the webhook
configurations, no caller is proven.
"""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from webhook.model import calls

LIFE = timedelta(hours=1)
_BYTES = 32


@dataclass(frozen=True)
class Paths:
    """Ends of paths, without any slash: secrets, so never printed."""

    new: str
    """What the webhook configurations should have."""
    old: str
    """What counts as well, until they all have the new one; empty where nothing does."""
    made: datetime
    """When the new one was made."""

    def __repr__(self) -> str:
        return f"Paths(made={self.made})"

    @property
    def counting(self) -> tuple[str, ...]:
        """By which of them a caller is proven."""
        return (self.new, self.old) if self.old else (self.new,)

    def data(self) -> dict[str, bytes]:
        """As the Secret holds them."""
        return {
            "path": self.new.encode(),
            "path.old": self.old.encode(),
            "path.made": self.made.isoformat().encode(),
        }


def of_secret(data: Mapping[str, bytes]) -> Paths | None:
    """The Secret's content; None where it has no path, or one that no guard has made."""
    try:
        new, old, made = (data[key].decode() for key in ("path", "path.old", "path.made"))
        at = datetime.fromisoformat(made)
    except (KeyError, ValueError):
        return None
    if at.tzinfo is None or not calls.made(new) or (old and not calls.made(old)):
        return None
    return Paths(new, old, at)


def fresh(now: datetime, old: str = "") -> Paths:
    """A new one; `old` counts on for a while."""
    return Paths(secrets.token_hex(_BYTES), old, now)


def renewed(
    held: Paths,
    now: datetime,
    *,
    settled: bool,
    worn: Collection[str] = (),
    shown: Collection[str] = (),
) -> Paths:
    """What `held` should be at `now`: itself, if nothing is due.

    `settled`: every webhook has had the new one for a while. `worn` are those to be replaced soon,
    `shown` those that somebody may have learned just now.
    """
    if held.new in shown:
        return fresh(now)
    if held.old and (settled or held.old in shown):
        held = replace(held, old="")
    # Clocks of replicas differ: what was made in the future is not due by that alone.
    if not held.old and (held.new in worn or abs(now - held.made) >= LIFE):
        return fresh(now, held.new)
    return held
