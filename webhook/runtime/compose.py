"""A guard put together: everything is built here from the settings, and nothing runs yet."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from webhook import logs
from webhook.engine.sources import Sources
from webhook.errors import SettingsInvalid
from webhook.inventory.cache import Cache
from webhook.inventory.provider import PROVIDER_STATES, ProviderInventory
from webhook.metrics import Metrics, ProviderReport
from webhook.runtime import signals, sources
from webhook.runtime.certificates import Certificates, own_namespace
from webhook.runtime.following import Audit, Following, clustered, following
from webhook.runtime.logins import Logins
from webhook.runtime.settings_file import SettingsFile
from webhook.runtime.supervise import PARTS, Run, Supervisor
from webhook.server.app import Admission
from webhook.server.bodies import App
from webhook.server.https import HttpsServer
from webhook.settings import Settings

if TYPE_CHECKING:
    from webhook.vsphere import LiveSource


class Guard(NamedTuple):
    """All of it, to be run: see webhook.runtime.serve."""

    settings: Settings
    metrics: Metrics
    certificates: Certificates
    https: HttpsServer
    api: App | None
    """The vendors' REST API, if there is to be one."""
    hopeless: list[str]
    """Why the process had to end, if it had to."""


class _Current:
    """What reviews are judged by, each by what counts when it comes: the policy can change."""

    def __init__(self, by: Sources) -> None:
        self.by = by

    def apply(self, settings: Settings) -> None:
        """From now on by these."""
        self.by = msgspec.structs.replace(self.by, policy=sources.policy(settings))
        logs.log_to(level=settings.log_level, log_format=settings.log_format)


def compose(file: SettingsFile) -> Guard:
    """What the settings say. Raises SettingsInvalid or SnapshotInvalid."""
    settings = file.settings
    metrics = Metrics()
    metrics.expect_parts(PARTS)
    hopeless: list[str] = []

    def end(why: str) -> None:
        hopeless.append(why)
        if not https.draining:
            https.handle_exit(signal.SIGTERM, None)

    supervisor = Supervisor(metrics.restarted, end)
    cache = Cache(settings.cache_dir) if settings.cache_dir else None
    recall = cache.recall if cache else sources.nothing
    failed = partial(metrics.restarted, "vsphere")
    logins = Logins(own_namespace(settings)) if clustered(settings) else None
    inventory, live = sources.known(settings, recall, failed, logins)
    connect = partial(sources.connector, settings, recall, failed, logins)
    cluster = following(settings, inventory, supervisor, connect, metrics.event, logins)
    judged = _Current(
        Sources(
            inventory,
            sources.policy(settings),
            time.monotonic,
            cluster.followed if cluster else None,
            cluster.reader if cluster else None,
        )
    )
    if cluster is not None and settings.audit.enabled:
        cluster.audit = _audit(settings, lambda: judged.by, cluster, metrics)
    metrics.watch(
        lambda: map(_report, inventory.vsphere()),
        PROVIDER_STATES,
        lambda: judged.by.policy.max_age,
    )
    certificates = Certificates(settings, metrics)
    parts: list[tuple[str, Run]] = [
        # In this order they are ended: the cache saves what those that follow forget.
        *([("cache", partial(cache.run, inventory))] if cache else []),
        ("settings", partial(file.follow, judged.apply, metrics.reloaded)),
        ("certificates", certificates.run),
        ("client-ca", certificates.follow_clients),
        *([("cluster", cluster.run)] if cluster else []),
        *(("vsphere", partial(_follow, source)) for source in live),
    ]
    admission = Admission(
        lambda: judged.by,
        metrics,
        draining=lambda: https.draining,
        failing=supervisor.failing,
        clients=settings.allowed_client_names,
        announcer=cluster.events if cluster else None,
        certificate_good=lambda: certificates.served.good,
        proves=certificates.path_proof.proven,
        failed=certificates.path_proof.failed,
    )
    https = HttpsServer(
        admission,
        certificates.served.first.context,
        prompt=admission,
        beside=[signals.listen, partial(supervisor.keep_all, parts)],
        shutdown_delay=settings.shutdown_delay,
    )
    api = None
    if settings.api.enabled:
        api = _api(settings, lambda: judged.by, cluster, metrics, lambda: https.draining)
    return Guard(settings, metrics, certificates, https, api, hopeless)


def _audit(
    settings: Settings, current: Callable[[], Sources], cluster: Following, metrics: Metrics
) -> Audit:
    # Here, not above: the kubernetes client is slow to import, and many need none of it.
    from webhook.audit import Auditor

    return Auditor(
        current,
        cluster.followed,
        cluster.reader,
        metrics,
        namespace=own_namespace(settings),
        replica=f"{socket.gethostname()}-{os.getpid()}",
        every=settings.audit.every,
    ).run


async def _follow(source: "LiveSource") -> None:
    """Let its thread run until cancelled: it begins anew by itself."""
    source.start()
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.to_thread(source.stop)


def _api(
    settings: Settings,
    current: Callable[[], Sources],
    cluster: Following | None,
    metrics: Metrics,
    ending: Callable[[], bool],
) -> App:
    if cluster is None:
        raise SettingsInvalid(
            "api.enabled: only the API server of a cluster can check a token, and there is none:"
            " run in a cluster, or set kubeconfig"
        )
    # Here, not above: its routes and their OpenAPI are made as it is imported.
    from webhook import api

    return api.app(
        current,
        cluster.reader,
        metrics,
        audience=settings.api.audience,
        rate_per_user=settings.api.rate_per_user,
        ending=ending,
    )


def _report(provider: ProviderInventory) -> ProviderReport:
    age = provider.age(time.monotonic()) if provider.synced else None
    return ProviderReport(provider.name, provider.state, len(provider.vms), age, provider.reads)
