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

app = typer.Typer(
    name="conversion-guard",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes 60 ms to import, and help is to be there at once
)


inventory = typer.Typer(no_args_is_help=True, help="What vSphere says, as the guard sees it.")
app.add_typer(inventory, name="inventory")

Settings = Annotated[
    Path | None,
    typer.Option(
        help="Settings file (YAML). Without one: the environment and the defaults.",
        envvar="CONVERSION_GUARD_SETTINGS",
    ),
]


Snapshot = Annotated[
    Path | None, typer.Option(help="What this snapshot file says, instead of the settings.")
]
OfProvider = Annotated[
    str | None, typer.Option("--provider", help="namespace/name; without one: any.")
]
Kubeconfig = Annotated[
    Path | None, typer.Option(help="Of the cluster. Without one: the settings', or as kubectl.")
]
Context = Annotated[str | None, typer.Option(help="Of the kubeconfig. Without one: its own.")]
Verdicts = Annotated[Literal["table", "json", "yaml", "junit"], typer.Option(help="How to say it.")]
Output = Annotated[Literal["table", "json", "yaml"], typer.Option(help="How to say it.")]


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


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"conversion-guard {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say and end.")
    ] = False,
) -> None:
    """Proves Forklift conversion migrations against vSphere, at the moment of kubectl apply."""


@app.command()
def serve(
    settings: Settings = None,
) -> None:
    """Serve the admission endpoints until SIGTERM or Ctrl-C."""
    from webhook.runtime.compose import run

    run(settings)


@app.command()
def certs(
    folder: Annotated[Path, typer.Option(help="Where ca.crt, tls.crt and tls.key go.")] = Path(
        "certs/dev"
    ),
    service: Annotated[str, typer.Option(help="The Service's name.")] = "conversion-guard",
    namespace: Annotated[str, typer.Option(help="The Service's namespace.")] = "conversion-guard",
    also: Annotated[
        list[str] | None, typer.Option(help="A further host name or IP address; repeatable.")
    ] = None,
) -> None:
    """Make a CA and a serving certificate for development."""
    from webhook.cli.certs import run

    run(folder, service, namespace, also or [])


@app.command()
def demo() -> None:
    """Show what is admitted, filled in and refused: a real server on an embedded snapshot."""
    from webhook.cli.demo import run

    raise typer.Exit(run())


@app.command()
def audit(
    snapshot: Snapshot = None,
    settings: Settings = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option(help="Only these PVCs, and the Plans for them; repeatable. Else: all."),
    ] = None,
    output: Verdicts = "table",
) -> None:
    """Judge every conversion PVC, Plan and Migration on the cluster; 1 if one is not right."""
    from webhook.cli.audit import run
    from webhook.cli.known import Where

    where = Where(snapshot, settings, kubeconfig, context)
    raise typer.Exit(run(where, namespace or [], output))


@app.command()
def doctor(
    settings: Settings = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Annotated[str, typer.Option(help="The guard's own.")] = "conversion-guard",
    output: Output = "table",
) -> None:
    """Look for what is wrong with an installation, and say how to mend it; 1 if there is any."""
    from webhook.cli.doctor import run
    from webhook.cli.known import Where

    raise typer.Exit(run(Where(None, settings, kubeconfig, context), namespace, output))


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(help="Files and folders; - is standard input.")],
    snapshot: Annotated[
        Path | None, typer.Option(help="Judge by this snapshot file and the default rules.")
    ] = None,
    settings: Settings = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    server: Annotated[
        str | None, typer.Option(help="Ask this guard's API, https://host:port, instead.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="Who asks the API.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="PEM: who signed the API's.")] = None,
    namespace: Annotated[str, typer.Option(help="Of objects that name none.")] = "",
    output: Verdicts = "table",
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit report here, too.")] = None,
) -> None:
    """Judge manifests before anybody applies them; 1 if one is denied or undecided."""
    from webhook.cli.check import run

    where = _where(snapshot, None if server else settings, kubeconfig, context)
    asked = None
    if server is not None:
        from webhook.cli.remote import Server

        if snapshot or kubeconfig or context:
            raise typer.BadParameter("--server judges by what it knows itself: leave out the rest")
        asked = Server(server, token_file, ca_file)
    raise typer.Exit(run(files, where, asked, namespace, output, junit))


@app.command()
def render(
    vm: Annotated[str, typer.Argument(help="Its moref, name or path.")],
    namespace: Annotated[str, typer.Option(help="Where the PVCs are to be.")],
    snapshot: Snapshot = None,
    settings: Settings = None,
    provider: OfProvider = None,
    storage_class: Annotated[
        str | None, typer.Option(help="Without one: the cluster's default.")
    ] = None,
    volume_mode: Annotated[
        Literal["Block", "Filesystem"], typer.Option(help="Of every PVC.")
    ] = "Block",
    access_mode: Annotated[
        list[str] | None, typer.Option(help="Repeatable. Without one: what the volume mode needs.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="Of each PVC; {vm}, {moref} and {index} are filled in.")
    ] = "{vm}-disk-{index}",
    plan: Annotated[
        str | None, typer.Option(help="A Plan beside them, with the NetworkMap of this name.")
    ] = None,
    destination: Annotated[
        str, typer.Option(help="The Plan's destination Provider, in the source's namespace.")
    ] = "host",
    output: Annotated[Literal["yaml", "json"], typer.Option(help="How to write it.")] = "yaml",
) -> None:
    """Write the PVCs of a VM, right for kubectl apply; 1 if a disk can have none."""
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
    name: Annotated[str, typer.Option(help="Only VMs with this in their names.")] = "",
    output: Output = "table",
) -> None:
    """List every provider's VMs."""
    from webhook.cli.show import list_ as run

    run(_where(snapshot, settings), provider, name, output)


@inventory.command()
def show(
    vm: Annotated[str, typer.Argument(help="Its moref, name or path.")],
    snapshot: Snapshot = None,
    settings: Settings = None,
    provider: OfProvider = None,
    output: Output = "table",
) -> None:
    """Show a VM's disks: the exact disk-source of each, and whether Forklift converts it."""
    from webhook.cli.show import show as run

    run(vm, _where(snapshot, settings), provider, output)


@inventory.command()
def export(
    settings: Settings = None,
    output: Annotated[
        Path | None,
        typer.Option(help="A file, YAML if so named, else JSON. Without one: standard output."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that a first read may take.")] = 300.0,
) -> None:
    """Read every vSphere provider once, and write a snapshot file that `serve` reads back."""
    from webhook.cli.inventory import export as run

    run(_where(None, settings), output, timeout)
