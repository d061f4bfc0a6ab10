"""`conversion-guard serve`: settings, sources, metrics and the server, plugged together."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from webhook import observe, server
from webhook.decide import Policy, Sources
from webhook.errors import CertificateInvalid, SettingsInvalid
from webhook.inventory import Inventory, ProviderInventory, load_snapshot
from webhook.model import Provider
from webhook.rules import DEFAULTS, RULES
from webhook.settings import ProviderSettings, Settings, TlsSettings, load

if TYPE_CHECKING:
    from webhook.vsphere import LiveSource

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
    inventory, live = _inventory(settings)
    found = _discovery(settings, inventory)
    metrics = observe.Metrics()
    sources = Sources(inventory, _policy(settings), time.monotonic)
    config = uvicorn.Config(
        server.app(sources, metrics),
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
        _Server(config, found).run(sockets=[listener])


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


def _discovery(
    settings: Settings, inventory: Inventory
) -> Callable[[], Coroutine[Any, Any, None]] | None:
    """What finds the cluster's Providers; None outside any cluster."""
    if settings.kubeconfig is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
        if not any(True for _ in inventory.vsphere()):
            _log.warning("no vSphere provider is set, and there is no cluster to find one in")
        return None

    async def follow() -> None:
        # Here, not above: the kubernetes client is slow to import, and many need none of it.
        from webhook.cluster import Cluster, FoundProvider, ProviderWatch
        from webhook.vsphere import LiveSource, VsphereAddress

        def connect(found: FoundProvider, provider: ProviderInventory) -> LiveSource:
            address = VsphereAddress(
                url=found.url,
                user=found.user,
                password=lambda: found.password,
                ca=found.ca,
                insecure=found.insecure,
                denied=settings.denied_networks,
            )
            return LiveSource(address, provider)

        async with Cluster.open(settings.kubeconfig) as cluster:
            await ProviderWatch(cluster, settings.provider_namespaces, inventory, connect).run()

    async def guarded() -> None:
        try:
            await follow()
        except Exception:  # noqa: BLE001  without it, verdicts are undecided and the log must say why
            _log.exception("the cluster's Providers can't be followed")

    return guarded


def _inventory(settings: Settings) -> tuple[Inventory, list["LiveSource"]]:
    inventory = Inventory()
    for path in settings.snapshots:
        for provider in load_snapshot(path, wall=datetime.now(UTC), monotonic=time.monotonic()):
            inventory.put(provider)
    live = []
    for entry in settings.providers:
        provider = ProviderInventory(Provider(entry.namespace, entry.name, entry.type))
        inventory.put(provider)
        if entry.type == "vsphere":
            live.append(_live(entry, provider, settings))
    return inventory, live


def _live(entry: ProviderSettings, provider: ProviderInventory, settings: Settings) -> "LiveSource":
    # Here, not above: pyVmomi is slow to import, and a snapshot needs none of it.
    from webhook.vsphere import LiveSource, VsphereAddress, password_of

    if entry.url is None or entry.user is None or entry.password_file is None:
        raise SettingsInvalid(f"provider {entry.namespace}/{entry.name} is incomplete")
    address = VsphereAddress(
        url=entry.url,
        user=entry.user,
        password=password_of(entry.password_file),
        ca_file=entry.ca_file,
        insecure=entry.insecure_skip_verify,
        denied=settings.denied_networks,
    )
    return LiveSource(address, provider)


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
