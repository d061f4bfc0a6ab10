"""What runs beside the reviews: each part has a name, and its end is an event, never the last one.

A part that ends, by itself or by an exception of any kind, is counted, told, and begins anew after
a pause. One that fails again and again is told of by readiness, if verdicts rest on it. Where a
part can't begin anew in this process, the process ends, and says why.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from webhook.errors import GuardError
from webhook.pauses import pause

Run = Callable[[], Coroutine[Any, Any, None]]
"""Does a part's work until it is cancelled. Called again, it begins anew."""

PARTS: Mapping[str, bool] = {
    "audit": False,
    "cache": False,
    "certificates": True,
    "client-ca": True,
    "cluster": True,
    "events": False,
    "namespaces": True,
    "persistentvolumeclaims": True,
    "plans": True,
    "provider": False,  # one of many: what rests on it is undecided, and the others are right
    "providers": True,
    "release": False,
    "settings": True,
    "storageclasses": True,
    "vsphere": False,  # likewise
}
"""Every part there may be, and whether a replica without it had better get no reviews."""

REPEATED = 4
"""Ends in a row after which a part fails again and again: with PAUSES, some seconds' worth."""
STEADY = 10.0
"""Seconds after which a part that has begun anew works."""
PAUSES = 0.5, 30.0  # seconds
_HOPELESS = ImportError, MemoryError

_log = logging.getLogger("webhook")


class _Kept:
    """A part at work: how often it has ended in a row, and since when it runs (None: it waits)."""

    def __init__(self, part: str) -> None:
        self.part, self.needed = part, PARTS[part]
        self.ends = 0
        self.since: float | None = None


class Supervisor:
    """Keeps parts running. `restarted` hears the name of each that begins anew; `hopeless` hears
    why the process must end. `now` is a clock in seconds."""

    def __init__(
        self,
        restarted: Callable[[str], None],
        hopeless: Callable[[str], None],
        *,
        now: Callable[[], float] = time.monotonic,
        pauses: tuple[float, float] = PAUSES,
    ) -> None:
        self._restarted, self._hopeless = restarted, hopeless
        self._now, self._pauses = now, pauses
        self._kept: set[_Kept] = set()

    def failing(self) -> tuple[str, ...]:
        """The parts that verdicts rest on, and that fail again and again."""
        return tuple(sorted({kept.part for kept in self._kept if self._fails(kept)}))

    async def keep_all(self, parts: Iterable[tuple[str, Run]]) -> None:
        """Keep these running until cancelled; then end them, beginning with the first."""
        tasks = [asyncio.create_task(self.keep(part, run), name=part) for part, run in parts]
        try:
            await asyncio.Event().wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def keep(self, part: str, run: Run, /) -> None:
        """Keep one of PARTS running until cancelled."""
        kept = _Kept(part)
        told = ""
        self._kept.add(kept)
        try:
            while True:
                kept.since = self._now()
                error = await _ended(run)
                lasted, kept.since = self._now() - kept.since, None
                kept.ends = 1 if lasted >= STEADY else kept.ends + 1
                cause = _cause(error)
                if isinstance(error, _HOPELESS):
                    self._hopeless(f"the part {part} can't run: {cause}")
                    return
                if cause != told or lasted >= STEADY:
                    _tell(part, cause, error)
                told = cause
                self._restarted(part)
                await asyncio.sleep(pause(self._pauses, kept.ends - 1))
        finally:
            self._kept.discard(kept)

    def _fails(self, kept: _Kept) -> bool:
        steady = kept.since is not None and self._now() - kept.since >= STEADY
        return kept.needed and kept.ends >= REPEATED and not steady


async def _ended(run: Run) -> BaseException | None:
    """How a part has ended. A cancellation counts as one of its ends unless it is this task's."""
    task = asyncio.current_task()
    try:
        await run()
    except asyncio.CancelledError as error:
        if task is None or task.cancelling():
            raise
        return error
    except Exception as error:  # noqa: BLE001  whatever it is, the part must begin anew
        return error
    return None


def _cause(error: BaseException | None) -> str:
    if error is None:
        return "it ended by itself"
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(map(_cause, error.exceptions)))
    # The text of another's exception may hold anything, such as a line of a file of secrets.
    return str(error) if isinstance(error, GuardError | ImportError) else type(error).__name__


def _tell(part: str, cause: str, error: BaseException | None) -> None:
    """Once for the same cause in a row; with a traceback where it is no fault that has a name."""
    known = error is None or _named(error)
    _log.error("the part %s has ended and begins anew: %s", part, cause,
               exc_info=None if known else error)  # fmt: skip


def _named(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_named, error.exceptions))
    return isinstance(error, GuardError)
