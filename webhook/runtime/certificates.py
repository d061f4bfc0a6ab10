"""Where `serve` gets its certificate from, as the settings say, and whose it takes from others;
and by which path it knows the API server."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from webhook import tls
from webhook.errors import SettingsInvalid
from webhook.metrics import Metrics
from webhook.runtime import signals
from webhook.runtime.following import clustered
from webhook.settings import Settings

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_NAMESPACE = "conversion-guard"
_FILES_SECONDS = 2.0  # reading two files costs nothing
_START_SECONDS = 1.0  # in which an API server has heard of a new caBundle, as a rule
_TICK_SECONDS = 0.25
_LATE_SECONDS = 2.0  # the shortest that an API server waits for an answer, by the manifests


class Certificates:
    """The certificate that is served, and the CA of those that clients show; the upkeep of both.
    Raises SettingsInvalid."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        def failed() -> None:
            metrics.certificate_loaded(ok=False)

        def loaded() -> None:
            metrics.certificate_loaded(ok=True)

        self.served = tls.Served(_now, loaded)
        self.path_proof = tls.PathProof()
        """Who is known by the path; nobody where none is kept."""
        self._keeps_path = settings.keeps_path
        self._failed = failed
        self._ready: Callable[[], bool] = lambda: self.served.good
        self._files: tls.Files | None = None
        if settings.tls.source == "files":
            files = self._files = tls.Files(
                self.served, settings.tls.cert_file, settings.tls.key_file
            )
            self._look: Callable[[], Awaitable[None]] = files.look
        else:
            proof = self.path_proof if self._keeps_path else None
            managed, self._look = _self_managed(settings, self.served, proof)
            self._ready = lambda: managed.ready
        ca = settings.client_ca_file
        self._clients = tls.Clients(self.served.first, ca) if ca else None
        metrics.certificate(self.served.timestamp, self.served.seconds_left)

    async def first(self) -> None:
        """Return with a certificate to serve. Raises CertificateInvalid for files; waits for a
        cluster, until SIGTERM or Ctrl-C: CancelledError."""
        if self._clients is not None:
            await self._clients.look()
        if self._files is not None:
            await self._files.look()
            return
        kept = tls.keep(self._look, self._failed, until=self._ready, every=_START_SECONDS)
        waiting = asyncio.create_task(kept)
        loop = asyncio.get_running_loop()
        with signals.heard(lambda: loop.call_soon_threadsafe(waiting.cancel)):
            await waiting

    async def run(self) -> None:
        """Keep it good, until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._keep())
            if self._keeps_path:
                both.create_task(self._notice_delays())

    async def _keep(self) -> None:
        every = _FILES_SECONDS if self._files is not None else tls.EVERY
        await asyncio.sleep(every)  # since the first look
        await tls.keep(self._look, self._failed, every=every)

    async def _notice_delays(self) -> None:
        """Where nothing could be done for so long, calls may have failed unseen."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            if loop.time() - due > _LATE_SECONDS:
                self.path_proof.failed()

    async def follow_clients(self) -> None:
        """Follow the CA of clients, if there is to be one, until cancelled."""
        if self._clients is None:
            await asyncio.Event().wait()
            return
        await tls.keep(
            self._clients.look, self._failed, every=_FILES_SECONDS, what="the CA of clients"
        )


def _self_managed(
    settings: Settings, served: tls.Served, proof: tls.PathProof | None
) -> tuple[tls.SelfManaged, Callable[[], Awaitable[None]]]:
    if not clustered(settings):
        raise SettingsInvalid(
            "tls.source: self-managed keeps its certificate in a Secret, and this runs outside a "
            "cluster: set tls.source: files with certFile and keyFile, or kubeconfig"
        )
    # Here, not above: the kubernetes client is slow to import, and files need none of it.
    from webhook.cluster import CertificateStore, Cluster

    chosen = settings.tls
    namespace = own_namespace(settings)
    service = f"{chosen.service}.{namespace}.svc"
    managed = tls.SelfManaged(served, [service, *chosen.extra_names], _now, proof)
    store = CertificateStore(
        namespace,
        chosen.secret,
        validating=chosen.validating_webhook_configuration,
        mutating=chosen.mutating_webhook_configuration,
    )

    async def look() -> None:
        # A connection of its own each time, 2 ms of CPU: there is none to be stale when needed.
        async with Cluster.open(settings.kubeconfig) as store.cluster:
            await managed.look(store)

    return managed, look


def own_namespace(settings: Settings) -> str:
    """Where the guard keeps what its replicas share."""
    if settings.tls.namespace:
        return settings.tls.namespace
    with contextlib.suppress(OSError):
        return _POD_NAMESPACE.read_text().strip()
    return os.environ.get("POD_NAMESPACE") or _NAMESPACE


def _now() -> datetime:
    return datetime.now(UTC)
