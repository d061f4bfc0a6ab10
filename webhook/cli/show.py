"""`conversion-guard inventory list` and `show`: providers, VMs, and one VM's disks."""

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from webhook.cli.known import Where, inventory_of
from webhook.cli.look_up import find
from webhook.cli.output import dump, printable, table
from webhook.inventory.provider import ProviderInventory
from webhook.manifests import render
from webhook.model.vms import VirtualMachine


def list_(where: Where, provider: str | None, name: str, output: str) -> None:
    """Every provider with its VMs whose names contain `name`, in any case of letters."""
    inventory = asyncio.run(inventory_of(where))
    told = [_provider(one, name) for one in inventory if provider in (None, one.name)]
    if output != "table":
        dump({"providers": told}, output)
        return
    for one in told:
        age = "" if one["ageSeconds"] is None else f", {one['ageSeconds']:.0f} s old"
        sys.stdout.write(f"{one['name']} ({one['type']}{age})\n")
        _table(
            ("moref", "name", "power", "template", "disks", "path"),
            [
                (vm["moref"], vm["name"], vm["powerState"], vm["template"], vm["disks"], vm["path"])
                for vm in one["vms"]
            ],
        )


def show(vm: str, where: Where, provider: str | None, output: str) -> None:
    """One VM, and what becomes of each disk."""
    inventory = asyncio.run(inventory_of(where))
    source, found = find(inventory, vm, provider)
    disks = render.disks(found)
    told = {
        "provider": source.name,
        **_vm(source, found),
        "uuid": found.uuid,
        "instanceUuid": found.instance_uuid,
        "trouble": found.trouble,
        "disks": msgspec.to_builtins(disks),
    }
    if output != "table":
        dump(told, output)
        return
    for field in ("provider", "moref", "name", "path", "uuid", "instanceUuid", "powerState"):
        sys.stdout.write(f"{field:14}{printable(told[field])}\n")
    _table(
        ("disk-source", "bytes", "bus", "backing", "shared", "supported"),
        [(d.disk_source, d.capacity, d.bus, d.backing, d.shared, d.why or "yes") for d in disks],
    )


def _provider(one: ProviderInventory, name: str) -> dict[str, Any]:
    vms = [vm for vm in one.vms if name.lower() in vm.name.lower()]
    return {
        "name": one.name,
        "type": one.provider.type,
        "ageSeconds": None if one.heard_at is None else round(one.age(time.monotonic()), 1),
        "vms": [_vm(one, vm) for vm in sorted(vms, key=lambda vm: (vm.name, vm.moref))],
    }


def _vm(one: ProviderInventory, vm: VirtualMachine) -> dict[str, Any]:
    return {
        "moref": vm.moref,
        "name": vm.name,
        "path": one.vms.path(vm),
        "powerState": vm.power_state,
        "template": vm.template,
        "disks": len(vm.disks),
    }


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in table(heads, rows)))
