"""`conversion-guard render`: the manifests of a VM, ready for kubectl apply."""

import asyncio
import sys
from typing import Any, TypeVar

import msgspec

from webhook.cli import remote
from webhook.cli.known import Where, inventory_of
from webhook.cli.look_up import find
from webhook.cli.remote import RemoteGuard
from webhook.errors import RenderImpossible
from webhook.manifests import files, render
from webhook.manifests.render import DnsSubdomain, Rendered, RenderRequest
from webhook.model.keys import quoted
from webhook.model.objects import Provider
from webhook.model.vms import Disk, VirtualMachine

T = TypeVar("T")


def wanted(
    namespace: str, storage_class: str | None, volume_mode: str, access_modes: list[str], name: str
) -> RenderRequest:
    """What the options choose. Raises RenderImpossible."""
    chosen = {
        "namespace": namespace,
        "storageClass": storage_class,
        "volumeMode": volume_mode,
        "accessModes": access_modes,
        "name": name,
    }
    return _converted(chosen, RenderRequest)


class PlanWanted(msgspec.Struct, frozen=True):
    """What a Plan needs beside the VM."""

    plan: DnsSubdomain
    """The name of the NetworkMap, as the option is called."""
    destination: DnsSubdomain


def plan_wanted(network_map: str | None, destination: str) -> PlanWanted | None:
    """None without a network map. Raises RenderImpossible."""
    if network_map is None:
        return None
    return _converted({"plan": network_map, "destination": destination}, PlanWanted)


def _converted(chosen: dict[str, Any], shape: type[T]) -> T:
    try:
        return msgspec.convert(chosen, shape)
    except msgspec.ValidationError as error:
        raise RenderImpossible(": ".join(filter(None, render.fault(error)))) from None


def main(
    vm: str,
    where: Where,
    server: RemoteGuard | None,
    provider: str | None,
    wanted: RenderRequest,
    plan: PlanWanted | None,
    output: str,
) -> int:
    """The exit code: 1 if a disk gets no PVC, each named on standard error. Raises GuardError."""
    if server is not None:
        rendered, planned = _asked(server, vm, provider, wanted, plan)
    else:
        source, found = find(asyncio.run(inventory_of(where)), vm, provider)
        rendered = render.pvcs(found, wanted)
        planned = [_plan(found, source.provider, wanted, plan)] if plan is not None else []
    objects = [*rendered.pvcs, *planned]
    if not objects:
        raise RenderImpossible(f"VM {quoted(vm)} has no disk that Forklift can convert")
    if output == "json":
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(listed)) + b"\n")
    else:
        sys.stdout.write(files.write(objects))
    for disk in rendered.left_out:
        sys.stderr.write(f"conversion-guard: no PVC for {quoted(disk.disk_source)}: {disk.why}\n")
    return 1 if rendered.left_out else 0


def _plan(
    vm: VirtualMachine, provider: Provider, wanted: RenderRequest, plan: PlanWanted
) -> dict[str, Any]:
    return render.plan(
        vm,
        provider,
        namespace=wanted.namespace,
        network_map=plan.plan,
        destination=plan.destination,
    )


def _asked(
    server: RemoteGuard,
    name: str,
    provider: str | None,
    wanted: RenderRequest,
    plan: PlanWanted | None,
) -> tuple[Rendered, list[dict[str, Any]]]:
    """The API's own PVCs, and a Plan of the VM as it shows it."""
    source, moref = remote.find(server, name, provider)
    rendered = remote.pvcs(server, source, moref, wanted)
    if plan is None:
        return rendered, []
    shown = remote.disks(server, source, moref)
    disks = [
        Disk(key=at, file=view.file, capacity=view.capacity, backing=view.backing, bus=view.bus)
        for at, view in enumerate(shown.disks)
    ]
    vm = VirtualMachine(
        moref=moref, name=shown.vm["name"], uuid=shown.vm["uuid"], disks=tuple(disks)
    )
    return rendered, [_plan(vm, Provider(source.namespace, source.name), wanted, plan)]
