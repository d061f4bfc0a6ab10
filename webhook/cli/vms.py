"""`conversion-guard inventory`: its commands, which import what they need only when they run."""

from pathlib import Path
from typing import Annotated

import typer

from webhook.cli.options import (
    CaFile,
    Context,
    Everywhere,
    Kubeconfig,
    OfNamespace,
    OfProvider,
    Output,
    ServerUrl,
    SettingsFile,
    Snapshot,
    TokenFile,
    Vm,
    looks,
    provider_of,
)

inventory = typer.Typer(
    no_args_is_help=True, help="Show the vSphere inventory as the guard reads it."
)


@inventory.command("list")
def list_(
    snapshot: Snapshot = None,
    settings: SettingsFile = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    provider: OfProvider = None,
    namespace: OfNamespace = "",
    everywhere: Everywhere = False,
    name: Annotated[str, typer.Option(help="Only VMs whose names contain this.")] = "",
    output: Output = "table",
) -> None:
    """List the VMs of every provider."""
    of = provider_of(provider, namespace, everywhere=everywhere)
    from webhook.cli.show import list_ as run

    where, asked = looks(snapshot, settings, kubeconfig, context, server, token_file, ca_file)
    run(where, asked, of, name, output)


@inventory.command()
def show(
    vm: Vm,
    snapshot: Snapshot = None,
    settings: SettingsFile = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    provider: OfProvider = None,
    namespace: OfNamespace = "",
    everywhere: Everywhere = False,
    output: Output = "table",
) -> None:
    """Show a VM's disks. Each with its exact disk-source, and whether Forklift converts it."""
    of = provider_of(provider, namespace, everywhere=everywhere)
    from webhook.cli.show import show as run

    where, asked = looks(snapshot, settings, kubeconfig, context, server, token_file, ca_file)
    run(vm, where, asked, of, output)


@inventory.command()
def export(
    snapshot: Snapshot = None,
    settings: SettingsFile = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write: *.yaml, else JSON. Default: standard output."
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that the first read may take.")] = 300.0,
) -> None:
    """Write a snapshot of every vSphere provider. `serve` and the other commands can use it."""
    from webhook.cli.inventory import export as run

    run(looks(snapshot, settings, kubeconfig, context)[0], output, timeout)
