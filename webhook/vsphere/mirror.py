"""A provider's index, kept as one session's answers say: read whole, and then followed."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing

import msgspec

from webhook.errors import VsphereUnreachable
from webhook.inventory.index import Index
from webhook.inventory.provider import ProviderInventory
from webhook.model.vms import Folder, VirtualMachine
from webhook.vsphere.answers import Change
from webhook.vsphere.collector import Subscription, those
from webhook.vsphere.session import Session

_log = logging.getLogger("webhook.vsphere")

_AFRESH = 600.0  # seconds: no protocol is trusted for ever
_PROGRESS = 5.0
_VMS_LIMIT = 200_000


class Mirror:
    """What one session shows of a vSphere, in `inventory`."""

    def __init__(
        self, session: Session, inventory: ProviderInventory, stopping: threading.Event
    ) -> None:
        """Raises VsphereUnreachable, as every method does; each ends so when it is `stopping`."""
        self._session = session
        self._inventory = inventory
        self._stopping = stopping
        self.following = Subscription(session, inventory.silence)
        self._index = Index()

    def keep(self, alive: Callable[[], None]) -> None:
        """Read everything and follow it; `alive` is called whenever its news have been heard."""
        started = time.monotonic()
        self._index = self._everything()
        self._inventory.vms = self._index  # a reader sees the old one until the new one is whole
        self._inventory.whole(started)
        # The first news tell everything once more. What changed during the read is in them; a VM
        # that went away during the read is not.
        there = self._catch_up(wait=False)
        for vm in self._index:
            if vm.moref not in there:
                self._index.drop(vm.moref)
        compare_at = time.monotonic() + _AFRESH
        while True:
            alive()
            self._catch_up(wait=True)
            if time.monotonic() > compare_at:
                self._compare()
                compare_at = time.monotonic() + _AFRESH

    def _catch_up(self, *, wait: bool) -> set[str]:
        """Bring the index to one later moment, after a `wait` or now; what was told of."""
        told, parts = set[str](), set[str]()
        while True:
            news = self.following.news(wait=wait)
            if self._stopping.is_set():
                raise VsphereUnreachable("it is not followed any more")
            for change in news.changes:
                told.add(change.moref)
                if change.whole:
                    apply(self._index, change)
                else:  # a part of a property, such as one device: simpler to ask than to splice
                    parts.add(change.moref)
            if not news.more:  # until all of it is here, the index is of no one moment
                break
        for change in those(self._session, parts):
            apply(self._index, change)
        self._inventory.heard(news.at)
        return told

    def _everything(self, meanwhile: Callable[[], None] = lambda: None) -> Index:
        try:
            index = self._read_everything(meanwhile)
        except VsphereUnreachable:
            self._inventory.reads["full", "failed"] += 1
            raise
        self._inventory.reads["full", "ok"] += 1
        return index

    def _read_everything(self, meanwhile: Callable[[], None]) -> Index:
        started = told_at = time.monotonic()
        index = Index()
        with closing(self.following.everything()) as changes:
            for change in changes:
                apply(index, change)
                self._inventory.read_so_far = len(index)
                if len(index) > _VMS_LIMIT:
                    raise VsphereUnreachable(f"it has more than {_VMS_LIMIT} VMs")
                if (now := time.monotonic()) - told_at > _PROGRESS:
                    told_at = now
                    _log.info("%s: %d VMs read so far", self._inventory.name, len(index))
                if self._stopping.is_set():
                    raise VsphereUnreachable("it is not followed any more")
                meanwhile()
        seconds = time.monotonic() - started
        _log.info("%s: %d VMs read in %.1f s", self._inventory.name, len(index), seconds)
        return index

    def _compare(self) -> None:
        """Read everything once more; what differs was missed, and is mended and told."""
        recent = set[str]()
        due = time.monotonic()

        def go_on_following() -> None:
            nonlocal due
            if (now := time.monotonic()) > due:
                due = now + self._inventory.silence / 5
                recent.update(self._catch_up(wait=False))

        truth, index = self._everything(go_on_following), self._index
        recent |= self._catch_up(wait=False)
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


def apply(index: Index, change: Change) -> None:
    """Let the index be as `change` says."""
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
