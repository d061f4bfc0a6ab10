"""The commands. Each imports what it needs only when it runs, so that `--help` is quick."""

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from webhook import __version__
from webhook.errors import GuardError

if TYPE_CHECKING:
    from webhook.cli.known import Where
    from webhook.cli.remote import Server

app = typer.Typer(
    name="conversion-guard",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes 60 ms to import, and help is to be there at once
)


inventory = typer.Typer(
    no_args_is_help=True, help="Show the vSphere inventory as the guard reads it."
)
app.add_typer(inventory, name="inventory")

Settings = Annotated[
    Path | None,
    typer.Option(
        help="Settings file (YAML). Default: the environment and the built-in values.",
        envvar="CONVERSION_GUARD_SETTINGS",
    ),
]


Snapshot = Annotated[
    Path | None, typer.Option(help="Use this snapshot file instead of the settings.")
]
OfProvider = Annotated[
    str | None, typer.Option("--provider", help="Provider, as namespace/name. Default: all.")
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(help="Kubeconfig of the cluster. Default: the settings', else kubectl's."),
]
Context = Annotated[
    str | None, typer.Option(help="Context of the kubeconfig. Default: its current one.")
]
OfServer = Annotated[
    str | None,
    typer.Option("--server", help="Use the API of this guard instead: https://host:port."),
]
TokenFile = Annotated[Path | None, typer.Option(help="File with the bearer token for the API.")]
CaFile = Annotated[Path | None, typer.Option(help="PEM file with the CA of the API's certificate.")]
Verdicts = Annotated[
    Literal["table", "json", "yaml", "junit", "html", "sarif"], typer.Option(help="Output format.")
]
Output = Annotated[Literal["table", "json", "yaml"], typer.Option(help="Output format.")]


def main() -> None:
    """The `conversion-guard` command. Exit codes: 0 good, 1 findings, 2 usage or unreachable."""
    # What is imported stays: to look through it for garbage would be an eighth of every start. No
    # command makes so much that it matters at its end, but `serve`, which turns it on again.
    gc.disable()
    try:
        app()
    except GuardError as error:
        sys.stderr.write(f"conversion-guard: {error}\n")
        sys.exit(2)


def _where(
    snapshot: Path | None,
    settings: Path | None,
    kubeconfig: Path | None = None,
    context: str | None = None,
) -> "Where":
    """Where to look. The environment's settings file yields to a snapshot."""
    from webhook.cli.known import Where

    return Where(snapshot, None if snapshot else settings, kubeconfig, context)


def _server(
    url: str | None, token_file: Path | None, ca_file: Path | None, where: "Where"
) -> "Server | None":
    """The API to ask; None: look oneself, at `where`."""
    if url is None:
        return None
    from webhook.cli.remote import Server

    if where.snapshot or where.names_cluster:
        raise typer.BadParameter(
            "--server uses what it knows itself: leave out --snapshot, --kubeconfig, --context"
        )
    return Server(url, token_file, ca_file)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"conversion-guard {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Show it and exit."),
    ] = False,
) -> None:
    """Check Forklift conversion migrations against vSphere, at the moment of kubectl apply."""


@app.command()
def serve(
    settings: Settings = None,
) -> None:
    """Serve the admission endpoints until SIGTERM or Ctrl-C."""
    from webhook.runtime import signals

    signals.hold()  # before anything else is even imported
    from webhook.runtime.serve import run

    run(settings)


@app.command()
def certs(
    folder: Annotated[Path, typer.Option(help="Folder for ca.crt, tls.crt and tls.key.")] = Path(
        "certs/dev"
    ),
    service: Annotated[str, typer.Option(help="Name of the Service.")] = "conversion-guard",
    namespace: Annotated[str, typer.Option(help="Namespace of the Service.")] = "conversion-guard",
    also: Annotated[
        list[str] | None, typer.Option(help="Another host name or IP address; repeatable.")
    ] = None,
) -> None:
    """Create a CA and a serving certificate for development."""
    from webhook.cli.certs import run

    run(folder, service, namespace, also or [])


@app.command()
def demo(
    everything: Annotated[
        bool, typer.Option("--all", help="Show every case, not only five.")
    ] = False,
) -> None:
    """Show what is allowed, filled in and denied: a real server on a made-up vCenter."""
    from webhook.cli.demo import run

    raise typer.Exit(run(everything=everything))


@app.command()
def audit(
    snapshot: Snapshot = None,
    settings: Settings = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this namespace's PVCs, and Plans for it; repeatable. Default: all."
        ),
    ] = None,
    output: Verdicts = "table",
) -> None:
    """Check the conversions of a cluster: PVCs, Plans, Migrations. Exit code 1 if one is wrong."""
    from webhook.cli.audit import run
    from webhook.cli.known import Where

    where = Where(snapshot, settings, kubeconfig, context)
    raise typer.Exit(run(where, namespace or [], output))


@app.command()
def readiness(
    plans: Annotated[
        list[str] | None, typer.Argument(metavar="[PLAN]...", help="NAMESPACE/NAME, or NAME.")
    ] = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Every conversion Plan.")
    ] = False,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="The Plans' namespace.")] = "",
    snapshot: Snapshot = None,
    settings: Settings = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    server: OfServer = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    output: Annotated[
        Literal["table", "json", "yaml"], typer.Option("--output", "-o", help="Output format.")
    ] = "table",
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="End when all are ready.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds after which to end anyway; 0: never.")
    ] = 0.0,
    interval: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 10.0,
) -> None:
    """Compare Plans' disks with their PVCs, VM by VM. Exit code 1 unless all are ready."""
    from webhook.cli.readiness import run, wanted

    chosen = wanted(
        plans or [],
        namespace,
        everywhere=all_namespaces,
        watch=watch,
        wait=wait,
        timeout=timeout,
        interval=interval,
    )
    where = _where(snapshot, None if server else settings, kubeconfig, context)
    raise typer.Exit(run(chosen, where, _server(server, token_file, ca_file, where), output))


@app.command()
def doctor(
    settings: Settings = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Annotated[str, typer.Option(help="Namespace of the guard.")] = "conversion-guard",
    output: Output = "table",
) -> None:
    """Find what is wrong with an installation, each fault with its fix. Exit code 1 for a fault."""
    from webhook.cli.doctor import run
    from webhook.cli.known import Where

    raise typer.Exit(run(Where(None, settings, kubeconfig, context), namespace, output))


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(help="Files and folders; - is standard input.")],
    snapshot: Annotated[
        Path | None, typer.Option(help="Check against this snapshot file, with the default rules.")
    ] = None,
    settings: Settings = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    server: OfServer = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    namespace: Annotated[str, typer.Option(help="Namespace for objects without one.")] = "",
    output: Verdicts = "table",
    junit: Annotated[
        Path | None, typer.Option(help="Also write a JUnit report to this file.")
    ] = None,
) -> None:
    """Check manifests before anybody applies them. Exit code 1 if one is denied or undecided."""
    from webhook.cli.check import run

    where = _where(snapshot, None if server else settings, kubeconfig, context)
    asked = _server(server, token_file, ca_file, where)
    raise typer.Exit(run(files, where, asked, namespace, output, junit))


@app.command()
def render(
    vm: Annotated[str, typer.Argument(help="Moref, name or path of the VM.")],
    namespace: Annotated[str, typer.Option(help="Namespace for the PVCs.")],
    snapshot: Snapshot = None,
    settings: Settings = None,
    provider: OfProvider = None,
    storage_class: Annotated[
        str | None, typer.Option(help="Storage class of every PVC. Default: the cluster's.")
    ] = None,
    volume_mode: Annotated[
        Literal["Block", "Filesystem"], typer.Option(help="Volume mode of every PVC.")
    ] = "Block",
    access_mode: Annotated[
        list[str] | None,
        typer.Option(help="Access mode; repeatable. Default: what the volume mode needs."),
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of each PVC; {vm}, {moref} and {index} are filled in.")
    ] = "{vm}-disk-{index}",
    plan: Annotated[
        str | None, typer.Option(help="Also write a Plan, with the NetworkMap of this name.")
    ] = None,
    destination: Annotated[
        str, typer.Option(help="Destination Provider of the Plan, in the source's namespace.")
    ] = "host",
    output: Annotated[Literal["yaml", "json"], typer.Option(help="Output format.")] = "yaml",
) -> None:
    """Write the PVCs of a VM, ready for kubectl apply. Exit code 1 if a disk can have none."""
    from webhook.cli.render import PlanWanted, run, wanted

    chosen = wanted(namespace, storage_class, volume_mode, access_mode or [], name)
    planned = None if plan is None else PlanWanted(plan, destination)
    where = _where(snapshot, settings)
    raise typer.Exit(run(vm, where, provider, chosen, planned, output))


@inventory.command("list")
def list_(
    snapshot: Snapshot = None,
    settings: Settings = None,
    provider: OfProvider = None,
    name: Annotated[str, typer.Option(help="Only VMs whose names contain this.")] = "",
    output: Output = "table",
) -> None:
    """List the VMs of every provider."""
    from webhook.cli.show import list_ as run

    run(_where(snapshot, settings), provider, name, output)


@inventory.command()
def show(
    vm: Annotated[str, typer.Argument(help="Moref, name or path of the VM.")],
    snapshot: Snapshot = None,
    settings: Settings = None,
    provider: OfProvider = None,
    output: Output = "table",
) -> None:
    """Show a VM's disks. Each with its exact disk-source, and whether Forklift converts it."""
    from webhook.cli.show import show as run

    run(vm, _where(snapshot, settings), provider, output)


@inventory.command()
def export(
    settings: Settings = None,
    output: Annotated[
        Path | None,
        typer.Option(help="File to write: *.yaml, else JSON. Default: standard output."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that the first read may take.")] = 300.0,
) -> None:
    """Write a snapshot of every vSphere provider. `serve` and the other commands can use it."""
    from webhook.cli.inventory import export as run

    run(_where(None, settings), output, timeout)
