"""The options that several commands have, by the letters that kubectl gives them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from webhook.cli import complete

if TYPE_CHECKING:
    from webhook.cli.known import Where
    from webhook.cli.remote import RemoteGuard

SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        help="Settings file (YAML). Default: the environment and the built-in values.",
        envvar="CONVERSION_GUARD_SETTINGS",
    ),
]
Snapshot = Annotated[
    Path | None, typer.Option(help="Use this snapshot file instead of the settings.")
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(help="Kubeconfig of the cluster. Default: the settings', else kubectl's."),
]
Context = Annotated[
    str | None,
    typer.Option(
        help="Context of the kubeconfig. Default: its current one.",
        autocompletion=complete.contexts,
    ),
]
ServerUrl = Annotated[
    str | None,
    typer.Option("--server", help="Use the API of this guard instead: https://host:port."),
]
TokenFile = Annotated[
    Path | None, typer.Option(help="File with the bearer token for the API of --server.")
]
CaFile = Annotated[
    Path | None, typer.Option(help="PEM file with the CA of the certificate of --server.")
]
OfProvider = Annotated[
    str | None,
    typer.Option(
        "--provider",
        help="Provider, as namespace/name. Default: all.",
        autocompletion=complete.providers,
    ),
]
OfNamespace = Annotated[
    str, typer.Option("--namespace", "-n", help="Only Providers of this namespace. Default: all.")
]
Everywhere = Annotated[
    bool, typer.Option("--all-namespaces", "-A", help="All namespaces, as without -n.")
]
Vm = Annotated[
    str, typer.Argument(help="Moref, name or path of the VM.", autocompletion=complete.vms)
]
Verdicts = Annotated[
    Literal["table", "json", "yaml", "junit", "html", "sarif"],
    typer.Option("--output", "-o", help="Output format."),
]
Output = Annotated[
    Literal["table", "json", "yaml"], typer.Option("--output", "-o", help="Output format.")
]


def provider_of(provider: str | None, namespace: str, *, everywhere: bool) -> str | None:
    """What --provider, -n and -A say together: `namespace/name`, `namespace/` for all of one, or
    None for all. Raises BadParameter."""
    one_of(namespace, everywhere=everywhere)
    if provider is None:
        return f"{namespace}/" if namespace else None
    if not namespace:
        return provider
    if "/" in provider and not provider.startswith(f"{namespace}/"):
        raise typer.BadParameter(f"--provider {provider} is not in namespace {namespace}")
    return provider if "/" in provider else f"{namespace}/{provider}"


def one_of(namespace: object, *, everywhere: bool) -> None:
    """Raises BadParameter."""
    if namespace and everywhere:
        raise typer.BadParameter("give --namespace or --all-namespaces, not both")


def looks(
    snapshot: Path | None = None,
    settings: Path | None = None,
    kubeconfig: Path | None = None,
    context: str | None = None,
    server: str | None = None,
    token_file: Path | None = None,
    ca_file: Path | None = None,
) -> tuple["Where", "RemoteGuard | None"]:
    """Where to look, and the server to ask instead. The environment's settings file yields to a
    snapshot and to a server. Raises BadParameter."""
    from webhook.cli.known import Where

    if server is None:
        return Where(snapshot, None if snapshot else settings, kubeconfig, context), None
    if snapshot or kubeconfig or context:
        raise typer.BadParameter(
            "--server uses what it knows itself: leave out --snapshot, --kubeconfig, --context"
        )
    from webhook.cli.remote import RemoteGuard

    return Where(), RemoteGuard(server, token_file, ca_file)
