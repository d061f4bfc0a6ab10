"""Events on Plans and namespaces: few, and never in anybody's way."""

import asyncio
import hashlib
import logging
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from webhook.cluster.client import Cluster, ClusterConflict, ClusterMissing, decoded
from webhook.cluster.paths import FORKLIFT, ApiPath
from webhook.engine.policy import LABELS
from webhook.errors import ClusterUnreachable
from webhook.inventory.cluster import Table
from webhook.model.keys import ENFORCE, echoed

SAME_SECONDS = 300.0
"""For which a Plan has no second Event of the same rules: a controller may retry for ever."""
PACE = 1.0
"""Seconds between any two Events."""
_WAITING = 100
_KNOWN = 1024

_log = logging.getLogger("webhook.cluster")


class _Refused(NamedTuple):
    namespace: str
    plan: str
    rules: tuple[str, ...]


class _Mislabelled(NamedTuple):
    namespace: str
    value: str


class _Metadata(msgspec.Struct):
    uid: str


class _Plan(msgspec.Struct):
    metadata: _Metadata


_plan = msgspec.json.Decoder(_Plan)


class Events:
    """An Announcer, which sends while `run` runs. Without `cluster` it can't yet.

    `count` hears what became of each Event. What doesn't get through is not tried again:
    an Event helps, and nothing rests on it.
    """

    def __init__(self, count: Callable[[Literal["sent", "spared", "failed"]], None]) -> None:
        self.cluster: Cluster | None = None
        self._count = count
        self._queue: asyncio.Queue[_Refused | _Mislabelled] = asyncio.Queue(_WAITING)
        self._told: dict[_Refused, float] = {}
        self._mislabelled: dict[str, str] = {}

    def refused(self, namespace: str, plan: str, rules: tuple[str, ...]) -> None:
        """See Announcer."""
        told, now = _Refused(namespace, plan, rules), time.monotonic()
        if now - self._told.get(told, -SAME_SECONDS) < SAME_SECONDS or self._queue.full():
            self._count("spared")
            return
        if len(self._told) >= _KNOWN:
            self._told.clear()
        self._told[told] = now
        self._queue.put_nowait(told)

    def labelled(self, namespace: str, value: str | None) -> None:
        """What a namespace's label conversion-guard.io/enforce says; None: it has none. A slip is
        told of once, on the namespace: such a label changes nothing."""
        if value is None or value in LABELS:
            self._mislabelled.pop(namespace, None)
        elif self._mislabelled.get(namespace) != value:
            self._mislabelled[namespace] = value
            _log.warning("namespace %s: %s", namespace, mislabelled(value))
            if not self._queue.full():
                self._queue.put_nowait(_Mislabelled(namespace, value))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            told = await self._queue.get()
            try:
                await self._send(told)
                self._count("sent")
            except (ClusterConflict, ClusterMissing):  # another replica's, or the Plan is gone
                self._count("spared")
            except ClusterUnreachable as error:
                self._count("failed")
                _log.warning("an Event was not sent: %s", error)
            await asyncio.sleep(PACE)

    async def _send(self, told: _Refused | _Mislabelled) -> None:
        """Raises ClusterUnreachable, and ClusterConflict where there is the same already."""
        if self.cluster is None:
            raise ClusterUnreachable("the cluster has not been reached yet")
        namespace = told.namespace
        if isinstance(told, _Refused):
            path = ApiPath(FORKLIFT, "plans", namespace=namespace, name=told.plan)
            uid = decoded(_plan, await self.cluster.get(path)).metadata.uid
            event = _refusal(namespace, told.plan, uid, told.rules, time.time())
        else:
            event = _slip(namespace, told.value, time.time())
        await self.cluster.post(ApiPath("events.k8s.io/v1", "events", namespace=namespace), event)


class Labels:
    """A reflector's store of namespaces' labels: kept in `table`, and told to `events`."""

    def __init__(self, table: Table[str], events: Events) -> None:
        self._table, self._events = table, events

    def put(self, key: str, value: str) -> None:
        self._table.put(key, value)
        self._events.labelled(key, value)

    def drop(self, key: str) -> None:
        self._table.drop(key)
        self._events.labelled(key, None)

    def keys(self) -> set[str]:
        return self._table.keys()

    def heard(self, at: float) -> None:
        self._table.heard(at)


def mislabelled(value: str) -> str:
    """What there is to say of a label with such a value."""
    return (
        f"the label {ENFORCE} is {echoed(value)}, which changes nothing: write deny, warn or audit"
    )


def _slip(namespace: str, value: str, now: float) -> dict[str, Any]:
    """In the namespace itself, where its owner looks: one for each value."""
    regarding = {"apiVersion": "v1", "kind": "Namespace", "name": namespace, "namespace": namespace}
    return _event(regarding, value, "LabelUnknown", mislabelled(value), now)


def _refusal(
    namespace: str, plan: str, uid: str, rules: tuple[str, ...], now: float
) -> dict[str, Any]:
    """For as long as one is enough, all replicas name it so."""
    regarding = {
        "apiVersion": FORKLIFT,
        "kind": "Plan",
        "namespace": namespace,
        "name": plan,
        "uid": uid,
    }
    same = f"{uid} {' '.join(rules)} {int(now // SAME_SECONDS)}"
    note = f"A Migration of this Plan was denied by {', '.join(rules)}"
    return _event(regarding, same, "MigrationRefused", note, now)


def _event(
    regarding: dict[str, str], same: str, reason: str, note: str, now: float
) -> dict[str, Any]:
    """An events.k8s.io/v1 Event, named by what it is about and by `same`."""
    digest = hashlib.sha256(same.encode()).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{regarding['name'][:200].rstrip('-.')}.{digest}",
            "namespace": regarding["namespace"],
        },
        "eventTime": datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds"),
        "type": "Warning",
        "reason": reason,
        "action": "Admission",
        "note": note,
        "reportingController": "conversion-guard.io/conversion-guard",
        "reportingInstance": socket.gethostname()[:128],
        "regarding": regarding,
    }
