"""What a verdict must be, by the truth before and after its request. It asks nobody.

Where both agree, the verdict is that, or undecided. Where they differ, or something changed in
between, either is right.
"""

from math import inf
from typing import Literal, NamedTuple

Verdict = Literal["allowed", "denied", "undecided", "lost"]
"""lost: the API server has no answer of the guard's, and went by the webhook's failurePolicy."""

SLACK = 2.0
"""Seconds from a change until the test has noted that it was made."""
_TOLD = "checked with the inventory of "
"""How a warning begins that tells the age of what an admission rests on."""


class Truth(NamedTuple):
    """What is so at a moment. Both are by time.monotonic(), None where nothing forbids the object,
    and -inf where it was never right."""

    vsphere: float | None = None
    """Since when what vSphere has forbids it."""
    cluster: float | None = None
    """Since when what the API server has forbids it."""
    versions: tuple[int, ...] = ()
    """Of what this was read from, before and after: others after a change, and odd during one."""

    @property
    def allows(self) -> bool:
        return self.vsphere is None and self.cluster is None


class Asked(NamedTuple):
    """A request, and what came of it."""

    kind: str
    what: str
    """For a person."""
    begun: float
    ended: float
    before: Truth
    after: Truth
    verdict: Verdict
    message: str = ""
    warnings: tuple[str, ...] = ()
    number: str = ""
    """The API server's own, in its audit log."""

    @property
    def settled(self) -> bool:
        """Whether only one verdict is right."""
        if any(version % 2 for version in self.before.versions):
            return False
        same = self.before.versions == self.after.versions
        return same and self.before.allows == self.after.allows


GATES = frozenset({"migration"})
"""Kinds whose admissions, too, rest on fresh reads."""
OTHERS = frozenset({"cold"})
"""Kinds that are let through whatever fails."""


def fault(asked: Asked, silence: float) -> str | None:
    """What is wrong with the verdict; None where it is right.

    An admission may rest on what is followed, which is as old as `silence` at the most, or says so.
    """
    why = _wrong(asked, silence)
    return why and f"{asked.kind} {asked.what}: {why}: {asked.message or asked.warnings}"


def _wrong(asked: Asked, silence: float) -> str | None:
    if asked.kind in OTHERS:
        stopped = asked.verdict in ("denied", "undecided")
        return f"{asked.verdict}, though it is none of the guard's business" if stopped else None
    if asked.verdict in ("undecided", "lost") or not asked.settled:
        return None
    if asked.verdict == "denied":
        return "denied, though nothing forbids it" if asked.before.allows else None
    bound = -inf if asked.kind in GATES else silence + SLACK
    told = asked.kind not in GATES and any(_TOLD in text for text in asked.warnings)
    for place, since, excused in (
        ("vSphere", asked.before.vsphere, told),
        ("the cluster", asked.before.cluster, False),
    ):
        if since is not None and not excused and asked.begun - since > bound:
            return f"allowed, though {place} has forbidden it for {asked.begun - since:.1f} s"
    return None
