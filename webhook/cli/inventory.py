"""`conversion-guard inventory`: what the sources know, on the terminal or in a snapshot file."""

import asyncio
import os
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from webhook.cli import sources
from webhook.errors import VsphereUnreachable
from webhook.inventory import Inventory, dump_snapshot
from webhook.rules import DEFAULTS, RULES
from webhook.settings import Settings, load

_LOOK = 0.1  # seconds between two looks at how far the reads are


def export(path: Path | None, output: Path | None, timeout: float) -> None:
    """Write a snapshot of every provider. Raises SettingsInvalid, or VsphereUnreachable for one."""
    settings = settings_of(path)
    inventory, live = sources.known(settings)
    with ExitStack() as running:
        for source in live:
            source.start()
            running.callback(source.stop)
        cluster = sources.following(settings, inventory)
        inventory = asyncio.run(read(inventory, cluster, timeout))
        now, monotonic = datetime.now(UTC), time.monotonic()
        as_yaml = output is not None and output.suffix in (".yaml", ".yml")
        text = dump_snapshot(inventory, wall=now, monotonic=monotonic, as_yaml=as_yaml)
    if output is None:
        sys.stdout.buffer.write(text)
    else:
        output.write_bytes(text)


def settings_of(path: Path | None) -> Settings:
    """Of a file and the environment. Raises SettingsInvalid."""
    return load(
        path,
        os.environ,
        rules=frozenset(rule.id for rule in RULES),
        defaults=frozenset(default.id for default in DEFAULTS),
    )


async def read(
    inventory: Inventory, cluster: sources.Following | None, timeout: float
) -> Inventory:
    """What there is once every vSphere provider has been read. Raises VsphereUnreachable."""
    following = asyncio.create_task(cluster.run()) if cluster else None
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} VMs"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    rows = {}
    try:
        with bar:
            async with asyncio.timeout(timeout):
                while _waiting(inventory):
                    for source in inventory.vsphere():
                        if source.name not in rows:
                            rows[source.name] = bar.add_task(source.name, total=None)
                        bar.update(rows[source.name], completed=source.read_so_far)
                    await asyncio.sleep(_LOOK)
    except TimeoutError:
        whys = [f"namespace {name}: {why()}" for name, why in inventory.unlisted.items()]
        whys += [source.trouble for source in inventory.vsphere() if not source.synced]
        raise VsphereUnreachable("; ".join(whys)) from None
    else:
        # Who stops following the cluster forgets its Providers.
        inventory = Inventory(inventory)
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
    if not any(True for _ in inventory.vsphere()):
        raise VsphereUnreachable("there is no vSphere provider in the settings or the cluster")
    if lost := [source.trouble for source in inventory.vsphere() if not source.synced]:
        raise VsphereUnreachable("; ".join(lost))
    return inventory


def _waiting(inventory: Inventory) -> bool:
    return bool(inventory.unlisted) or any(not source.settled for source in inventory.vsphere())
