"""`conversion-guard inventory list` and `show`: providers, VMs, and one VM's disks."""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from webhook.cli import remote
from webhook.cli.known import Where, inventory_of
from webhook.cli.look_up import chosen, find
from webhook.cli.output import dump, printable, table
from webhook.cli.remote import RemoteGuard
from webhook.inventory.provider import ProviderInventory
from webhook.manifests import render
from webhook.model.vms import VirtualMachine


def list_(
    where: Where, server: RemoteGuard | None, provider: str | None, name: str, output: str
) -> None:
    """Every provider with its VMs whose names contain `name`, in any case of letters."""
    told = list(
        _listed(where, provider, name) if server is None else _asked(server, provider, name)
    )
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


def show(
    vm: str, where: Where, server: RemoteGuard | None, provider: str | None, output: str
) -> None:
    """One VM, and what becomes of each disk."""
    if server is not None:
        of, moref = remote.find(server, vm, provider)
        asked = remote.disks(server, of, moref)
        source, seen, disks = of.full_name, asked.vm, asked.disks
    else:
        known, found = find(asyncio.run(inventory_of(where)), vm, provider)
        source, seen, disks = known.name, _vm(known, found), render.disks(found)
    told = {
        "provider": source,
        **_short(seen),
        "uuid": seen["uuid"],
        "instanceUuid": seen["instanceUuid"],
        "trouble": seen["trouble"],
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


def _listed(where: Where, provider: str | None, name: str) -> Iterator[dict[str, Any]]:
    inventory = asyncio.run(inventory_of(where))
    for one in chosen({one.name: one for one in inventory}, provider):
        age = None if one.heard_at is None else round(one.age(time.monotonic()), 1)
        vms = [_vm(one, vm) for vm in one.vms if name.lower() in vm.name.lower()]
        yield _told(one.name, one.provider.type, age, vms)


def _asked(server: RemoteGuard, provider: str | None, name: str) -> Iterator[dict[str, Any]]:
    for one in remote.providers(server, provider):
        vms = list(remote.vms(server, one, contains=name))
        yield _told(one.full_name, one.type, one.age_seconds, vms)


def _told(name: str, kind: str, age: float | None, vms: Sequence[dict[str, Any]]) -> dict[str, Any]:
    ordered = sorted(vms, key=lambda vm: (vm["name"], vm["moref"]))
    return {"name": name, "type": kind, "ageSeconds": age, "vms": [_short(vm) for vm in ordered]}


def _short(vm: dict[str, Any]) -> dict[str, Any]:
    return {key: vm[key] for key in ("moref", "name", "path", "powerState", "template", "disks")}


def _vm(one: ProviderInventory, vm: VirtualMachine) -> dict[str, Any]:
    """As the API shows it."""
    return {
        "moref": vm.moref,
        "name": vm.name,
        "path": one.vms.path(vm),
        "powerState": vm.power_state,
        "template": vm.template,
        "disks": len(vm.disks),
        "uuid": vm.uuid,
        "instanceUuid": vm.instance_uuid,
        "trouble": vm.trouble,
    }


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in table(heads, rows)))
