"""`conversion-guard serve`: settings, sources, metrics and the server, plugged together."""

import asyncio
import contextlib
import gc
import logging
import os
import socket
import time
from pathlib import Path

import msgspec

from webhook import logs
from webhook.engine.decide import Sources
from webhook.errors import SettingsInvalid
from webhook.inventory.cache import Cache
from webhook.inventory.provider import PROVIDER_STATES, Inventory, ProviderInventory
from webhook.metrics import Metrics, ProviderReport
from webhook.rules import DEFAULTS, RULES
from webhook.runtime import sources
from webhook.runtime.certificates import Certificates
from webhook.server import app as server
from webhook.server.https import Server, ask_for_certificates
from webhook.settings import Settings, load, spelled

_SETTINGS_SECONDS = 2.0

_log = logging.getLogger("webhook")


def run(path: Path | None) -> None:
    """Serve until a signal. Raises SettingsInvalid, SnapshotInvalid, CertificateInvalid."""
    logs.log_to()
    content = _content(path)  # first: what changes after it is noticed
    settings = _settings(path)
    logs.log_to(level=settings.log_level, log_format=settings.log_format)
    cache = Cache(settings.cache_dir) if settings.cache_dir else None
    recall = cache.recall if cache else sources.nothing
    metrics = Metrics()
    inventory, live = sources.known(settings, recall)
    cluster = sources.following(settings, inventory, recall, metrics.event)
    judged_by = _Current(path, content, settings, inventory, cluster, metrics)
    metrics.watch(
        lambda: map(_report, inventory.vsphere()),
        PROVIDER_STATES,
        lambda: judged_by.sources.policy.max_age,
    )
    certificates = Certificates(settings, metrics)
    if settings.client_ca_file is not None:
        ask_for_certificates(certificates.served.context, settings.client_ca_file)
    https = Server(
        server.app(
            lambda: judged_by.sources,
            metrics,
            draining=lambda: https.draining,
            clients=settings.allowed_client_names,
            announcer=cluster.events if cluster else None,
            certificate_good=lambda: certificates.served.good,
        ),
        certificates.served.context,
        beside=[
            *([lambda: cache.run(inventory)] if cache else []),  # first: see Cache.run
            judged_by.follow,
            certificates.run,
            *([cluster.run] if cluster else []),
        ],
        shutdown_delay=settings.shutdown_delay,
    )
    if settings.api.enabled and cluster is None:
        raise SettingsInvalid(
            "api.enabled: only a cluster's API server can tell whose a token is, and there is none:"
            " run in a cluster, or set kubeconfig"
        )
    certificates.first()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(settings.listen))
        metrics_port, stop_metrics = metrics.serve(*_split(settings.metrics_listen))
        stack.callback(stop_metrics)
        for source in live:
            source.start()
            stack.callback(source.stop)
        if settings.api.enabled and cluster is not None:
            # Here, not above: its routes and their OpenAPI are made as it is imported.
            from webhook import api

            door = stack.enter_context(_listen(settings.api.listen, "api.listen"))
            calls = api.app(
                lambda: judged_by.sources,
                cluster.reader,
                metrics,
                audience=settings.api.audience,
                rate_per_user=settings.api.rate_per_user,
            )
            https.open(calls, certificates.served.another(), door)
            _log.info("the API listens on https://%s:%s", *door.getsockname()[:2])
        host, port = listener.getsockname()[:2]
        # What is here now stays: no review waits 20 ms because it is looked through for garbage.
        gc.freeze()
        gc.enable()
        _log.info("listening on https://%s:%s, metrics on port :%s", host, port, metrics_port)
        https.run(sockets=[listener])


def _content(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError:
        return None


def _report(provider: ProviderInventory) -> ProviderReport:
    age = provider.age(time.monotonic()) if provider.synced else None
    return ProviderReport(provider.name, provider.state, len(provider.vms), age, provider.reads)


def _settings(path: Path | None) -> Settings:
    return load(
        path,
        os.environ,
        rules=frozenset(rule.id for rule in RULES),
        defaults=frozenset(default.id for default in DEFAULTS),
    )


class _Current:
    """What reviews are judged by: the policy follows the settings file."""

    def __init__(
        self,
        path: Path | None,
        content: bytes | None,
        settings: Settings,
        inventory: Inventory,
        cluster: sources.Following | None,
        metrics: Metrics,
    ) -> None:
        self._path, self._settings, self._metrics = path, settings, metrics
        self._known = content
        self.sources = Sources(
            inventory,
            sources.policy(settings),
            time.monotonic,
            cluster.followed if cluster else None,
            cluster.reader if cluster else None,
        )

    async def follow(self) -> None:
        """Until cancelled. By content, for kubelet swaps symlinks and an editor replaces files."""
        if self._path is None:
            return
        while True:
            await asyncio.sleep(_SETTINGS_SECONDS)
            content = _content(self._path)
            if content != self._known:
                self._known = content
                self._reload(self._path)

    def _reload(self, path: Path) -> None:
        try:
            settings = _settings(path)
        except SettingsInvalid as error:
            self._metrics.reloaded(ok=False)
            _log.error("the settings stay as they were: %s", error)
            return
        self._metrics.reloaded(ok=True)
        logs.log_to(level=settings.log_level, log_format=settings.log_format)
        self.sources = msgspec.structs.replace(self.sources, policy=sources.policy(settings))
        before, after = self._settings.model_dump(), settings.model_dump()
        waiting = [spelled(key) for key in _AT_START if before[key] != after[key]]
        for field in waiting:
            _log.warning("the setting %s has changed: it counts from the next start", field)
        _log.info("the settings have been reloaded")


_AT_START = (
    "api",
    "listen",
    "metrics_listen",
    "tls",
    "cache_dir",
    "client_ca_file",
    "allowed_client_names",
    "providers",
    "provider_namespaces",
    "kubeconfig",
    "denied_networks",
    "shutdown_delay",
    "snapshots",
)


def _listen(address: str, field: str = "listen") -> socket.socket:
    host, port = _split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, port), family=family, backlog=2048, dualstack_ipv6=host == "::"
        )
    except OSError as error:
        raise SettingsInvalid(f"{field}: {address}: {error.strerror}") from None


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
