"""`conversion-guard render`: the manifests of a VM, ready for kubectl apply."""

import asyncio
import sys

import msgspec

from webhook.cli.known import Where, inventory_of
from webhook.cli.look_up import find
from webhook.errors import RenderImpossible
from webhook.manifests import files, render
from webhook.manifests.render import Wanted
from webhook.model.keys import quoted


def wanted(
    namespace: str, storage_class: str | None, volume_mode: str, access_modes: list[str], name: str
) -> Wanted:
    """What the options choose. Raises RenderImpossible."""
    chosen = {
        "namespace": namespace,
        "storageClass": storage_class,
        "volumeMode": volume_mode,
        "accessModes": access_modes,
        "name": name,
    }
    try:
        return msgspec.convert(chosen, Wanted)
    except msgspec.ValidationError as error:
        raise RenderImpossible(": ".join(filter(None, render.fault(error)))) from None


class PlanWanted(msgspec.Struct, frozen=True):
    """What a Plan needs beside the VM."""

    network_map: str
    destination: str


def run(
    vm: str,
    where: Where,
    provider: str | None,
    wanted: Wanted,
    plan: PlanWanted | None,
    output: str,
) -> int:
    """The exit code: 1 if a disk gets no PVC, each named on standard error. Raises GuardError."""
    inventory = asyncio.run(inventory_of(where))
    source, found = find(inventory, vm, provider)
    rendered = render.pvcs(found, wanted)
    objects = list(rendered.pvcs)
    if plan is not None:
        objects.append(
            render.plan(
                found,
                source.provider,
                namespace=wanted.namespace,
                network_map=plan.network_map,
                destination=plan.destination,
            )
        )
    if not objects:
        raise RenderImpossible(f"{found} has no disk that Forklift can convert")
    if output == "json":
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(listed)) + b"\n")
    else:
        sys.stdout.write(files.write(objects))
    for disk in rendered.left_out:
        sys.stderr.write(f"conversion-guard: no PVC for {quoted(disk.disk_source)}: {disk.why}\n")
    return 1 if rendered.left_out else 0
