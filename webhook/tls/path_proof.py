"""Whether it was the API server that called, by the path that it used."""

import hmac
import time
from collections.abc import Callable, Collection

_FRESH = 60.0
"""Seconds that a path counts on after the Secret was last read. Who can't read it doesn't hear what
counts no more; nor could the API server be asked then what a proven caller may know."""


class PathProof:
    """What `SelfManaged` knows to count, for those who answer. `now` is a clock in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._counting: tuple[bytes, ...] = ()
        self._until = 0.0
        self.shown: set[str] = set()
        """Those that somebody may have learned, and that the Secret may still have."""

    def proven(self, end: bytes) -> bool:
        """Whether a path with this end is one that only the API server knows."""
        return self._counts(end) and self._now() < self._until

    def _counts(self, end: bytes) -> bool:
        """Whether it does while the Secret can be read."""
        known = False
        for counting in self._counting:  # all of them, so that no time tells which it was
            known |= hmac.compare_digest(counting, end)
        return known

    def failed(self, end: bytes | None = None) -> None:
        """A call has failed, or may have, on a path with this end or nobody knows which: an error
        of the API server's may show its path."""
        if end is None or self._counts(end):
            self.shown.update(end.decode() for end in self._counting)
            self._counting = ()

    def count(self, ends: Collection[str]) -> None:
        """From now on these, as the Secret has them."""
        self.shown.intersection_update(ends)
        self._counting = tuple(end.encode() for end in ends if end not in self.shown)
        self._until = self._now() + _FRESH
