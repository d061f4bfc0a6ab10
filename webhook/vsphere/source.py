"""A thread that reads a vCenter and follows it, and fresh reads of single VMs beside it."""

import asyncio
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from webhook.errors import VsphereUnreachable
from webhook.inventory.confirm import Confirmations
from webhook.inventory.index import Index
from webhook.inventory.provider import ProviderInventory
from webhook.model.keys import MOREF
from webhook.model.vms import Folder, VirtualMachine
from webhook.vsphere.answers import Change, Fault
from webhook.vsphere.collector import Following, morefs_of_names, morefs_of_uuids, vms
from webhook.vsphere.session import LoginRefused, Session, SessionEnded, VsphereAddress, told

_log = logging.getLogger("webhook.vsphere")

_READS_AT_ONCE = 4
_PAUSES = 0.5, 30.0  # seconds, doubling from the first to the second
_AFTER_REFUSED_LOGIN = 15 * 60.0
_PASSWORD_LOOKS = 5.0
_NEW_SESSION = 2.0  # seconds that a fresh read waits for one
_AFRESH = 600.0  # seconds: no protocol is trusted for ever
_PROGRESS = 5.0
_NICE = 10
"""Reviews go first; a read that has a core to itself takes no longer."""
_VMS_LIMIT = 200_000


class LiveSource:
    """Keeps `inventory` as one vSphere has it; its thread runs from start() to stop()."""

    def __init__(self, address: VsphereAddress, inventory: ProviderInventory) -> None:
        self._address = address
        self._inventory = inventory
        self._stopping = threading.Event()
        self._logged_in = threading.Event()
        self._session: Session | None = None
        self._following: Following | None = None
        self._reads = ThreadPoolExecutor(_READS_AT_ONCE, f"read {inventory.name}")
        self._thread = threading.Thread(target=self._run, name=f"follow {inventory.name}")
        inventory.reader = Confirmations(inventory, self, time.monotonic)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, log out, and return when both are done."""
        self._stopping.set()
        if (following := self._following) is not None:
            with suppress(Exception):  # it may have ended by itself in this moment
                following.cancel()
        if (session := self._session) is not None:
            session.break_off()
        self._reads.shutdown(cancel_futures=True)
        if self._thread.is_alive():
            self._thread.join()
        if session is not None:
            session.drop()  # the cancel above may have come back after the thread's own

    async def read(
        self,
        *,
        morefs: Collection[str],
        uuids: Collection[str],
        names: Collection[str],
        user: str = "",
        afresh: bool = False,
    ) -> tuple[VirtualMachine, ...]:
        """See webhook.inventory.provider.Reader."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reads, self._read, morefs, uuids, names)

    def _run(self) -> None:
        if sys.platform == "linux":  # where each thread has a niceness of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        failures = 0
        while not self._stopping.is_set():
            heard = self._inventory.heard_at
            try:
                self._follow()
            except LoginRefused as refusal:
                self._lost(refusal)
                self._rest_after_refusal()
            except VsphereUnreachable as error:
                self._lost(error)
            except Exception as error:  # noqa: BLE001  a fault of ours must not end it in silence
                _log.exception("%s: reading failed", self._inventory.name)
                self._lost(error)
            failures = failures + 1 if self._inventory.heard_at == heard else 0
            first, last = _PAUSES
            pause = min(last, first * 2 ** min(failures, 10))
            self._stopping.wait(random.uniform(pause / 2, pause))  # noqa: S311  jitter, no secret

    def _lost(self, error: Exception) -> None:
        if self._stopping.is_set():
            return
        cause = str(error) if isinstance(error, VsphereUnreachable) else type(error).__name__
        if self._inventory.unreachable_since is None or cause != self._inventory.cause:
            _log.warning("%s is unreachable: %s", self._inventory.name, cause)
        self._inventory.lost(cause, datetime.now(UTC))

    def _rest_after_refusal(self) -> None:
        """Never lock an account: no new try for a while, unless the password has changed."""
        refused = self._password()
        until = time.monotonic() + _AFTER_REFUSED_LOGIN
        while time.monotonic() < until and not self._stopping.wait(_PASSWORD_LOOKS):
            if self._password() != refused:
                return

    def _password(self) -> str | None:
        with suppress(VsphereUnreachable):
            return self._address.password()
        return None

    def _follow(self) -> None:
        """Log in, read everything, and keep up until something fails or stop() is called."""
        session = Session(self._address)
        try:
            with told(self._address):
                following = Following(session)
            self._session, self._following = session, following
            self._logged_in.set()
            index = self._everything(following)
            self._inventory.vms = index  # a reader sees the old one until the new one is whole
            self._heard()
            self._keep_up(session, following, index)
        except Fault as fault:
            if fault.kind != "RequestCanceled" or not self._stopping.is_set():
                raise
        finally:
            self._logged_in.clear()
            self._session = self._following = None
            session.close()

    def _heard(self) -> None:
        self._inventory.heard(time.monotonic())

    def _everything(self, following: Following) -> Index:
        try:
            index = self._read_everything(following)
        except VsphereUnreachable:
            self._inventory.reads["full", "failed"] += 1
            raise
        self._inventory.reads["full", "ok"] += 1
        return index

    def _read_everything(self, following: Following) -> Index:
        started = told_at = time.monotonic()
        index = Index()
        for change in following.everything():
            _apply(index, change)
            self._inventory.read_so_far = len(index)
            if len(index) > _VMS_LIMIT:
                raise VsphereUnreachable(f"it has more than {_VMS_LIMIT} VMs")
            if (now := time.monotonic()) - told_at > _PROGRESS:
                told_at = now
                _log.info("%s: %d VMs read so far", self._inventory.name, len(index))
            if self._stopping.is_set():
                break
        seconds = time.monotonic() - started
        _log.info("%s: %d VMs read in %.1f s", self._inventory.name, len(index), seconds)
        return index

    def _keep_up(self, session: Session, following: Following, index: Index) -> None:
        # The first news tell everything once more. What changed during the read is in them; a VM
        # that went away during the read is not.
        told_of: set[str] | None = set()
        afresh = time.monotonic() + _AFRESH
        while not self._stopping.is_set():
            changes, more = following.news(wait=told_of is None)
            for change in changes:
                if told_of is not None:
                    told_of.add(change.moref)
                if change.whole:
                    _apply(index, change)
                else:  # a part of a property, such as one device: simpler to ask than to splice
                    for now in vms(session, [change.moref]):
                        _apply(index, now)
            if more:
                continue  # until all of it is here, the index is of no one moment
            if told_of is not None:
                for vm in index:
                    if vm.moref not in told_of:
                        index.drop(vm.moref)
                told_of = None
            self._heard()
            if time.monotonic() > afresh:
                self._compare(following, index)
                afresh = time.monotonic() + _AFRESH

    def _compare(self, following: Following, index: Index) -> None:
        """Read everything once more; what differs was missed, and is mended and told."""
        truth = self._everything(following)
        changes, _ = following.news(wait=False)
        recent = {change.moref for change in changes}
        for change in changes:
            _apply(index, change)
        missed = [vm for vm in truth if vm.moref not in recent and index.by_moref(vm.moref) != vm]
        gone = [vm for vm in index if vm.moref not in recent and truth.by_moref(vm.moref) is None]
        for vm in missed:
            index.put(vm)
        for vm in gone:
            index.drop(vm.moref)
        if missed or gone:
            _log.warning(
                "%s: %d VMs differed from what its updates said", self._inventory.name,
                len(missed) + len(gone),
            )  # fmt: skip

    def _read(
        self, morefs: Collection[str], uuids: Collection[str], names: Collection[str]
    ) -> tuple[VirtualMachine, ...]:
        try:
            try:
                return self._read_once(morefs, uuids, names)
            except SessionEnded:
                # The thread that follows can't know yet: a lost session doesn't wake its wait.
                if (session := self._session) is not None:
                    self._logged_in.clear()
                    session.break_off()
                self._logged_in.wait(_NEW_SESSION)
                return self._read_once(morefs, uuids, names)
        except VsphereUnreachable as error:
            if self._inventory.unreachable_since is not None:
                raise VsphereUnreachable(self._inventory.trouble) from None
            since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            message = f"provider {self._inventory.name} is unreachable since {since} ({error})"
            raise VsphereUnreachable(message) from None

    def _read_once(
        self, morefs: Collection[str], uuids: Collection[str], names: Collection[str]
    ) -> tuple[VirtualMachine, ...]:
        session = self._session
        if session is None:
            raise VsphereUnreachable("it is being logged in to")
        with told(self._address):
            wanted = {moref for moref in morefs if MOREF.fullmatch(moref)}
            wanted.update(morefs_of_uuids(session, uuids))
            wanted.update(morefs_of_names(session, names))
            found = Index()
            for change in vms(session, wanted):
                _apply(found, change)
            return tuple(found)


def _apply(index: Index, change: Change) -> None:
    if change.type != "VirtualMachine":
        if change.kind == "leave":
            index.drop_folder(change.moref)
        elif (known := index.folder(change.moref)) is not None:
            index.put_folder(msgspec.structs.replace(known, **change.fields))
        else:
            index.put_folder(Folder(change.moref, **{"name": "", **change.fields}))
        return
    old = index.by_moref(change.moref)
    if change.kind == "leave":
        index.drop(change.moref)
    elif change.kind == "modify" and old is not None:
        index.put(msgspec.structs.replace(old, **change.fields))
    else:
        new = VirtualMachine(change.moref, **change.fields)
        if new != old:
            index.put(new)
