"""A thread that reads a vCenter and follows it, and fresh reads of single VMs beside it."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
from pyVmomi import vim, vmodl

from webhook.errors import VsphereUnreachable
from webhook.inventory import Index, ProviderInventory
from webhook.model import MOREF, UUID, Folder, VirtualMachine
from webhook.vsphere.records import FOLDER_FIELDS, VM_FIELDS, fields_of, moref_of, vm_of
from webhook.vsphere.session import (
    WAIT_SECONDS,
    LoginRefused,
    Session,
    SessionEnded,
    VsphereAddress,
    told,
)

_log = logging.getLogger("webhook.vsphere")

_Collector = vmodl.query.PropertyCollector
_OBJECTS_AT_ONCE = 500
_READS_AT_ONCE = 4
_PAUSES = 0.5, 30.0  # seconds, doubling from the first to the second
_AFTER_REFUSED_LOGIN = 15 * 60.0
_PASSWORD_LOOKS = 5.0


class LiveSource:
    """Keeps `inventory` as one vSphere has it; its thread runs from start() to stop()."""

    def __init__(self, address: VsphereAddress, inventory: ProviderInventory) -> None:
        self._address = address
        self._inventory = inventory
        self._stopping = threading.Event()
        self._session: Session | None = None
        self._collector: Any = None
        self._reads = ThreadPoolExecutor(_READS_AT_ONCE, f"read {inventory.name}")
        self._thread = threading.Thread(target=self._run, name=f"follow {inventory.name}")
        inventory.reader = self

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, log out, and return when both are done."""
        self._stopping.set()
        session, collector = self._session, self._collector
        if session is not None and collector is not None:
            with suppress(Exception):  # it may have ended by itself in this moment
                session.quick(collector).CancelWaitForUpdates()
        self._reads.shutdown(cancel_futures=True)
        if self._thread.is_alive():
            self._thread.join()

    async def read(
        self, *, morefs: Collection[str], uuids: Collection[str], names: Collection[str]
    ) -> tuple[VirtualMachine, ...]:
        """See webhook.inventory.Reader."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reads, self._read, morefs, uuids, names)

    # --- the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            known = self._inventory.synced
            try:
                self._follow()
                return  # only when stopping
            except LoginRefused as refusal:
                self._lost(refusal)
                self._rest_after_refusal()
            except VsphereUnreachable as error:
                self._lost(error)
            except Exception as error:  # noqa: BLE001  a fault of ours must not end it in silence
                _log.exception("%s: reading failed", self._inventory.name)
                self._lost(error)
            failures = 0 if self._inventory.synced and not known else failures + 1
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
                collector = session.content.propertyCollector.CreatePropertyCollector()
                collector.CreateFilter(_everything(session), partialUpdates=False)
                self._session, self._collector = session, collector
                self._keep_up(session, collector)
        finally:
            self._session = self._collector = None
            session.close()

    def _keep_up(self, session: Session, collector: Any) -> None:
        started = time.monotonic()
        index, version, whole = Index(), "", False
        while not self._stopping.is_set():
            options = _Collector.WaitOptions(
                maxWaitSeconds=WAIT_SECONDS, maxObjectUpdates=_OBJECTS_AT_ONCE
            )
            try:
                updates = collector.WaitForUpdatesEx(version, options)
            except vmodl.fault.RequestCanceled:
                continue  # by stop()
            asked = time.monotonic()
            if updates is not None:
                version = updates.version
                for filtered in updates.filterSet:
                    for change in filtered.objectSet:
                        _apply(session, index, change)
                if updates.truncated:
                    continue  # more is ready: until it is here, the index is of no one moment
            if not whole:
                # A reader sees the old index until the new one is whole.
                self._inventory.vms, whole = index, True
                seconds = asked - started
                _log.info("%s: %d VMs read in %.1f s", self._inventory.name, len(index), seconds)
            self._inventory.heard(asked)

    # --- fresh reads ------------------------------------------------------------------------

    def _read(
        self, morefs: Collection[str], uuids: Collection[str], names: Collection[str]
    ) -> tuple[VirtualMachine, ...]:
        session = self._session
        if session is None:
            raise VsphereUnreachable(self._inventory.trouble)
        try:
            with told(self._address):
                wanted = {moref for moref in morefs if MOREF.fullmatch(moref)}
                wanted.update(_by_uuid(session, uuids))
                wanted.update(_by_name(session, names))
                return tuple(_records(session, sorted(wanted)))
        except SessionEnded as ended:
            raise VsphereUnreachable(f"provider {self._inventory.name}: {ended}") from None
        except VsphereUnreachable as error:
            since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            message = f"provider {self._inventory.name} is unreachable since {since} ({error})"
            raise VsphereUnreachable(message) from None


def _everything(session: Session) -> Any:
    """The filter on every VM, folder and datacenter, with the fields that are needed."""
    kinds = [vim.VirtualMachine, vim.Folder, vim.Datacenter]
    root = session.content.rootFolder
    view = session.content.viewManager.CreateContainerView(root, kinds, True)
    traversal = _Collector.TraversalSpec(
        name="view", path="view", skip=False, type=vim.view.ContainerView
    )
    return _Collector.FilterSpec(
        objectSet=[_Collector.ObjectSpec(obj=view, skip=True, selectSet=[traversal])],
        propSet=[
            _Collector.PropertySpec(type=vim.VirtualMachine, pathSet=list(VM_FIELDS)),
            _Collector.PropertySpec(type=vim.Folder, pathSet=list(FOLDER_FIELDS)),
            _Collector.PropertySpec(type=vim.Datacenter, pathSet=list(FOLDER_FIELDS)),
        ],
    )


def _apply(session: Session, index: Index, change: Any) -> None:
    moref = moref_of(change.obj)
    if not isinstance(change.obj, vim.VirtualMachine):
        if change.kind == "leave":
            index.drop_folder(moref)
            return
        old = next((f for f in index.folders if f.moref == moref), Folder(moref, ""))
        now = {entry.name: entry.val for entry in change.changeSet}
        name, parent = now.get("name", old.name), now.get("parent")
        index.put_folder(Folder(moref, name, moref_of(parent) if parent else old.parent))
        return
    if change.kind == "leave":
        index.drop(moref)
        return
    known = index.by_moref(moref)
    values = {entry.name: entry.val for entry in change.changeSet}
    plain = all(entry.name in VM_FIELDS and entry.op == "assign" for entry in change.changeSet)
    if change.kind == "enter" or (known is None and plain):
        index.put(vm_of(moref, values))
    elif known is not None and plain:
        index.put(msgspec.structs.replace(known, **fields_of(values)))
    else:
        # A part of a property, such as one device: simpler to ask than to splice.
        for record in _records(session, [moref]):
            index.put(record)


def _records(session: Session, morefs: list[str]) -> Iterator[VirtualMachine]:
    """The VMs of these morefs that are there."""
    if not morefs:
        return
    collector = session.quick(session.content.propertyCollector)
    spec = _Collector.FilterSpec(
        objectSet=[_Collector.ObjectSpec(obj=session.vm(moref)) for moref in morefs],
        propSet=[_Collector.PropertySpec(type=vim.VirtualMachine, pathSet=list(VM_FIELDS))],
    )
    try:
        yield from _retrieved(collector, spec)
    except vmodl.fault.ManagedObjectNotFound:
        if len(morefs) > 1:  # one that is gone spoils the call for all
            for moref in morefs:
                yield from _records(session, [moref])


def _retrieved(collector: Any, spec: Any) -> Iterator[VirtualMachine]:
    for found in _pages(collector, spec):
        yield vm_of(moref_of(found.obj), {prop.name: prop.val for prop in found.propSet})


def _pages(collector: Any, spec: Any) -> Iterator[Any]:
    page = collector.RetrievePropertiesEx(
        [spec], _Collector.RetrieveOptions(maxObjects=_OBJECTS_AT_ONCE)
    )
    while page is not None:
        yield from page.objects
        page = collector.ContinueRetrievePropertiesEx(page.token) if page.token else None


def _by_uuid(session: Session, uuids: Collection[str]) -> Iterator[str]:
    search = session.quick(session.content.searchIndex)
    for uuid in uuids:
        if UUID.fullmatch(uuid):
            for instance in (False, True):
                found = search.FindAllByUuid(None, uuid.lower(), True, instance) or ()
                yield from (moref_of(vm) for vm in found)


def _by_name(session: Session, names: Collection[str]) -> Iterator[str]:
    """VMs of these names or at these paths' ends; vSphere itself can't be asked by name alone."""
    last = {name.rstrip("/").rpartition("/")[2] for name in names}
    if not last:
        return
    everything = _everything(session)
    everything.propSet = [_Collector.PropertySpec(type=vim.VirtualMachine, pathSet=["name"])]
    for found in _pages(session.quick(session.content.propertyCollector), everything):
        if {prop.val for prop in found.propSet} & last:
            yield moref_of(found.obj)
