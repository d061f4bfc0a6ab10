"""`conversion-guard inventory export`: what the sources know, in a snapshot file."""

import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from webhook.cli.known import Where, inventory_of
from webhook.inventory.snapshot import dump_snapshot


def export(where: Where, output: Path | None, timeout: float) -> None:
    """Write a snapshot of every provider. Raises SettingsInvalid, or VsphereUnreachable for one."""
    inventory = asyncio.run(inventory_of(where, timeout))
    now, monotonic = datetime.now(UTC), time.monotonic()
    as_yaml = output is not None and output.suffix in (".yaml", ".yml")
    text = dump_snapshot(inventory, wall=now, monotonic=monotonic, as_yaml=as_yaml)
    if output is None:
        sys.stdout.buffer.write(text)
    else:
        output.write_bytes(text)
