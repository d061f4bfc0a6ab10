"""Objects as they stand, judged by the engine of admission, many at once and without haste."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from webhook.audit.outcome import AuditResult, Remark, of_doubt, of_result
from webhook.audit.pool import Pools
from webhook.audit.readers import Batch
from webhook.audit.running import Waits, fields_begun, remarks_on, unproved
from webhook.cluster import FoundObject
from webhook.engine.check import audit
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.engine.watched import Key
from webhook.errors import ClusterUnreachable, ObjectMalformed
from webhook.inventory.cluster import ClusterReader, Followed, Table
from webhook.model.forklift import Migration, Plan
from webhook.model.keys import PRIME
from webhook.model.objects import Pvc
from webhook.model.shape import mapping

PATIENCE = 20.0
"""Seconds for one object: it may wait for its turn to read vSphere."""
_ABREAST = 8
"""Objects that begin at once: others on the same event loop wait for no more."""
_PAUSE = 0.005
"""Seconds for a turn of them, and until reviews get back what turns have taken: one takes less than
a timer's own inaccuracy."""
_MOST = 0.02
"""Seconds that a turn counts for: more was somebody else's."""


class Judge:
    """Judges by `followed` and `migrations`, and asks `live` and `waits` for the rest."""

    def __init__(
        self, followed: Followed, live: ClusterReader, migrations: Table[str], waits: Waits
    ) -> None:
        self._followed, self._live = followed, live
        self._migrations, self._waits = migrations, waits
        self._pools = Pools()
        self._turn, self._owed = asyncio.Lock(), 0.0
        """Whose turn it is, of those that judge at once; and the seconds that reviews have lent."""
        self.whole: set[Key] = set()
        """The Plans that the gate had nothing against once: what it has now has come since."""

    async def judge(self, there: Sequence[FoundObject], sources: Sources) -> list[AuditResult]:
        """What came of each, in their order."""
        known = msgspec.structs.replace(sources, inventory=self._pools.over(sources.inventory))
        stale = sources.policy.stale
        batch = Batch(self._live, self._followed, self._migrations, stale, sources.now)
        tasks: list[asyncio.Task[AuditResult]] = []
        try:
            for at in range(0, len(there), _ABREAST):
                async with self._turn:
                    began = time.thread_time()
                    some = [
                        asyncio.create_task(self._outcome(one, known, batch))
                        for one in there[at : at + _ABREAST]
                    ]
                    tasks += some
                    await asyncio.wait(some, timeout=_PAUSE)
                    # As long again for reviews, which go first: in pauses that a timer can tell.
                    self._owed += min(_MOST, time.thread_time() - began)
                    if self._owed >= _PAUSE:
                        await asyncio.sleep(self._owed)
                        self._owed = 0.0
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _outcome(self, one: FoundObject, known: Sources, batch: Batch) -> AuditResult:
        policy = _for_readers(known.policy, one.kind != "PersistentVolumeClaim")
        cluster = batch.read_in(one.namespace)
        sources = msgspec.structs.replace(known, policy=policy, cluster=cluster)
        try:
            if one.kind == "Migration":
                remarks = await remarks_on(one, sources, batch, self._waits, datetime.now(UTC))
            else:
                (result,) = await audit(
                    [one.object],
                    sources,
                    migrations=None,
                    claims=(),
                    patience=PATIENCE,
                    patches=False,
                )
                if one.kind == "Plan":
                    remarks = of_result(result, but=fields_begun(one.object))
                    remarks += await self._turned(one, sources)
                else:
                    remarks = of_result(result)
        except ClusterUnreachable as error:
            remarks = (of_doubt(f"the API server can't be asked: {error}"),)
        except ObjectMalformed as error:
            remarks = (of_doubt(f"{error.field}: {error}"),)
        return AuditResult(Key(one.kind, one.namespace, one.name), one.uid, remarks)

    async def _turned(self, one: FoundObject, sources: Sources) -> tuple[Remark, ...]:
        """What the gate has against a Plan that it had nothing against. Before that, whatever lacks
        may be on its way."""
        key = Key(one.kind, one.namespace, one.name)
        remarks = await unproved(one.object, sources, gate=False)
        wrong = tuple(remark for remark in remarks if remark.result != "warn")
        if not wrong:
            self.whole.add(key)
        return wrong if key in self.whole else ()


@lru_cache(maxsize=4)  # what comes of a policy is kept by the object itself
def _for_readers(policy: Policy, asked: bool) -> Policy:
    """As for whoever reads a namespace's reports. What they may know is `asked` of their Readers;
    of a PVC that would be Providers only, none of which they know: without, nothing is waited
    for."""
    return msgspec.structs.replace(policy, trust_network=asked, undecided="deny")


def counts(one: FoundObject, sources: Sources) -> bool:
    """Whether it is watched: a vendor's PVC that is not past its conversion, a conversion Plan, a
    Migration that has not ended."""
    if one.leaving:
        return False
    try:
        if one.kind == "PersistentVolumeClaim":
            pvc = Pvc.of(one.object)
            # A populator's own is no vendor's; the proof of its VM's disks counts it all the same.
            past = sources.policy.past_conversion.marks(pvc, created=False)
            return pvc.of_conversion and not past and not one.name.startswith(PRIME)
        if one.kind == "Plan":
            return Plan.of(one.object).judged
        ended = mapping(one.object.get("status")).get("completed")
        return Migration.of(one.object).judged and not ended
    except ObjectMalformed:
        return one.kind == "Plan"  # that is what there is to be said of it
