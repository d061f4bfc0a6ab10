"""What is to be judged again, and when: once a reason comes, and all of it now and then."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from webhook.audit.book import Ledger
from webhook.audit.judging import Judge, counts
from webhook.audit.outcome import AuditResult
from webhook.cluster import Cluster, FoundObject, everything, one, waiting
from webhook.engine.sources import Sources
from webhook.engine.watched import Key, Lookout, VmRef, Watched, vms_of
from webhook.errors import ClusterUnreachable
from webhook.inventory.cluster import Aged, ClusterReader, Followed, Table
from webhook.metrics import Metrics
from webhook.model.keys import VM_ID

PVC, PLAN, MIGRATION = KINDS = ("PersistentVolumeClaim", "Plan", "Migration")

_LOOK = 0.25
"""Seconds between two looks at what is new."""
_BATCH = 64
_PAGES = 16
"""Pages that are judged at once."""
_READS = 8
"""Objects that are read at once."""
FLOOD = 5_000
"""Objects to be judged again from which on all are: pages are quicker than names."""
_AGAIN = 15.0
"""Seconds until what could not be judged, or read, is tried again."""
_SETTLING = 60.0
"""Seconds that vCenters have for their first read: nobody is told of what isn't known yet."""

_log = logging.getLogger("webhook.audit")


class Watch:
    """Keeps `book` by `current`, what is `followed`, and the Migrations that `migrations` has."""

    def __init__(
        self,
        current: Callable[[], Sources],
        followed: Followed,
        live: ClusterReader,
        migrations: Table[str],
        cluster: Cluster,
        book: Ledger,
        metrics: Metrics,
    ) -> None:
        self._current, self._followed, self._migrations = current, followed, migrations
        self._cluster, self._book, self._metrics = cluster, book, metrics
        self._judge = Judge(followed, live, migrations, partial(waiting, cluster))
        self._watched = Watched()
        self._lookout = Lookout(self._watched)
        self._queue: dict[Key, float | None] = {}
        """Each with the moment of vSphere's news, where they are the reason."""
        self._whole = asyncio.Event()
        """Whether all of it is to be judged."""
        self._trouble = ""

    @contextmanager
    def heeding(self) -> Iterator[None]:
        """Hear of what changes on the cluster."""
        followed = self._followed
        tables: dict[Aged, Callable[[str], None]] = {
            followed.claims: self._pvc_changed,
            followed.plans: partial(self._changed, PLAN),
            self._migrations: partial(self._changed, MIGRATION),
            followed.enforced: self._label_changed,
        }
        with ExitStack() as heeding:
            for table, heed in tables.items():
                heeding.enter_context(table.heeded(heed))
            yield

    async def everything(self, wrong: Iterable[Key]) -> None:
        """Judge all there is, once vSphere is known. `wrong` has been told of as wrong by another
        replica, or an earlier run."""
        self._judge.whole.update(wrong)
        settled = time.monotonic() + _SETTLING
        while time.monotonic() < settled and not self._known():  # noqa: ASYNC110  others write
            await asyncio.sleep(_LOOK)
        while not await self._sweep():  # noqa: ASYNC110  likewise
            await asyncio.sleep(_LOOK)

    async def follow(self, every: float) -> None:
        """Judge what there is a reason for; all of it when the settings change, and each `every`
        seconds. Until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._look())
            both.create_task(self._work())
            both.create_task(self._sweep_often(every))

    def _known(self) -> bool:
        return not self._current().inventory.first_reads and self._followed.claims.synced

    # What is a reason

    def _pvc_changed(self, key: str) -> None:
        claim = self._followed.claims.get(key)
        mine = _key(PVC, key)
        before = self._watched.beside(mine)
        self._watched.put(mine, (VmRef(claim.vm_id),) if claim else ())
        self._judge_again(before | self._watched.beside(mine))

    def _changed(self, kind: str, key: str) -> None:
        mine = _key(kind, key)
        if self._concerns(mine):
            self._judge_again((mine,))
        else:
            self._forget(mine)

    def _concerns(self, key: Key) -> bool:
        """Whether it is there by what is followed, and not known to be of no concern."""
        name = f"{key.namespace}/{key.name}"
        if key.kind == PVC:
            claims = self._followed.claims
            return not claims.synced or claims.get(name) is not None
        if key.kind == PLAN:
            return not self._followed.plans.synced or self._followed.converts(name)
        return not self._migrations.synced or bool(self._migrations.get(name))

    def _label_changed(self, namespace: str) -> None:
        """What is done about findings there; Plans of other namespaces convert into it, too."""
        self._whole.set()

    def _judge_again(self, keys: Collection[Key], since: float | None = None) -> None:
        """These, and the Migrations of what is a Plan among them."""
        plans = {f"{key.namespace}/{key.name}" for key in keys if key.kind == PLAN}
        for key in (*keys, *self._migrations_of(plans)):
            first = self._queue.get(key)
            self._queue[key] = since if first is None else first
        if len(self._queue) > FLOOD:
            self._whole.set()

    async def _look(self) -> None:
        policy = self._current().policy
        since = again_at = time.monotonic()
        states = {one.name: one.state for one in self._current().inventory.vsphere()}
        while True:
            await asyncio.sleep(_LOOK)
            now = time.monotonic()
            sources = self._current()
            if sources.policy != policy:
                policy = sources.policy
                self._whole.set()
            async for news in self._lookout.look(sources.inventory):
                for what in news.what:
                    self._metrics.drifted(what)
                self._judge_again(self._watched.touched([news.vm]), since)
            for provider in sources.inventory.vsphere():
                before, states[provider.name] = states.get(provider.name), provider.state
                if before not in (None, provider.state):  # what of it can be had is another thing
                    named = await self._lookout.known_to(provider)
                    self._judge_again(self._watched.touched(named))
            since = now  # what the next look finds has come after this one
            if now >= again_at + _AGAIN:
                again_at = now
                self._judge_again(tuple(self._book.undecided()))
                self._judge_again(self._book.keys(MIGRATION))  # time alone makes some of it wrong

    def _migrations_of(self, plans: set[str]) -> set[Key]:
        started = (self._migrations.known() or {}).items() if plans else ()
        return {_key(MIGRATION, name) for name, plan in started if plan in plans}

    # What is done about it

    async def _work(self) -> None:
        while True:
            if not self._queue:
                await asyncio.sleep(_LOOK / 5)
                continue
            some = list(self._queue.items())[:_BATCH]
            for key, _ in some:
                del self._queue[key]
            try:
                await self._again(dict(some))
            except ClusterUnreachable as error:
                self._tell(str(error))
                for key, since in some:
                    self._queue.setdefault(key, since)
                await asyncio.sleep(1)

    async def _again(self, keys: dict[Key, float | None]) -> None:
        """Read these, and judge them. Raises ClusterUnreachable."""
        turn = asyncio.Semaphore(_READS)

        async def read(key: Key) -> FoundObject | None:
            async with turn:
                return await one(self._cluster, *key)

        found = await asyncio.gather(*map(read, keys))
        there = []
        for key, standing in zip(keys, found, strict=True):
            if standing is None or not self._takes(standing):
                self._forget(key)
            else:
                there.append(standing)
        for outcome in await self._judge.judge(there, self._current()):
            self._keep(outcome, keys[outcome.key])
        self._tell("")

    async def _sweep_often(self, every: float) -> None:
        while True:
            try:
                async with asyncio.timeout(every):
                    await self._whole.wait()
            except TimeoutError:
                pass
            if not await self._sweep():
                await asyncio.sleep(1)
                self._whole.set()

    async def _sweep(self) -> bool:
        """Judge all there is; whether all could be read."""
        self._whole.clear()
        self._queue.clear()
        try:
            for kind in KINDS:
                gone = self._book.keys(kind)
                async for outcomes in self._outcomes(kind):
                    for outcome in outcomes:
                        self._keep(outcome)
                        gone.discard(outcome.key)
                for key in gone:
                    self._forget(key)
        except ClusterUnreachable as error:
            self._tell(str(error))
            return False
        self._tell("")
        return True

    async def _outcomes(self, kind: str) -> AsyncIterator[list[AuditResult]]:
        """Of all there is. Pages wait for vSphere together, for they share its reads. Raises
        ClusterUnreachable."""
        judging: set[asyncio.Task[list[AuditResult]]] = set()
        try:
            async for page in everything(self._cluster, kind):
                there = [standing for standing in page if self._takes(standing)]
                judging.add(asyncio.create_task(self._judge.judge(there, self._current())))
                if len(judging) >= _PAGES:
                    done, judging = await asyncio.wait(judging, return_when=asyncio.FIRST_COMPLETED)
                    for one_page in done:
                        yield one_page.result()
            for outcomes in await asyncio.gather(*judging):
                yield outcomes
        finally:
            for one_page in judging:
                one_page.cancel()

    def _takes(self, standing: FoundObject) -> bool:
        """Whether it is watched; from now on its VMs are, too."""
        if not counts(standing, self._current()):
            return False
        key = Key(standing.kind, standing.namespace, standing.name)
        vms: tuple[VmRef, ...] = ()
        if standing.kind == PLAN:
            vms = vms_of(standing.object)
        elif standing.kind == PVC:
            labels = standing.object["metadata"].get("labels") or {}
            vms = (VmRef(str(labels.get(VM_ID, ""))),)
        self._watched.put(key, vms)
        self._lookout.begin(vms, self._current().inventory)
        return True

    def _keep(self, outcome: AuditResult, since: float | None = None) -> None:
        """Unless it has gone while it was judged."""
        if self._concerns(outcome.key):
            self._book.put(outcome, since)
        else:
            self._forget(outcome.key)

    def _forget(self, key: Key) -> None:
        self._book.drop(key)
        self._judge.whole.discard(key)
        if key.kind != PVC or not self._concerns(key):
            self._watched.put(key, ())

    def _tell(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            _log.warning("what is on the cluster can't be judged: %s", trouble)
        self._trouble = trouble


def _key(kind: str, key: str) -> Key:
    namespace, _, name = key.partition("/")
    return Key(kind, namespace, name)
