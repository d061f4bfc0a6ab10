"""`conversion-guard certs`: a development certificate."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import typer

from webhook import tls


def main(folder: Path, service: str, namespace: str, also: Sequence[str]) -> None:
    names = [f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.cluster.local", *also]
    tls.write(tls.issue(names, datetime.now(UTC)), folder)
    typer.echo(f"{folder}/ca.crt, tls.crt and tls.key, for {', '.join(names)}, valid for a year")
