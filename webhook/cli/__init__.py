"""The commands. Each imports what it needs only when it runs, so that `--help` is quick."""

import errno
import gc
import io
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from webhook import __version__
from webhook.cli import vms
from webhook.cli.options import (
    CaFile,
    Context,
    Everywhere,
    Kubeconfig,
    OfProvider,
    Output,
    ServerUrl,
    SettingsFile,
    Snapshot,
    TokenFile,
    Verdicts,
    Vm,
    looks,
    one_of,
)
from webhook.errors import GuardError

app = typer.Typer(
    name="conversion-guard",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes 60 ms to import, and help is to be there at once
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(vms.inventory, name="inventory")

_PLUGIN = "kubectl conversion-guard"


def main() -> None:
    """The `conversion-guard` command. Exit codes: 0 good, 1 findings, 2 usage or unreachable."""
    # What is imported stays: to look through it for garbage would be an eighth of every start. No
    # command makes so much that it matters at its end, but `serve`, which turns it on again.
    gc.disable()
    for stream in (sys.stdout, sys.stderr):  # a file's name need be no text that can be written
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if sys.stdout is None or sys.stderr is None:
            raise OSError(
                errno.EBADF, "write >/dev/null", "standard output or standard error is closed"
            )
        try:
            app(prog_name=_PLUGIN if Path(sys.argv[0]).name.startswith("kubectl-") else None)
        finally:
            sys.stdout.flush()
    except GuardError as error:
        why = str(error)
    except OSError as error:  # of a file that is to be written, or of standard output
        why = ": ".join(filter(None, (str(error.filename or ""), error.strerror)))
    else:
        return
    if sys.stderr is not None:
        sys.stderr.write(f"conversion-guard: {why}\n")
    sys.exit(2)


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
    settings: SettingsFile = None,
) -> None:
    """Serve the admission endpoints until SIGTERM or Ctrl-C."""
    from webhook.runtime import signals

    signals.hold()  # before anything else is even imported
    from webhook.runtime import serve as serving

    serving.serve(settings)


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
    from webhook.cli.certs import main

    main(folder, service, namespace, also or [])


@app.command()
def demo(
    everything: Annotated[
        bool, typer.Option("--all", help="Show every case, not only five.")
    ] = False,
) -> None:
    """Show what is allowed, filled in and denied: a real server on a made-up vCenter."""
    from webhook.cli.demo import main

    raise typer.Exit(main(everything=everything))


@app.command()
def audit(
    snapshot: Snapshot = None,
    settings: SettingsFile = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            "--namespace",
            "-n",
            help="Only this namespace's PVCs, and Plans for it; repeatable. Default: all.",
        ),
    ] = None,
    everywhere: Everywhere = False,
    output: Verdicts = "table",
) -> None:
    """Check the conversions of a cluster: PVCs, Plans, Migrations. Exit code 1 if one is wrong."""
    one_of(namespace, everywhere=everywhere)
    from webhook.cli.audit import main
    from webhook.cli.known import Where

    where = Where(snapshot, settings, kubeconfig, context)
    raise typer.Exit(main(where, namespace or [], output))


@app.command()
def readiness(
    plans: Annotated[
        list[str] | None, typer.Argument(metavar="[PLAN]...", help="NAMESPACE/NAME, or NAME.")
    ] = None,
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Every conversion Plan.")
    ] = False,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="The Plans' namespace.")] = "",
    snapshot: Snapshot = None,
    settings: SettingsFile = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    output: Output = "table",
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
    from webhook.cli.readiness import main, selection

    chosen = selection(
        plans or [],
        namespace,
        everywhere=everywhere,
        watch=watch,
        wait=wait,
        timeout=timeout,
        interval=interval,
    )
    where, asked = looks(snapshot, settings, kubeconfig, context, server, token_file, ca_file)
    raise typer.Exit(main(chosen, where, asked, output))


@app.command()
def doctor(
    settings: SettingsFile = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Namespace of the guard.")
    ] = "conversion-guard",
    output: Output = "table",
) -> None:
    """Find what is wrong with an installation, each fault with its fix. Exit code 1 for a fault."""
    from webhook.cli.doctor import main
    from webhook.cli.known import Where

    raise typer.Exit(main(Where(None, settings, kubeconfig, context), namespace, output))


@app.command()
def check(
    files: Annotated[
        list[str] | None, typer.Argument(help="Files and folders; - is standard input.")
    ] = None,
    filename: Annotated[
        list[str] | None,
        typer.Option("--filename", "-f", help="The same as FILES; repeatable."),
    ] = None,
    snapshot: Annotated[
        Path | None, typer.Option(help="Check against this snapshot file, with the default rules.")
    ] = None,
    settings: SettingsFile = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Namespace for objects without one.")
    ] = "",
    output: Verdicts = "table",
    junit: Annotated[
        Path | None, typer.Option(help="Also write a JUnit report to this file.")
    ] = None,
) -> None:
    """Check manifests before anybody applies them. Exit code 1 if one is denied or undecided."""
    given = [*(files or ()), *(filename or ())]
    if not given:
        raise typer.BadParameter("name a file or folder, or - for standard input")
    from webhook.cli.check import main

    where, asked = looks(snapshot, settings, kubeconfig, context, server, token_file, ca_file)
    raise typer.Exit(main(given, where, asked, namespace, output, junit))


@app.command()
def render(
    vm: Vm,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace for the PVCs.")],
    snapshot: Snapshot = None,
    settings: SettingsFile = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
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
    output: Annotated[
        Literal["yaml", "json"], typer.Option("--output", "-o", help="Output format.")
    ] = "yaml",
) -> None:
    """Write the PVCs of a VM, ready for kubectl apply. Exit code 1 if a disk can have none."""
    from webhook.cli.render import main, plan_wanted, wanted

    chosen = wanted(namespace, storage_class, volume_mode, access_mode or [], name)
    planned = plan_wanted(plan, destination)
    where, asked = looks(snapshot, settings, kubeconfig, context, server, token_file, ca_file)
    raise typer.Exit(main(vm, where, asked, provider, chosen, planned, output))
