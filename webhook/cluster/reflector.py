"""A copy of some objects of the cluster, kept current: list in pages, watch, begin again."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from webhook.cluster.client import Cluster, ClusterGone
from webhook.errors import ClusterUnreachable

_log = logging.getLogger("webhook.cluster")

_WATCH_SECONDS = 240, 290  # at random, so that not all watches of all replicas end together
_PAUSES = 0.2, 30.0  # seconds, doubling
_EVENT_LIMIT = 2**23  # bytes; etcd holds no object of more than 1.5 MiB

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Store(Protocol[T_contra]):
    """Where the copy is kept."""

    def put(self, key: str, value: T_contra) -> None: ...

    def drop(self, key: str) -> None: ...

    def keys(self) -> set[str]: ...

    synced: bool
    """Set once the first list is whole."""


class _ObjectMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Object(msgspec.Struct):
    metadata: _ObjectMeta = msgspec.field(default_factory=_ObjectMeta)
    code: int = 0


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_object = msgspec.json.Decoder(_Object)
_event = msgspec.json.Decoder(_Event)


class Reflector(Generic[T]):
    """Copies what `path` lists, with `query` (such as a labelSelector), into `store`.

    `decode` makes a key and a value of an object's JSON, or None of one that isn't wanted.
    `synced` is set once the first list is whole; until then `why` says why it isn't.
    """

    def __init__(
        self,
        cluster: Cluster,
        path: str,
        decode: Callable[[bytes | msgspec.Raw], tuple[str, T] | None],
        store: Store[T],
        **query: str,
    ) -> None:
        self._cluster, self._path, self._query = cluster, path, query
        self._decode, self._store = decode, store
        self._version = ""
        self._failures = 0
        self.synced = asyncio.Event()
        self._cause = "the first list has not finished"

    def why(self) -> str:
        """What is wrong now, for a person; empty where nothing is."""
        return self._cause

    async def run(self) -> None:
        """Until cancelled: nothing that the API server does ends it."""
        while True:
            try:
                if not self._version:
                    self._version = await self._list()
                    self._cause, self._store.synced = "", True
                    self.synced.set()
                await self._watch()
            except ClusterGone:
                self._version = ""
                self._failures += 1
            except (ClusterUnreachable, msgspec.DecodeError) as error:
                self._failures += 1
                if str(error) != self._cause:
                    self._cause = str(error)
                    _log.warning("%s: %s", self._path, error)
            if self._failures:
                pause = min(_PAUSES[1], _PAUSES[0] * 2 ** min(self._failures, 10))
                await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  no secret

    async def _list(self) -> str:
        """Everything there is now, and nothing else. Returns the version to watch from."""
        gone = self._store.keys()
        version = ""
        async for page in self._cluster.pages(self._path, **self._query):
            for raw in page.items:
                gone.discard(self._put(raw))
            version = page.version
        for key in gone:
            self._store.drop(key)
        return version

    async def _watch(self) -> None:
        """Follow until the API server ends it. One that brings nothing at all is a failure."""
        seconds = random.randint(*_WATCH_SECONDS)  # noqa: S311  no secret
        query = {
            **self._query,
            "watch": "true",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        self._failures += 1
        async with self._cluster.stream(self._path, **query) as pieces:
            async for line in _lines(pieces):
                event = _event.decode(line)
                seen = _object.decode(event.object)
                if event.type == "ERROR":  # comes with HTTP 200
                    if seen.code == 410:
                        raise ClusterGone("the watch is too old")
                    raise ClusterUnreachable(f"the watch ended with {seen.code}")
                if event.type in ("ADDED", "MODIFIED"):
                    self._put(event.object)
                elif event.type == "DELETED" and (found := self._decode(event.object)):
                    self._store.drop(found[0])
                self._version = seen.metadata.resource_version or self._version
                self._failures, self._cause = 0, ""

    def _put(self, raw: msgspec.Raw) -> str:
        found = self._decode(raw)
        if found is None:
            return ""
        self._store.put(*found)
        return found[0]


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line:
                yield line
        if len(rest) > _EVENT_LIMIT:
            raise ClusterUnreachable(f"an event is larger than {_EVENT_LIMIT} bytes")
