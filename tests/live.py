"""A live source on a simulator of its own: what tests of it share."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.e2e.bed import Vcsim
from webhook.inventory.provider import ProviderInventory
from webhook.model.objects import Provider
from webhook.model.vms import VirtualMachine
from webhook.vsphere import LiveSource, VsphereAddress, password_of


def live_address(vcsim: Vcsim, folder: Path, **change: Any) -> VsphereAddress:
    """The simulator's, its password in a file in `folder`, with some fields changed."""
    file = folder / "password"
    file.write_text(change.pop("password", vcsim.password) + "\n")
    file = change.pop("password_file", file)
    return VsphereAddress(
        **{
            "url": vcsim.url,
            "user": vcsim.user,
            "password": password_of(file),
            "ca_file": vcsim.ca_file,
            **change,
        }
    )


@contextmanager
def following(
    address: VsphereAddress, name: str = "prod", **how: Any
) -> Iterator[ProviderInventory]:
    """The inventory of a source at work; no thread of it is left afterwards."""
    inventory = ProviderInventory(Provider("mtv", name))
    source = LiveSource(address, inventory, **how)
    source.start()
    try:
        yield inventory
    finally:
        source.stop()
        assert not [t for t in threading.enumerate() if inventory.name in t.name]


def fresh(
    inventory: ProviderInventory, *, morefs: Any = (), uuids: Any = (), names: Any = ()
) -> tuple[VirtualMachine, ...]:
    """What a fresh read says; each in the name of another user, with a share of its own."""
    assert inventory.reader is not None
    reader, user = inventory.reader, str(uuid4())

    async def read() -> tuple[VirtualMachine, ...]:
        return await reader.read(
            morefs=morefs, uuids=uuids, names=names, user=user, since=time.monotonic()
        )

    return asyncio.run(read())
