"""`conversion-guard serve`: settings, sources, metrics and the server, plugged together."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvicorn

from webhook import observe, server
from webhook.cli import sources
from webhook.decide import Policy, Sources
from webhook.errors import CertificateInvalid, SettingsInvalid
from webhook.rules import DEFAULTS, RULES
from webhook.settings import Settings, TlsSettings, load

if TYPE_CHECKING:
    pass

# The API server keeps idle connections for 90 s: a server that closes earlier makes its calls fail.
_KEEP_ALIVE = 120

_log = logging.getLogger("webhook")


def run(path: Path | None) -> None:
    """Serve until a signal. Raises SettingsInvalid, SnapshotInvalid, CertificateInvalid."""
    observe.log_to()
    settings = load(
        path,
        os.environ,
        rules=frozenset(rule.id for rule in RULES),
        defaults=frozenset(default.id for default in DEFAULTS),
    )
    inventory, live = sources.known(settings)
    cluster = sources.following(settings, inventory)
    metrics = observe.Metrics()
    facts = Sources(inventory, _policy(settings), time.monotonic)
    if cluster is not None:
        facts = msgspec.structs.replace(facts, claims=cluster.claims, cluster=cluster.reader)
    config = uvicorn.Config(
        server.app(facts, metrics),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        ssl_certfile=settings.tls.cert_file,
        ssl_keyfile=settings.tls.key_file,
    )
    _load_certificate(config, settings.tls)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(settings.listen))
        metrics_port, stop_metrics = metrics.serve(*_split(settings.metrics_listen))
        stack.callback(stop_metrics)
        for source in live:
            source.start()
            stack.callback(source.stop)
        host, port = listener.getsockname()[:2]
        _log.info("listening on https://%s:%s, metrics on port :%s", host, port, metrics_port)
        _Server(config, cluster.run if cluster else None).run(sockets=[listener])


class _Server(uvicorn.Server):
    """With a task beside it: what runs in the same loop, and ends before the server does."""

    def __init__(
        self, config: uvicorn.Config, beside: Callable[[], Coroutine[Any, Any, None]] | None
    ) -> None:
        super().__init__(config)
        self._beside = beside

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        task = asyncio.create_task(self._beside()) if self._beside else None
        try:
            await super().serve(sockets)
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal again at the end, which would end the process before the sources
        # have logged out of vSphere, and with 143 where Kubernetes expects 0.
        before = {
            signum: signal.signal(signum, self.handle_exit)
            for signum in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)


def _policy(settings: Settings) -> Policy:
    return Policy(
        actions=settings.rules,
        defaults=settings.defaults,
        undecided=settings.undecided,
        max_age=settings.max_age,
        trust_network=settings.trust_network,
        ignore_providers=settings.ignore_providers,
    )


def _load_certificate(config: uvicorn.Config, files: TlsSettings) -> None:
    try:
        config.load()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        message = f"tls: {files.cert_file} and {files.key_file} can't be served: {why}"
        raise CertificateInvalid(message) from None


def _listen(address: str) -> socket.socket:
    host, port = _split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, port), family=family, backlog=2048, dualstack_ipv6=host == "::"
        )
    except OSError as error:
        raise SettingsInvalid(f"listen: {address}: {error.strerror}") from None


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
