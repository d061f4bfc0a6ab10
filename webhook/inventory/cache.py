"""What is known of vSphere, kept in a folder for the next start: one snapshot file a provider.

A guard that restarts while a vCenter is away so goes on knowing what it knew, as old as it is:
`maxAge` counts, warnings name the age, and a denial still needs a fresh read.
"""

import asyncio
import hashlib
import logging
import os
import threading
import time
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from webhook.errors import SnapshotInvalid
from webhook.inventory.index import Index
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.inventory.snapshot import dump_piecewise, load_snapshot

SAVE_SECONDS = 60.0
AGE_SECONDS = 300.0
"""How much older than the truth a file may say that it is, where nothing else has changed."""
_LONGEST = 200
"""Characters of a file's name: most file systems take 255 bytes."""

_log = logging.getLogger("webhook")


class _Saved(NamedTuple):
    """What a file holds."""

    vms: Index
    revision: int
    heard_at: float | None

    def holds(self, now: "_Saved", patience: float) -> bool:
        """Whether the file may stay as it is."""
        same = self.vms is now.vms and self.revision == now.revision
        return same and (now.heard_at or 0.0) - (self.heard_at or 0.0) <= patience


class Cache:
    """The files in `folder`. Whoever may write there decides what is known: nobody else should."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._states: dict[ProviderInventory, _Saved] = {}
        self._troubles: set[str] = set()
        """Of the last time: each is told once."""
        self._saving = threading.Lock()

    def recall(self, provider: ProviderInventory) -> None:
        """Let `provider` know what an earlier run knew of it, if its address was the same.

        A file that can't be read is as good as none, and the log says so.
        """
        if provider.synced:
            return
        file = self._file(provider)
        try:
            known = load_snapshot(file, wall=datetime.now(UTC), monotonic=time.monotonic())
        except SnapshotInvalid as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                _log.warning("cacheDir: the inventory of an earlier run is ignored: %s", error)
            return
        for one in known:
            if (one.provider, one.url) == (provider.provider, provider.url):
                provider.recall(one)
                with self._saving:
                    self._states[provider] = _state(provider)
                age = int(provider.age(time.monotonic()))
                _log.info("%s: %d VMs as of %d s ago", provider.name, len(one.vms), age)

    async def run(self, inventory: Inventory) -> None:
        """Save what changes, until cancelled, and once more then.

        What follows the cluster forgets its Providers when it ends: cancel this one first.
        """
        try:
            while True:
                await asyncio.sleep(SAVE_SECONDS)
                await asyncio.to_thread(self.save, tuple(inventory))
        finally:
            await asyncio.to_thread(self.save, tuple(inventory), patience=0.0)

    def save(self, providers: Collection[ProviderInventory], patience: float = AGE_SECONDS) -> None:
        """Write the files of those that have changed, or have got older than `patience`."""
        with self._saving:
            troubles = set()
            for provider in providers:
                now = _state(provider)
                saved = self._states.get(provider)
                if not (provider.synced and provider.url) or (saved and saved.holds(now, patience)):
                    continue
                try:
                    self._write(provider)
                except OSError as error:  # of this one: the next may have better luck
                    troubles.add(f"{error.filename}: {error.strerror}")
                except Exception as error:  # noqa: BLE001  likewise, whatever it holds
                    troubles.add(f"{provider.name}: {type(error).__name__}")
                else:
                    self._states[provider] = now
            self._states = {p: state for p, state in self._states.items() if p in providers}
            for trouble in sorted(troubles - self._troubles):
                _log.error("cacheDir: %s", trouble)
            self._troubles = troubles

    def _write(self, provider: ProviderInventory) -> None:
        file = self._file(provider)
        part = file.with_suffix(".part")
        self._folder.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        part.touch(mode=0o600, exist_ok=False)
        wall, monotonic = datetime.now(UTC), time.monotonic()
        with part.open("wb") as stream:
            # Each piece is larger than the buffer: while it is written, the loop has its turn.
            for piece in dump_piecewise(provider, wall=wall, monotonic=monotonic):
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)

    def _file(self, provider: ProviderInventory) -> Path:
        name = quote(provider.name, safe="")
        if len(name) > _LONGEST:
            name = f"{name[:_LONGEST]}.{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return self._folder / f"{name}.json"


def _state(provider: ProviderInventory) -> _Saved:
    heard_at, vms = provider.heard_at, provider.vms  # in this order: rather too old than too young
    return _Saved(vms, vms.revision, heard_at)
