"""A thread that reads a vCenter and follows it, and fresh reads of single VMs beside it."""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from webhook.errors import VsphereUnreachable
from webhook.inventory.confirm import Confirmations
from webhook.inventory.index import ROOTS, Fresh, Index
from webhook.inventory.provider import ProviderInventory, last_names
from webhook.logs import Repeated
from webhook.model.keys import MOREF
from webhook.pauses import pause
from webhook.shared import shared
from webhook.vsphere.answers import SoapFault
from webhook.vsphere.collector import morefs_of_names, morefs_of_uuids, those
from webhook.vsphere.failures import SessionEnded, explained
from webhook.vsphere.mirror import Mirror, apply
from webhook.vsphere.refusals import REFUSALS, LoginRefused, Refusals, Turn
from webhook.vsphere.session import QUICK, Session, VsphereAddress

SILENCE = 10.0
"""Seconds after which a vSphere that says nothing is not taken as alive any more."""

_log = logging.getLogger("webhook.vsphere")

_READS_AT_ONCE = 4
_PAUSES = 0.5, 30.0  # seconds
_PASSWORD_LOOKS = 5.0
_PARTING = 1.0
"""Seconds for the last wait to be answered, so that no session ends amid a call of its own."""
_NICE = 10
"""Reviews go first; a read that has a core to itself takes no longer."""


class LiveSource:
    """Keeps `inventory` as one vSphere has it; its thread runs from start() to stop()."""

    def __init__(
        self,
        address: VsphereAddress,
        inventory: ProviderInventory,
        failed: Callable[[], None] = lambda: None,
        *,
        silence: float = SILENCE,
        refusals: Refusals = REFUSALS,
        turn: Turn | None = None,
    ) -> None:
        """`failed` is called in the thread for each fault that is not vSphere's, which it outlives;
        `silence` is in seconds without an answer, from which on vSphere counts as silent; `turn`
        says which of several replicas may try to log in."""
        self._failed = failed
        self._address = address
        self._inventory = inventory
        self._refusals = refusals
        self._turn = turn
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        """Of `_session`."""
        self._session: Session | None = None
        self._mirror: Mirror | None = None
        self._failures = 0
        self._trouble = Repeated()
        self._reads = ThreadPoolExecutor(_READS_AT_ONCE, f"read {inventory.name}")
        self._thread = threading.Thread(target=self._run, name=f"follow {inventory.name}")
        inventory.silence = silence
        inventory.reader = Confirmations(inventory, self._ask, time.monotonic)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, log out, and return when both are done."""
        self._stopping.set()
        self._reads.shutdown(cancel_futures=True)
        session = self._session
        if (mirror := self._mirror) is not None:
            with suppress(Exception):  # it may have ended by itself in this moment
                mirror.following.cancel()
        if self._thread.is_alive():
            self._thread.join(_PARTING)
        if session is not None:
            session.break_off()
        if self._thread.is_alive():
            self._thread.join()

    async def _ask(
        self,
        morefs: Collection[str],
        uuids: Collection[str],
        names: Collection[str],
        begin: Callable[[], None],
    ) -> Fresh:
        """See webhook.inventory.confirm.Ask."""

        def read() -> Fresh:
            begin()
            return self._read(morefs, uuids, names)

        try:
            submitted = self._reads.submit(read)
        except RuntimeError:  # stop() has been called
            raise VsphereUnreachable(self._ended) from None
        asked = shared(asyncio.wrap_future(submitted))
        await asyncio.wait([asked])  # its being cancelled is stop()'s word, ours is another's
        if asked.cancelled():
            raise VsphereUnreachable(self._ended)
        return asked.result()

    @property
    def _ended(self) -> str:
        return f"the guard is logging in to provider {self._inventory.name} again: try again"

    def _run(self) -> None:
        if sys.platform == "linux":  # where each thread has a niceness of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while not self._stopping.is_set():
            try:
                self._follow()
            except LoginRefused as refusal:
                self._lost(refusal)
                self._rest()
            except VsphereUnreachable as error:
                self._lost(error)
            except Exception as error:  # noqa: BLE001  a fault of ours must not end it in silence
                _log.exception("%s: reading failed", self._inventory.name)
                self._failed()
                self._lost(error)
            self._failures += 1
            self._stopping.wait(pause(_PAUSES, self._failures - 1))

    def _lost(self, error: Exception) -> None:
        if self._stopping.is_set():
            return
        cause = str(error) if isinstance(error, VsphereUnreachable) else type(error).__name__
        if self._inventory.unreachable_since is None:
            self._trouble.over()
        self._tell(cause)
        self._inventory.lost(cause, datetime.now(UTC))

    def _tell(self, cause: str) -> None:
        """Who may read the log may know the account; who is refused for it may not."""
        if self._trouble.due(cause):
            known = f"user {self._address.user}, {self._inventory.secret or 'no Secret'}"
            _log.warning("%s is unreachable: %s (%s)", self._inventory.name, cause, known)

    def _rest(self) -> None:
        """Never lock an account: no new try while the password that is set now must rest."""
        while not self._stopping.is_set():
            try:
                left = self._refusals.rest(self._address.account, self._address.password())
            except VsphereUnreachable:  # the next login says so
                return
            if left <= 0 or self._stopping.wait(min(left, _PASSWORD_LOOKS)):
                return
            self._tell(self._inventory.cause)
            if self._turn is not None:  # the others rest as long as it is this one's
                self._turn.take(self._address.account)

    def _follow(self) -> None:
        """Log in, read everything, and keep up until something fails or stop() is called."""
        address = self._address
        session = Session(
            address, partial(self._refusals.attempt, address.account, turn=self._turn)
        )
        try:
            with explained(address.signer):
                self._mirror = Mirror(session, self._inventory, self._stopping)
            self._use(session)
            self._mirror.keep(self._alive)
        except SoapFault as fault:
            if fault.kind != "RequestCanceled" or not self._stopping.is_set():
                raise
        finally:
            self._use(None)
            self._mirror = None
            session.close()

    def _alive(self) -> None:
        self._failures = 0

    def _use(self, session: Session | None) -> None:
        with self._changed:
            self._session = session
            self._changed.notify_all()

    def _session_after(self, ended: Session | None) -> Session:
        """The session there is, or soon is, other than one that has ended: a login may take as long
        as an answer."""
        with self._changed:
            wait = QUICK if ended is not None else 0.0
            self._changed.wait_for(lambda: self._session not in (None, ended), wait)
            if self._session is None or self._session is ended:
                raise VsphereUnreachable("the login has not finished yet")
            return self._session

    def _read(
        self, morefs: Collection[str], uuids: Collection[str], names: Collection[str]
    ) -> Fresh:
        try:
            session = self._session_after(None)
            try:
                return self._read_by(session, morefs, uuids, names)
            except SessionEnded:
                # The thread that follows can't know yet: a lost session doesn't wake its wait.
                session.break_off()
                session = self._session_after(session)
                return self._read_by(session, morefs, uuids, names)
        except VsphereUnreachable as error:
            if self._inventory.unreachable_since is not None:
                raise VsphereUnreachable(self._inventory.trouble) from None
            why = self._inventory.out_of_reach(datetime.now(UTC), str(error))
            raise VsphereUnreachable(why) from None

    def _read_by(
        self,
        session: Session,
        morefs: Collection[str],
        uuids: Collection[str],
        names: Collection[str],
    ) -> Fresh:
        with explained(self._address.signer):
            wanted = {moref for moref in morefs if MOREF.fullmatch(moref)}
            wanted.update(morefs_of_uuids(session, uuids))
            wanted.update(morefs_of_names(session, last_names(names)))
            found = Index()
            for change in those(session, wanted):
                apply(found, change)
            fresh = Fresh(found)
            if names:  # folders count where a name may be a path
                self._read_folders(session, fresh)
            return fresh

    def _read_folders(self, session: Session, fresh: Fresh) -> None:
        """The folders above these VMs, as they are now: one may just have been made or renamed."""
        known, found = self._inventory.vms, Index(fresh)
        wanted = {folder.moref for vm in fresh for folder in known.above(vm)}
        wanted |= {vm.parent for vm in fresh}
        asked = {"", *ROOTS}
        while wanted := wanted - asked:
            asked |= wanted
            datacenters = {moref for moref in wanted if "datacenter" in moref}
            for change in (
                *those(session, wanted - datacenters, "Folder"),
                *those(session, datacenters, "Datacenter"),
            ):
                apply(found, change)
            wanted = {folder.parent for folder in found.folders}
        fresh.folders = found.folders
