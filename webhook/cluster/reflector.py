"""A copy of some objects of the cluster, kept current: list in pages, watch, begin again.

No watch lasts longer than a part of the silence that is allowed, so that each proves by its own
end that all has come which happened until then: a connection that has died on its way, behind
whatever proxies, can be told from one where nothing happens. An event proves nothing: after a break
others may be behind it. (The API server's bookmarks come once a minute, if at all.)
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Set
from typing import Generic, Protocol, TypeVar

import msgspec

from webhook.cluster.client import Cluster, decoded
from webhook.cluster.errors import ClusterForbidden, ClusterGone, ClusterMissing
from webhook.cluster.paths import ApiPath
from webhook.errors import ClusterUnreachable, GuardError
from webhook.pauses import pause

_log = logging.getLogger("webhook.cluster")

_WATCH = 0.6
"""A watch's length as a share of the silence: what is left is for the next one to be asked for."""
_GRACE = 0.2
"""Beyond its length, as such a share: one that has died then leaves time for another to tell."""
_FIRST_SECONDS = 1
"""After a list or a failure: soon to know whether it works."""
_PAUSES = 0.2, 30.0  # seconds, doubled from the first failure on
_EVENT_LIMIT = 2**23  # bytes; etcd holds no object of more than 1.5 MiB

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Store(Protocol[T_contra]):
    """Where the copy is kept, by `namespace/name`, or by the name of what is in no namespace."""

    def put(self, key: str, value: T_contra) -> None: ...

    def drop(self, key: str) -> None:
        """What isn't there is no error."""
        ...

    def keys(self) -> set[str]: ...

    def heard(self, at: float) -> None:
        """The copy was whole and right at this time.monotonic()."""
        ...


class _ObjectMeta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Object(msgspec.Struct):
    metadata: _ObjectMeta = msgspec.field(default_factory=_ObjectMeta)
    code: int = 0

    @property
    def key(self) -> str:
        metadata = self.metadata
        return f"{metadata.namespace}/{metadata.name}" if metadata.namespace else metadata.name


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_object = msgspec.json.Decoder(_Object)
_event = msgspec.json.Decoder(_Event)


class Reflector(Generic[T]):
    """Copies what `path` lists, with `query` (such as a labelSelector), into `store`.

    `decode` makes the key and a value of an object's JSON; an object that it can't read is left
    out. `optional`: where there is no such kind, there are no objects of it. `synced` is set once
    the first list is whole; until then `why` says why it isn't.
    """

    def __init__(
        self,
        cluster: Cluster,
        path: ApiPath,
        decode: Callable[[bytes | msgspec.Raw], tuple[str, T]],
        store: Store[T],
        *,
        optional: bool = False,
        **query: str,
    ) -> None:
        self._cluster, self._path, self._query = cluster, path, query
        self._optional = optional
        self._decode, self._store = decode, store
        self._version = ""
        self._failures = 0
        self._proved = False
        """Whether the last watch has lasted its time."""
        self._left_out: set[str] = set()
        self.synced = asyncio.Event()
        self._cause = "the first list has not finished"
        self.passing = True
        """Whether what is wrong may end by itself, which a right or a kind that isn't there does
        not."""

    @property
    def resource(self) -> str:
        """What it copies, such as `namespaces`."""
        return str(self._path).rpartition("/")[2]

    def why(self) -> str:
        """What is wrong now, for a person; empty where nothing is."""
        return self._cause

    async def run(self) -> None:
        """Until cancelled: nothing that the API server does ends it. Once more, it lists anew."""
        self._version = ""
        while True:
            try:
                if not self._version:
                    self._version = await self._list()
                await self._watch()
                continue
            except ClusterGone:
                self._version = ""
            except ClusterUnreachable as error:
                passing = not isinstance(error, ClusterForbidden | ClusterMissing)
                if self._optional and isinstance(error, ClusterMissing):
                    self._are(frozenset(), time.monotonic())
                    self._version = ""
                self._failed(str(error), passing)
            except (
                Exception
            ) as error:  # nobody's but ours: who runs this counts it, and runs it anew
                self._failed(_told(error), passing=True)
                raise
            self._failures += 1
            await asyncio.sleep(pause(_PAUSES, self._failures))

    async def _list(self) -> str:
        """Everything there is now, and nothing else. Returns the version to watch from."""
        began = time.monotonic()
        there = set[str]()
        version = ""
        async for page in self._cluster.pages(self._path, **self._query):
            there.update(self._put(raw, _seen(raw)) for raw in page.items)
            version = page.version
        self._are(there, began)
        self._cause, self.passing = "", True
        return version

    def _are(self, there: Set[str], at: float) -> None:
        """These are all that there were at that time."""
        for key in self._store.keys() - there:
            self._store.drop(key)
        self._store.heard(at)
        self.synced.set()

    async def _watch(self) -> None:
        """Follow until the API server ends it, which must be in time: its time begins with the
        request, or later."""
        silence, seconds, began = self._cluster.silence, _FIRST_SECONDS, time.monotonic()
        patience = silence
        proved, self._proved = self._proved, False
        if proved:
            seconds = max(_FIRST_SECONDS, int(silence * _WATCH))
            patience = seconds + silence * _GRACE
        query = {
            **self._query,
            "watch": "true",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        came = False
        async with self._cluster.stream(self._path, patience, **query) as pieces:
            async for line in _lines(pieces):
                self._follow(decoded(_event, line))
                self._well()
                came = True
        lasted = time.monotonic() - began
        if lasted >= seconds:
            self._proved = True
            self._store.heard(began + seconds)  # its end may have been on its way for a while
            self._well()
        elif not came and lasted < seconds / 2:
            raise ClusterUnreachable("the watch ended at once")

    def _follow(self, event: _Event) -> None:
        seen = _seen(event.object)
        if event.type == "ERROR":  # comes with HTTP 200
            if seen.code == 410:
                raise ClusterGone("the watch is too old")
            raise ClusterUnreachable(f"the watch ended with {seen.code}")
        if event.type in ("ADDED", "MODIFIED"):
            self._put(event.object, seen)
        elif event.type == "DELETED":
            self._store.drop(seen.key)
        self._version = seen.metadata.resource_version or self._version

    def _well(self) -> None:
        self._failures, self._cause, self.passing = 0, "", True

    def _put(self, raw: msgspec.Raw, seen: _Object) -> str:
        """Keep an object and return its key. One that can't be read is left out, and what was known
        of it isn't true any more."""
        try:
            key, value = self._decode(raw)
            self._store.put(key, value)
        except Exception as error:  # noqa: BLE001  one bad object must not hide all the others
            self._store.drop(seen.key)
            if seen.key not in self._left_out:
                self._left_out.add(seen.key)
                name, why = seen.key or "an object without a name", _told(error)
                _log.warning("%s: %s is left out: %s", self._path, name, why)
            return ""
        self._left_out.discard(key)
        return key

    def _failed(self, cause: str, passing: bool) -> None:
        self.passing = passing
        if cause != self._cause:
            self._cause = cause
            _log.warning("%s: %s", self._path, cause)


def _seen(raw: msgspec.Raw) -> _Object:
    try:
        return decoded(_object, raw)
    except ClusterUnreachable:
        return _Object()


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, GuardError) else type(error).__name__


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line:
                yield line
        if len(rest) > _EVENT_LIMIT:
            raise ClusterUnreachable(f"an event is larger than {_EVENT_LIMIT} bytes")
