"""What a shell offers after TAB: VMs, Providers and contexts, of where the other options point.

Whatever is wrong offers nothing: somebody types, and will be told when he is done.
"""

import io
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import Any

import msgspec
import typer

from webhook.errors import GuardError

_PATIENCE = 5.0
"""Seconds that anybody waits for TAB."""
_DEFAULT = ":0\n"
"""To offer files where there is nothing else: cobra's ShellCompDirective."""


def vms(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of VMs that begin so."""
    provider = ctx.params.get("provider")
    with _calm():
        known = (vm for name, vm in _known(ctx) if vm and provider in (None, name))
        return _begin(incomplete, known)
    return []


def providers(ctx: typer.Context, incomplete: str) -> list[str]:
    """The Providers that begin so, as `namespace/name`."""
    with _calm():
        return _begin(incomplete, (name for name, _ in _known(ctx)))
    return []


def contexts(ctx: typer.Context, incomplete: str) -> list[str]:
    """The contexts of the kubeconfig that begin so."""
    given = ctx.params.get("kubeconfig") or os.environ.get("KUBECONFIG")
    usual = str(Path.home() / ".kube" / "config")
    with _calm():
        return _begin(incomplete, _contexts(str(given or usual).split(os.pathsep)))
    return []


def main() -> None:
    """`kubectl_complete-conversion_guard`, which kubectl calls for `kubectl conversion-guard`: with
    the words so far, the last of them incomplete."""
    from webhook.cli import app

    words = ["conversion-guard", *(sys.argv[1:] or [""])]
    os.environ |= {
        "_CONVERSION_GUARD_COMPLETE": "complete_bash",
        "COMP_WORDS": shlex.join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    try:
        app(prog_name=words[0])
    finally:
        sys.stdout.write(_DEFAULT)


@contextmanager
def _calm() -> Iterator[None]:
    with redirect_stderr(io.StringIO()), suppress(GuardError, OSError, msgspec.MsgspecError):
        yield


def _begin(incomplete: str, words: Iterable[str]) -> list[str]:
    return sorted({word for word in words if word.startswith(incomplete)})


def _known(ctx: typer.Context) -> Iterator[tuple[str, str]]:
    """Every Provider with each of its VMs' names."""
    import asyncio

    from webhook.cli import remote
    from webhook.cli.known import Where, inventory_of

    given: dict[str, Any] = ctx.params
    if given.get("server"):
        asked = remote.RemoteGuard(given["server"], given.get("token_file"), given.get("ca_file"))
        for provider in remote.providers(asked, None):
            yield provider.full_name, ""
            for vm in remote.vms(asked, provider):
                yield provider.full_name, vm["name"]
        return
    snapshot = given.get("snapshot")
    settings = None if snapshot else given.get("settings")
    where = Where(snapshot, settings, given.get("kubeconfig"), given.get("context"))
    for source in asyncio.run(inventory_of(where, _PATIENCE)).vsphere():
        yield source.name, ""
        yield from ((source.name, vm.name) for vm in source.vms)


def _contexts(files: Iterable[str]) -> Iterator[str]:
    for file in files:
        config = msgspec.yaml.decode(Path(file).read_bytes())
        listed = config.get("contexts") if isinstance(config, dict) else None
        for one in listed if isinstance(listed, list) else ():
            if isinstance(one, dict) and isinstance(one.get("name"), str):
                yield one["name"]
