"""A Lease: of all replicas one at a time holds it, by coordination.k8s.io/v1, as controllers do."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from webhook.cluster.client import Cluster, decoded
from webhook.cluster.errors import ClusterConflict, ClusterMissing
from webhook.cluster.paths import ApiPath
from webhook.errors import ClusterUnreachable

SECONDS = 15
"""For which it is held without being renewed."""
_API = "coordination.k8s.io/v1"

_log = logging.getLogger("webhook.cluster")


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Spec(msgspec.Struct, rename="camel", omit_defaults=True):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Lease(msgspec.Struct):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)


_lease = msgspec.json.Decoder(_Lease)


class Lease:
    """`name` in `namespace`, for `holder` to hold, which no other replica may be called.

    No two clocks are compared: another's Lease is over when it has stood unchanged for as long as
    it says, by `now`.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        holder: str,
        seconds: int = SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._all = ApiPath(_API, "leases", namespace=namespace)
        self._path = ApiPath(_API, "leases", namespace=namespace, name=name)
        self._name, self._holder, self._seconds, self._now = name, holder, seconds, now
        self._seen = ""
        self._seen_at = 0.0
        self._until = float("-inf")

    @property
    def held(self) -> bool:
        """Whether it is certainly ours at this moment."""
        return self._now() < self._until

    async def hold(self) -> bool:
        """Acquire it where it is free, renew it where it is ours; whether it is ours then. Raises
        ClusterUnreachable: what was held goes on until its time is over."""
        began = self._now()
        try:
            found = decoded(_lease, await self._cluster.get(self._path))
        except ClusterMissing:
            return await self._write(began, None)
        spec, version = found.spec, found.metadata.resource_version
        if version != self._seen:
            self._seen, self._seen_at = version, began
        ours = spec.holder_identity == self._holder
        over = began - self._seen_at >= (spec.lease_duration_seconds or 0)
        if spec.holder_identity and not ours and not over:
            self._until = float("-inf")
            return False
        return await self._write(began, found)

    async def release(self) -> None:
        """Give it up, so that another need not wait. Raises as `hold` does."""
        if not self.held:
            return
        self._until = float("-inf")
        found = decoded(_lease, await self._cluster.get(self._path))
        if found.spec.holder_identity == self._holder:
            found.spec.holder_identity = ""
            await self._put(found)

    async def run(self) -> None:
        """Hold it whenever it can be had, until cancelled; then it is given up."""
        trouble = ""
        try:
            while True:
                try:
                    await self.hold()
                    trouble = ""
                except ClusterUnreachable as error:
                    if str(error) != trouble:
                        trouble = str(error)
                        _log.warning("the Lease %s: %s", self._path, trouble)
                await asyncio.sleep(self._seconds / 3)
        finally:
            await asyncio.shield(self._end())

    async def _end(self) -> None:
        try:
            await self.release()
        except ClusterUnreachable:
            return  # it ends by itself

    async def _write(self, began: float, found: _Lease | None) -> bool:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        before = found.spec if found else _Spec()
        ours = before.holder_identity == self._holder
        spec = _Spec(
            holder_identity=self._holder,
            lease_duration_seconds=self._seconds,
            acquire_time=before.acquire_time if ours else now,
            renew_time=now,
            lease_transitions=(before.lease_transitions or 0) + (not ours and found is not None),
        )
        try:
            if found is None:
                await self._cluster.post(self._all, self._body(_Meta(), spec))
            else:
                found.spec = spec
                await self._put(found)
        except ClusterConflict:
            self._until = float("-inf")
            return False
        self._until = began + self._seconds
        return True

    async def _put(self, lease: _Lease) -> None:
        await self._cluster.put(self._path, self._body(lease.metadata, lease.spec))

    def _body(self, metadata: _Meta, spec: _Spec) -> dict[str, Any]:
        named: dict[str, Any] = {"name": self._name}
        if metadata.resource_version:
            named["resourceVersion"] = metadata.resource_version
        body = {"apiVersion": _API, "kind": "Lease", "metadata": named}
        return body | {"spec": msgspec.to_builtins(spec)}
