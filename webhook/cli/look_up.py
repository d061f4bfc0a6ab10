"""What the commands share that look at VMs: the sources, read once, and one VM of them by name."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from webhook.errors import SettingsInvalid, VmUnknown
from webhook.inventory import Inventory, ProviderInventory, load_snapshot
from webhook.model import VirtualMachine, quoted

_FIRST_READ = 300.0  # seconds


@contextmanager
def inventory_of(snapshot: Path | None, settings: Path | None) -> Iterator[Inventory]:
    """A snapshot file's, or that of all that the settings name, read whole. Raises GuardError."""
    if snapshot is not None:
        now, monotonic = datetime.now(UTC), time.monotonic()
        yield Inventory(load_snapshot(snapshot, wall=now, monotonic=monotonic))
        return
    if settings is None:
        raise SettingsInvalid("where to look? Give --snapshot FILE or --settings FILE")
    # Here, not above: a snapshot needs neither pydantic nor rich.
    from webhook.cli import sources
    from webhook.cli.inventory import read, settings_of

    chosen = settings_of(settings)
    inventory, live = sources.known(chosen)
    with ExitStack() as running:
        for source in live:
            source.start()
            running.callback(source.stop)
        cluster = sources.following(chosen, inventory)
        yield asyncio.run(read(inventory, cluster, _FIRST_READ))


def find(
    inventory: Inventory, name: str, provider: str | None
) -> tuple[ProviderInventory, VirtualMachine]:
    """The one VM of that moref, name or path; `provider` is `namespace/name`. Raises VmUnknown."""
    asked = [one for one in inventory.vsphere() if provider in (None, one.name)]
    if not asked:
        known = ", ".join(one.name for one in inventory.vsphere()) or "none"
        raise VmUnknown(f"provider {quoted(provider)} is none of those that are known: {known}")
    by_moref = [(one, vm) for one in asked if (vm := one.vms.by_moref(name)) is not None]
    found = by_moref or [(one, vm) for one in asked for vm in one.vms.by_name(name)]
    if len(found) == 1:
        return found[0]
    if found:
        which = ", ".join(f"{vm.moref} of {one.name}" for one, vm in found)
        raise VmUnknown(f"{quoted(name)} is several VMs ({which}): give moref and --provider")
    near = [str(vm) for one in asked for vm in one.vms.like_name(name)]
    hint = f"did you mean {' or '.join(near)}?" if near else "see `conversion-guard inventory list`"
    raise VmUnknown(f"{quoted(name)} is no VM of {', '.join(one.name for one in asked)}: {hint}")
