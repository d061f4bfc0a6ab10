"""Tells what came of it where people look: in reports, and once in an Event when it has turned."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from webhook.audit.book import Ledger, Place, failing, place_of, reports
from webhook.audit.outcome import AuditResult
from webhook.audit.running import HANGS
from webhook.cluster import (
    Cluster,
    ClusterForbidden,
    ClusterMissing,
    ObjectEvent,
    ObjectEvents,
    Reports,
    digest,
    one,
)
from webhook.engine.watched import Key
from webhook.errors import ClusterUnreachable
from webhook.metrics import Metrics
from webhook.pauses import pause

PACE = 1.0
"""Seconds between two writes of reports."""
MOST = 10
"""Events about one kind in one namespace at once: one more tells how many others there are."""
_REFUSED = 15.0
"""Seconds until a place where no report may be written is tried again."""
_IDLE = 0.05
_PAUSES = 0.5, 5.0  # seconds

_log = logging.getLogger("webhook.audit")


class Publisher:
    """Writes what `book` has, and nothing twice: what is there is compared first. `held` says
    whether this replica may write at this moment; `plan_of`, which Plan a Migration starts, both
    as `namespace/name`."""

    def __init__(
        self,
        cluster: Cluster,
        book: Ledger,
        metrics: Metrics,
        kinds: tuple[str, ...],
        held: Callable[[], bool],
        plan_of: Callable[[str], str],
    ) -> None:
        self._cluster, self._book, self._metrics, self._kinds = cluster, book, metrics, kinds
        self._held, self._plan_of = held, plan_of
        self.reports = Reports(cluster, self._edited)
        self.events = ObjectEvents(cluster, metrics.event)
        self._told: dict[Place, Mapping[str, str]] = {}
        """The objects that were told of as wrong, by name, each with its uid: of each place that
        was ever told of."""
        self._wrote_at = -PACE
        self._refused: dict[Place, float] = {}
        """Where reports may not be written, and until when that is taken for so."""
        self._trouble = ""

    async def run(self) -> None:
        """Until cancelled. Its first reports tell of all that is known by then."""
        failures = 0
        while True:
            now = time.monotonic()
            for shut, until in self._refused.items():
                if until <= now:
                    self._refused[shut] = math.inf
                    self._book.touch(shut)
            due = self._book.changed()
            if due is None:
                await asyncio.sleep(_IDLE)
                continue
            place, since = due
            try:
                await self._publish(place)
            except ClusterForbidden as error:  # others need not wait: its namespace may be going
                if place not in self._refused:
                    _log.warning("reports of %s are not written: %s", place.namespace, error)
                self._refused[place] = time.monotonic() + _REFUSED
                continue
            except ClusterUnreachable as error:
                self._book.touch(place, since)
                self._say(str(error))
                await asyncio.sleep(pause(_PAUSES, failures))
                failures += 1
                continue
            failures = 0
            self._refused.pop(place, None)
            self._say("")
            if since is not None:
                self._metrics.reported(time.monotonic() - since)

    def wrong(self) -> set[Key]:
        """What the reports that are there say of objects that fail."""
        return {
            Key(place.kind, place.namespace, name)
            for key, said in (self.reports.there.known() or {}).items()
            if (place := place_of(key, self._kinds)) is not None
            for name in said.failing
        }

    async def _publish(self, place: Place) -> None:
        """Raises ClusterUnreachable."""
        outcomes = dict(self._book.of(place))
        wanted = reports(place, outcomes)
        before = self._told.get(place)
        if before is None:
            before = self._there(place)
        if self.reports.api is not None:
            for name, body in wanted.items():
                known = self.reports.there.get(f"{place.namespace}/{name}")
                if known is None or known.digest != digest(body):
                    await self._write(partial(self.reports.write, place.namespace, name, body))
            for name in self._parts(place) - wanted.keys():
                await self._write(partial(self.reports.remove, place.namespace, name))
        now: dict[str, str] = failing(outcomes)
        if before is not None:
            # Of what can't be judged nothing new is known.
            doubtful = {name for name, one in outcomes.items() if one and one.word == "error"}
            now |= {name: uid for name, uid in before.items() if name in doubtful}
            await self._turned(place, before, now, outcomes)
        self._told[place] = now

    async def _write(self, write: Callable[[], Awaitable[None]]) -> None:
        """Raises ClusterUnreachable, also where another replica has taken over."""
        await asyncio.sleep(max(0.0, self._wrote_at + PACE - time.monotonic()))
        if not self._held():
            raise ClusterUnreachable("another replica watches now")
        self._wrote_at = time.monotonic()
        try:
            await write()
        except ClusterMissing:
            return  # its namespace is gone, or the kind of reports: who notices begins anew

    def _there(self, place: Place) -> Mapping[str, str] | None:
        """What another replica, or an earlier run, has told of the place; None: nothing."""
        there = [self.reports.there.get(f"{place.namespace}/{name}") for name in self._parts(place)]
        known = [one.failing for one in there if one is not None]
        return {name: uid for some in known for name, uid in some.items()} if known else None

    def _parts(self, place: Place) -> set[str]:
        """The names of the reports of a place that are there."""
        keys = (key.partition("/") for key in self.reports.there.keys())  # noqa: SIM118
        mine = (name for namespace, _, name in keys if namespace == place.namespace)
        return {
            name for name in mine if place_of(f"{place.namespace}/{name}", self._kinds) == place
        }

    def _edited(self, key: str) -> None:
        """A report has changed, be it by our own hand: whoever else did it finds it mended."""
        if key:
            if (place := place_of(key, self._kinds)) is not None:
                self._book.touch(place)
            return
        for place in self._book.places:
            self._book.touch(place)
        for key in self.reports.there.keys():  # noqa: SIM118
            self._edited(key)

    async def _turned(
        self,
        place: Place,
        before: Mapping[str, str],
        now: Mapping[str, str],
        outcomes: Mapping[str, AuditResult | None],
    ) -> None:
        """Tell of what was right and is wrong, and of what is right again."""
        wrong = sorted(now.keys() - before.keys())
        right = sorted((before.keys() - now.keys()) & outcomes.keys())
        for names, word in ((wrong, "fail"), (right, "pass")):
            for _ in names:
                self._metrics.turned(place.kind, word)
        for name in wrong[:MOST]:
            outcome = outcomes[name]
            assert outcome is not None  # noqa: S101  it is wrong
            await self._tell_of(place, name, outcome.uid, _wrong(place, outcome, len(wrong)))
        for name in right[:MOST]:
            await self._tell_of(place, name, before[name], _right(place, len(right)), warning=False)

    async def _tell_of(
        self, place: Place, name: str, uid: str, note: str, *, warning: bool = True
    ) -> None:
        reason = "ConversionWrong" if warning else "ConversionRight"
        self.events.tell(ObjectEvent(place.kind, place.namespace, name, uid, reason, note, warning))
        if place.kind != "Migration":
            return
        namespace, _, plan = self._plan_of(f"{place.namespace}/{name}").partition("/")
        if namespace != place.namespace:
            return  # the words are for readers of the Migration's namespace
        try:
            found = await one(self._cluster, "Plan", namespace, plan)
        except ClusterUnreachable:
            return  # an Event helps, and nothing rests on it
        if found is not None:
            note = f"Migration {name}: {note}"
            self.events.tell(ObjectEvent("Plan", namespace, plan, found.uid, reason, note, warning))

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            _log.warning("reports are not written: %s", trouble)
        self._trouble = trouble


def _wrong(place: Place, outcome: AuditResult, many: int) -> str:
    worst = outcome.worst
    note = f"{worst.message} (conversion-guard: {worst.rule})"
    if place.kind == "Migration" and worst.rule != HANGS:
        note = f"Cancel it, which costs nothing now: the VM is still on. {note}"
    return note + _others(place, many)


def _right(place: Place, many: int) -> str:
    return f"Nothing stands in the way of its conversion any more{_others(place, many)}"


def _others(place: Place, many: int) -> str:
    if many <= MOST:
        return ""
    return f" ({many - 1} other {place.kind}s of {place.namespace} have turned with it)"
