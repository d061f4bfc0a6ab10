"""Token buckets: so much a second, as much at once, and some of it lent ahead of its time."""

import time
from collections.abc import Callable

from cachetools import LRUCache


class Bucket:
    """Permits that fill up again at `rate` a second, up to that many, and at least to one."""

    def __init__(self, rate: float, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most, self._now = rate, max(rate, 1.0), now
        self._permits, self._at = self._most, now()

    def wait(self) -> float:
        """Seconds until there is a permit; 0 where there is one."""
        now = self._now()
        self._permits = min(self._most, self._permits + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (1.0 - self._permits) / self._rate)

    def take(self, permits: float = 1.0) -> None:
        """Take them, also those that aren't there yet: who overdraws waits the longer."""
        self._permits -= permits


class Buckets:
    """A bucket for each key. Of more than `keys`, the one that was longest unused is forgotten."""

    def __init__(self, rate: float, now: Callable[[], float], keys: int) -> None:
        self._rate, self._now = rate, now
        self._buckets: LRUCache[str, Bucket] = LRUCache(keys)

    def of(self, key: str) -> Bucket:
        """The bucket of `key`: a full one where it is new."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._rate, self._now)
        return bucket
