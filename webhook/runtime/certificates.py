"""Where `serve` gets its certificate from, as the settings say, and how it stays good."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from webhook import tls
from webhook.errors import SettingsInvalid
from webhook.metrics import Metrics
from webhook.settings import Settings

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_NAMESPACE = "conversion-guard"
_FILES_SECONDS = 2.0  # reading two files costs nothing


class Certificates:
    """The certificate that is served, and its upkeep. Raises SettingsInvalid."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        def failed() -> None:
            metrics.certificate_loaded(ok=False)

        def loaded() -> None:
            metrics.certificate_loaded(ok=True)

        self.served = tls.Served(_now, loaded)
        self._failed = failed
        self._files: tls.Files | None = None
        if settings.tls.source == "files":
            files = self._files = tls.Files(
                self.served, settings.tls.cert_file, settings.tls.key_file
            )
            self._look: Callable[[], Awaitable[None]] = files.look
        else:
            self._look = _self_managed(settings, self.served)
        metrics.certificate(self.served.timestamp, self.served.seconds_left)

    def first(self) -> None:
        """Return with a certificate to serve. Raises CertificateInvalid for files; waits for a
        cluster, until SIGTERM or Ctrl-C: SystemExit."""
        try:
            asyncio.run(self._first())
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise SystemExit(0) from None

    async def _first(self) -> None:
        if self._files is not None:
            await self._files.look()
            return
        waiting = asyncio.current_task()
        if waiting is not None:  # process 1 of a container would not even die of it
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, waiting.cancel)
        await tls.keep(self._look, self._failed, until=lambda: self.served.good)

    async def run(self) -> None:
        """Keep it good, until cancelled."""
        every = _FILES_SECONDS if self._files is not None else tls.EVERY
        await asyncio.sleep(every)  # since the first look
        await tls.keep(self._look, self._failed, every=every)


def _self_managed(settings: Settings, served: tls.Served) -> Callable[[], Awaitable[None]]:
    if settings.kubeconfig is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise SettingsInvalid(
            "tls.source: self-managed keeps its certificate in a Secret, and this is no pod of a "
            "cluster: set tls.source: files with certFile and keyFile, or kubeconfig"
        )
    # Here, not above: the kubernetes client is slow to import, and files need none of it.
    from webhook.cluster import CertificateStore, Cluster

    chosen = settings.tls
    namespace = chosen.namespace or _namespace()
    service = f"{chosen.service}.{namespace}.svc"
    managed = tls.SelfManaged(served, [service, *chosen.extra_names], _now)
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

    return look


def _namespace() -> str:
    with contextlib.suppress(OSError):
        return _POD_NAMESPACE.read_text().strip()
    return os.environ.get("POD_NAMESPACE") or _NAMESPACE


def _now() -> datetime:
    return datetime.now(UTC)
