"""`conversion-guard certs`: a development certificate."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import typer

from webhook import tls
from webhook.settings.forms import host_name


def main(folder: Path, service: str, namespace: str, also: Sequence[str]) -> None:
    """Raises BadParameter, and OSError where they can't be written."""
    names = [f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.cluster.local", *also]
    for name in names:
        try:
            host_name(name)
        except ValueError as error:
            raise typer.BadParameter(f'"{name}": {error}') from None
    tls.write(tls.issue(names, datetime.now(UTC)), folder)
    typer.echo(f"{folder}/ca.crt, tls.crt and tls.key, for {', '.join(names)}, valid for a year")
