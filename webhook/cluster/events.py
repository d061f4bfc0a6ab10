"""Events on Plans: few, and never in anybody's way."""

import asyncio
import hashlib
import logging
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from webhook.cluster.client import Cluster, ClusterConflict, ClusterMissing, decoded
from webhook.cluster.paths import FORKLIFT, ApiPath
from webhook.errors import ClusterUnreachable

SAME_SECONDS = 300.0
"""For which a Plan has no second Event of the same rules: a controller may retry for ever."""
PACE = 1.0
"""Seconds between any two Events."""
_WAITING = 100
_KNOWN = 1024

_log = logging.getLogger("webhook.cluster")

_Told = tuple[str, str, tuple[str, ...]]


class _Metadata(msgspec.Struct):
    uid: str


class _Plan(msgspec.Struct):
    metadata: _Metadata


_plan = msgspec.json.Decoder(_Plan)


class PlanEvents:
    """An Announcer, which sends while `run` runs. Without `cluster` it can't yet.

    `count` hears of each refusal what became of it. What doesn't get through is not tried again:
    an Event helps, and nothing rests on it.
    """

    def __init__(self, count: Callable[[Literal["sent", "spared", "failed"]], None]) -> None:
        self.cluster: Cluster | None = None
        self._count = count
        self._queue: asyncio.Queue[_Told] = asyncio.Queue(_WAITING)
        self._told: dict[_Told, float] = {}

    def refused(self, namespace: str, plan: str, rules: tuple[str, ...]) -> None:
        """See Announcer."""
        told, now = (namespace, plan, rules), time.monotonic()
        if now - self._told.get(told, -SAME_SECONDS) < SAME_SECONDS or self._queue.full():
            self._count("spared")
            return
        if len(self._told) >= _KNOWN:
            self._told.clear()
        self._told[told] = now
        self._queue.put_nowait(told)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            told = await self._queue.get()
            try:
                await self._send(*told)
                self._count("sent")
            except (ClusterConflict, ClusterMissing):  # another replica's, or the Plan is gone
                self._count("spared")
            except ClusterUnreachable as error:
                self._count("failed")
                _log.warning("an Event on a Plan was not sent: %s", error)
            await asyncio.sleep(PACE)

    async def _send(self, namespace: str, plan: str, rules: tuple[str, ...]) -> None:
        """Raises ClusterUnreachable, and ClusterConflict where there is the same already."""
        if self.cluster is None:
            raise ClusterUnreachable("the cluster has not been reached yet")
        raw = await self.cluster.get(ApiPath(FORKLIFT, "plans", namespace=namespace, name=plan))
        event = _event(namespace, plan, decoded(_plan, raw).metadata.uid, rules, time.time())
        await self.cluster.post(ApiPath("events.k8s.io/v1", "events", namespace=namespace), event)


def _event(
    namespace: str, plan: str, uid: str, rules: tuple[str, ...], now: float
) -> dict[str, Any]:
    """An events.k8s.io/v1 Event. For as long as one is enough, all replicas name it so."""
    same = f"{uid} {' '.join(rules)} {int(now // SAME_SECONDS)}"
    digest = hashlib.sha256(same.encode()).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{plan[:200].rstrip('-.')}.{digest}", "namespace": namespace},
        "eventTime": datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds"),
        "type": "Warning",
        "reason": "MigrationRefused",
        "action": "Admission",
        "note": f"A Migration of this Plan was denied by {', '.join(rules)}",
        "reportingController": "conversion-guard.io/conversion-guard",
        "reportingInstance": socket.gethostname()[:128],
        "regarding": {
            "apiVersion": FORKLIFT,
            "kind": "Plan",
            "namespace": namespace,
            "name": plan,
            "uid": uid,
        },
    }
