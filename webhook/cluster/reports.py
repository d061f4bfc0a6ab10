"""Reports on a cluster's objects, of the kind that its tools read: OpenReports', or else the policy
working group's older one, or none where neither is installed."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import msgspec

from webhook.cluster.client import Cluster, decoded
from webhook.cluster.errors import ClusterForbidden, ClusterMissing
from webhook.cluster.paths import ApiPath
from webhook.cluster.reflector import Reflector
from webhook.errors import ClusterUnreachable
from webhook.inventory.cluster import Table

MANAGED = "app.kubernetes.io/managed-by"
MANAGER = "conversion-guard"
_LOOK = 10.0
"""Seconds between two looks at which kind there is."""

_log = logging.getLogger("webhook.cluster")


class Api(NamedTuple):
    """A kind of report."""

    version: str
    plural: str
    kind: str


OPENREPORTS = Api("openreports.io/v1alpha1", "reports", "Report")
WGPOLICY = Api("wgpolicyk8s.io/v1alpha2", "policyreports", "PolicyReport")


class Written(msgspec.Struct, frozen=True):
    """What is kept of a report that is there."""

    digest: bytes
    """Of its results and its summary."""
    failing: Mapping[str, str]
    """The objects that it says fail, by name, each with its uid."""


class _Named(msgspec.Struct):
    name: str = ""
    uid: str = ""


class _ReportResult(msgspec.Struct):
    result: str = ""
    resources: tuple[_Named, ...] = ()


class _Meta(msgspec.Struct):
    name: str
    namespace: str


class _Report(msgspec.Struct):
    metadata: _Meta
    results: Any = None
    summary: Any = None


_report = msgspec.json.Decoder(_Report)
_encode = msgspec.json.Encoder(order="deterministic").encode


def digest(body: Mapping[str, Any]) -> bytes:
    """Of what a report says: another one wherever a word of it is another."""
    said = _encode([body.get("results") or [], body.get("summary") or {}])
    return hashlib.blake2b(said, digest_size=16).digest()


def written(raw: bytes | msgspec.Raw) -> tuple[str, Written]:
    """`namespace/name` of a report's JSON, and what is kept of it. Raises ClusterUnreachable."""
    found = decoded(_report, raw)
    try:
        results = msgspec.convert(found.results or [], tuple[_ReportResult, ...])
    except msgspec.ValidationError:
        results = ()
    failing = {
        named.name: named.uid for one in results if one.result == "fail" for named in one.resources
    }
    said = digest({"results": found.results, "summary": found.summary})
    key = f"{found.metadata.namespace}/{found.metadata.name}"
    return key, Written(said, failing)


class Reports:
    """The guard's own, as they are there. `changed` hears the `namespace/name` of each that has
    changed, and an empty key where all may have."""

    def __init__(self, cluster: Cluster, changed: Callable[[str], None]) -> None:
        self._cluster, self._changed = cluster, changed
        self.api: Api | None = None
        """None while there is none to write, or it isn't known which."""
        self.there: Table[Written] = Table()
        self.settled = asyncio.Event()
        """Whether it is known which, if any, and what is there of it."""
        self._said = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                api = await self._best()
            except ClusterUnreachable as error:
                self._say(f"no reports are written: {error}")
            else:
                if api is not None:
                    await self._follow(api)
                    continue
                self.settled.set()
            await asyncio.sleep(_LOOK)

    async def write(self, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        """Have one say this. Raises ClusterUnreachable."""
        api = self._asked()
        whole = {
            "apiVersion": api.version,
            "kind": api.kind,
            "metadata": {"name": name, "namespace": namespace, "labels": {MANAGED: MANAGER}},
            **body,
        }
        path = ApiPath(api.version, api.plural, namespace=namespace, name=name)
        self.there.put(*written(await self._cluster.apply(path, whole, MANAGER)))

    async def remove(self, namespace: str, name: str) -> None:
        """Have none of that name. Raises ClusterUnreachable."""
        await self._remove(self._asked(), f"{namespace}/{name}")
        self.there.drop(f"{namespace}/{name}")

    def _asked(self) -> Api:
        if self.api is None:
            raise ClusterUnreachable("there is no kind of report to write")
        return self.api

    async def _best(self) -> Api | None:
        """The first kind that may be listed. Raises ClusterUnreachable."""
        refused = ""
        for api in (OPENREPORTS, WGPOLICY):
            try:
                await self._cluster.get(ApiPath(api.version, api.plural), limit="1")
            except ClusterMissing:
                continue
            except ClusterForbidden as error:
                refused = str(error)
                continue
            return api
        kinds = (
            f"{OPENREPORTS.kind} ({OPENREPORTS.version}) or {WGPOLICY.kind} ({WGPOLICY.version})"
        )
        why = refused or f"the cluster has no {kinds}"
        self._say(f"no reports are written: {why}")
        return None

    async def _follow(self, api: Api) -> None:
        """Keep what is there of it, as long as it is the best there is; then take ours away."""
        there: Table[Written] = Table()
        path, label = ApiPath(api.version, api.plural), f"{MANAGED}={MANAGER}"
        reflector = Reflector(self._cluster, path, written, there, labelSelector=label)
        following, heeding = asyncio.create_task(reflector.run()), ExitStack()
        better: Api | None = api
        try:
            while better is api:
                if reflector.synced.is_set() and self.api is not api:
                    self._say(f"reports are written as {api.kind} ({api.version})")
                    self.api, self.there = api, there
                    heeding.enter_context(there.heeded(self._changed))
                    self.settled.set()
                    self._changed("")
                try:
                    async with asyncio.timeout(_LOOK):
                        if self.api is api:
                            await asyncio.shield(following)  # ends by a fault of ours only
                        await reflector.synced.wait()
                except TimeoutError:
                    pass
                try:
                    better = await self._best()
                except ClusterUnreachable:
                    continue
        finally:
            heeding.close()
            self.api = None
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        for key in there.keys():  # noqa: SIM118  a Table's
            try:
                await self._remove(api, key)
            except ClusterUnreachable:
                break  # the kind is gone, or the right to it

    async def _remove(self, api: Api, key: str) -> None:
        namespace, _, name = key.partition("/")
        try:
            path = ApiPath(api.version, api.plural, namespace=namespace, name=name)
            await self._cluster.delete(path)
        except ClusterMissing:
            return

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            _log.info("%s", what)
