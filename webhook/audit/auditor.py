"""Watches what is on the cluster, in the one replica that holds the Lease."""

import asyncio
import logging
from collections.abc import Callable

from webhook.audit.book import Ledger
from webhook.audit.outcome import WORDS
from webhook.audit.publishing import Publisher
from webhook.audit.watch import KINDS, Watch
from webhook.cluster import Cluster, Lease, migrations
from webhook.engine.sources import Sources
from webhook.engine.watched import DRIFTS
from webhook.inventory.cluster import ClusterReader, Followed, Table
from webhook.metrics import Metrics

LEASE = "conversion-guard-audit"
LEASE_SECONDS = 12
"""Renewed three times as often: another takes over 16 s after the last renewal, at the most."""
_LOOK = 0.25  # seconds

_log = logging.getLogger("webhook.audit")


class Auditor:
    """`current` gives what verdicts rest on; `every` is in seconds, until all is judged again.
    `namespace` has the Lease, and `replica` is this one's name in it."""

    def __init__(
        self,
        current: Callable[[], Sources],
        followed: Followed,
        live: ClusterReader,
        metrics: Metrics,
        *,
        namespace: str,
        replica: str,
        every: float,
    ) -> None:
        self._current, self._followed, self._live = current, followed, live
        self._metrics, self._every = metrics, every
        self._lease = namespace, LEASE, replica, LEASE_SECONDS
        self._book = Ledger()
        metrics.audited(DRIFTS, KINDS, WORDS, lambda kind, word: self._book.count(kind, word))

    async def run(self, cluster: Cluster) -> None:
        """Until cancelled."""
        lease = Lease(cluster, *self._lease)
        async with asyncio.TaskGroup() as both:
            both.create_task(lease.run())
            both.create_task(self._whenever(lease, cluster))

    async def _whenever(self, lease: Lease, cluster: Cluster) -> None:
        while True:
            if lease.held:
                _log.info("this replica watches what is on the cluster")
                await self._while_held(lease, asyncio.create_task(self._watch(lease, cluster)))
                _log.info("the Lease is lost: this replica does not watch any more")
            await asyncio.sleep(_LOOK)

    async def _while_held(self, lease: Lease, watching: "asyncio.Task[None]") -> None:
        """Raises what has ended it, if anything has."""
        try:
            while lease.held and not watching.done():  # noqa: ASYNC110  time ends it
                await asyncio.sleep(_LOOK)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        if not watching.cancelled():
            watching.result()

    async def _watch(self, lease: Lease, cluster: Cluster) -> None:
        """Until cancelled: begins with all there is, and tells of nothing before it knows that."""
        self._book = book = Ledger()
        table: Table[str] = Table()
        watch = Watch(
            self._current, self._followed, self._live, table, cluster, book, self._metrics
        )
        publisher = Publisher(
            cluster,
            book,
            self._metrics,
            KINDS,
            held=lambda: lease.held,
            plan_of=lambda key: table.get(key) or "",
        )
        with watch.heeding():
            try:
                async with asyncio.TaskGroup() as all_of_it:
                    all_of_it.create_task(migrations(cluster, table).run())
                    all_of_it.create_task(publisher.reports.run())
                    all_of_it.create_task(publisher.events.run())
                    await publisher.reports.settled.wait()
                    await watch.everything(publisher.wrong())
                    all_of_it.create_task(watch.follow(self._every))
                    all_of_it.create_task(publisher.run())
            finally:
                self._book = Ledger()
