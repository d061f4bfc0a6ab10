"""Events on Plans, namespaces and what is watched: few, and never in anybody's way."""

import asyncio
import hashlib
import logging
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import msgspec

from webhook.cluster.client import Cluster, decoded
from webhook.cluster.errors import ClusterConflict, ClusterMissing
from webhook.cluster.paths import FORKLIFT, ApiPath
from webhook.engine.policy import LABELS
from webhook.errors import ClusterUnreachable
from webhook.model.keys import ENFORCE, echoed
from webhook.model.review import API_VERSIONS

SAME_SECONDS = 300.0
"""For which a Plan has no second Event of the same rules: a controller may retry for ever."""
PACE = 1.0
"""Seconds between any two Events."""
_OBJECT_PACE = 0.2
_NOTE = 1000
"""Bytes, of the 1 KiB that an Event's note may have."""
_WAITING = 100
_KNOWN = 1024

_log = logging.getLogger("webhook.cluster")


class _Announcement(Protocol):
    """What an Event is made of when its turn comes."""

    @property
    def namespace(self) -> str: ...

    async def event(self, cluster: Cluster) -> dict[str, Any]:
        """Raises ClusterUnreachable."""
        ...


class _Metadata(msgspec.Struct):
    uid: str


class _Plan(msgspec.Struct):
    metadata: _Metadata


_plan = msgspec.json.Decoder(_Plan)


class _RefusedPlan(msgspec.Struct, frozen=True):
    namespace: str
    plan: str
    rules: tuple[str, ...]

    async def event(self, cluster: Cluster) -> dict[str, Any]:
        path = ApiPath(FORKLIFT, "plans", namespace=self.namespace, name=self.plan)
        uid = decoded(_plan, await cluster.get(path)).metadata.uid
        return _refusal(self.namespace, self.plan, uid, self.rules, time.time())


class _Mislabelled(msgspec.Struct, frozen=True):
    namespace: str
    value: str

    async def event(self, cluster: Cluster) -> dict[str, Any]:
        return _slip(self.namespace, self.value, time.time())


class ObjectEvent(msgspec.Struct, frozen=True):
    """An Event to be sent: what became of an object."""

    kind: str
    namespace: str
    name: str
    uid: str
    reason: str
    note: str
    warning: bool = True

    async def event(self, cluster: Cluster) -> dict[str, Any]:
        """With the moment in its name: each of these is one of its own."""
        now = time.time()
        return _made(
            _regarding(API_VERSIONS[self.kind], self.kind, self.namespace, self.name, self.uid),
            same=f"{self.uid} {self.reason} {self.note} {now}",
            reason=self.reason,
            action="Audit",
            note=self.note,
            now=now,
            warning=self.warning,
        )


class ObjectEvents:
    """Sends what it is told, one each `pace` seconds, while `run` runs. Without `cluster` it can't
    yet.

    `count` hears what became of each Event. What doesn't get through is not tried again:
    an Event helps, and nothing rests on it.
    """

    def __init__(
        self,
        cluster: Cluster | None,
        count: Callable[[Literal["sent", "spared", "failed"]], None],
        pace: float = _OBJECT_PACE,
    ) -> None:
        self.cluster, self._count, self._pace = cluster, count, pace
        self._queue: asyncio.Queue[_Announcement] = asyncio.Queue(_WAITING)

    def tell(self, told: _Announcement) -> bool:
        """Returns at once: whether it waits for its turn, or is spared as one of too many."""
        if self._queue.full():
            self._count("spared")
            return False
        self._queue.put_nowait(told)
        return True

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            told = await self._queue.get()
            try:
                await self._send(told)
                self._count("sent")
            except (ClusterConflict, ClusterMissing):  # another replica's, or the object is gone
                self._count("spared")
            except ClusterUnreachable as error:
                self._count("failed")
                _log.warning("an Event was not sent: %s", error)
            await asyncio.sleep(self._pace)

    async def _send(self, told: _Announcement) -> None:
        """Raises ClusterUnreachable, and ClusterConflict where there is the same already."""
        if self.cluster is None:
            raise ClusterUnreachable("the cluster has not been reached yet")
        path = ApiPath("events.k8s.io/v1", "events", namespace=told.namespace)
        await self.cluster.post(path, await told.event(self.cluster))


class Events(ObjectEvents):
    """An Announcer."""

    def __init__(self, count: Callable[[Literal["sent", "spared", "failed"]], None]) -> None:
        super().__init__(None, count, PACE)
        self._told: dict[_RefusedPlan, float] = {}
        self._mislabelled: dict[str, str] = {}

    def refused(self, namespace: str, plan: str, rules: tuple[str, ...]) -> None:
        """See Announcer."""
        told, now = _RefusedPlan(namespace, plan, rules), time.monotonic()
        if now - self._told.get(told, -SAME_SECONDS) < SAME_SECONDS:
            self._count("spared")
        elif self.tell(told):
            if len(self._told) >= _KNOWN:
                self._told.clear()
            self._told[told] = now

    def labelled(self, namespace: str, value: str | None) -> None:
        """What a namespace's label conversion-guard.io/enforce says; None: it has none. A slip is
        told of once, on the namespace: such a label changes nothing."""
        if value is None or value in LABELS:
            self._mislabelled.pop(namespace, None)
        elif self._mislabelled.get(namespace) != value:
            self._mislabelled[namespace] = value
            _log.warning("namespace %s: %s", namespace, mislabelled(value))
            self.tell(_Mislabelled(namespace, value))


def mislabelled(value: str) -> str:
    """What there is to say of a label with such a value."""
    return (
        f"the label {ENFORCE} is {echoed(value)}, which changes nothing: write deny, warn or audit"
    )


def _slip(namespace: str, value: str, now: float) -> dict[str, Any]:
    """In the namespace itself, where its owner looks: one for each value."""
    regarding = {"apiVersion": "v1", "kind": "Namespace", "name": namespace, "namespace": namespace}
    return _made(
        regarding,
        same=value,
        reason="LabelUnknown",
        action="Admission",
        note=mislabelled(value),
        now=now,
    )


def _refusal(
    namespace: str, plan: str, uid: str, rules: tuple[str, ...], now: float
) -> dict[str, Any]:
    """That a Migration was refused. For as long as one is enough, all replicas name it so."""
    return _made(
        _regarding(FORKLIFT, "Plan", namespace, plan, uid),
        same=f"{uid} {' '.join(rules)} {int(now // SAME_SECONDS)}",
        reason="MigrationRefused",
        action="Admission",
        note=f"A Migration of this Plan was denied by {', '.join(rules)}",
        now=now,
    )


def _regarding(version: str, kind: str, namespace: str, name: str, uid: str) -> dict[str, str]:
    place = {"apiVersion": version, "kind": kind, "namespace": namespace}
    return place | {"name": name, "uid": uid}


def _made(
    regarding: dict[str, str],
    *,
    same: str,
    reason: str,
    action: str,
    note: str,
    now: float,
    warning: bool = True,
) -> dict[str, Any]:
    """An events.k8s.io/v1 Event; two of the `same` have one name, and only one of them comes."""
    digest = hashlib.sha256(same.encode()).hexdigest()[:16]
    namespace, name = regarding["namespace"], regarding["name"]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{name[:200].rstrip('-.')}.{digest}", "namespace": namespace},
        "eventTime": datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds"),
        "type": "Warning" if warning else "Normal",
        "reason": reason,
        "action": action,
        "note": _short(note),
        "reportingController": "conversion-guard.io/conversion-guard",
        "reportingInstance": socket.gethostname()[:128],
        "regarding": regarding,
    }


def _short(note: str) -> str:
    cut = note.encode()[:_NOTE].decode(errors="ignore")
    return note if cut == note else f"{cut}…"
