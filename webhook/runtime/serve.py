"""`conversion-guard serve`: a guard from its settings to its end."""

import asyncio
import contextlib
import gc
import logging
import socket
from pathlib import Path

from webhook import __version__, logs
from webhook.errors import PartEnded, SettingsInvalid
from webhook.logs import log_line
from webhook.runtime.compose import compose
from webhook.runtime.settings_file import SettingsFile
from webhook.server import scrape
from webhook.settings import Settings

_log = logging.getLogger("webhook")


def serve(path: Path | None) -> None:
    """Serve until a signal. Raises SettingsInvalid, SnapshotInvalid, CertificateInvalid, and
    PartEnded where it can't go on."""
    logs.log_to()
    file = SettingsFile(path)
    settings = file.settings
    logs.log_to(level=settings.log_level, log_format=settings.log_format)
    log_line(
        _log, f"conversion-guard {__version__} starts", settings=str(path or ""), **_of(settings)
    )
    guard = compose(file)
    try:
        asyncio.run(guard.certificates.first())
    except asyncio.CancelledError:
        return  # asked to end while it waited for a cluster
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(settings.listen))
        scraped = stack.enter_context(_listen(settings.metrics_listen, "metricsListen"))
        guard.https.open(scrape.app(guard.metrics.text), scraped, keep_alive=scrape.KEEP_ALIVE)
        if guard.api is not None:
            from webhook.api import BODY_LIMIT

            api = stack.enter_context(_listen(settings.api.listen, "api.listen"))
            context = guard.certificates.served.another().context
            guard.https.open(guard.api, api, context, largest=BODY_LIMIT)
            _log.info("the API listens on https://%s:%s", *api.getsockname()[:2])
        host, port = listener.getsockname()[:2]
        metrics_port = scraped.getsockname()[1]
        # What is here now stays: no review waits 20 ms because it is looked through for garbage.
        gc.freeze()
        gc.enable()
        _log.info("listening on https://%s:%s, metrics on port :%s", host, port, metrics_port)
        guard.https.run(sockets=[listener])
    if guard.hopeless:
        raise PartEnded("; ".join(guard.hopeless))


def _of(settings: Settings) -> dict[str, str]:
    """What an operator wants to know first of a guard's settings; no address, account or path."""
    rules = [f"{rule}={action}" for rule, action in sorted(settings.rules.items())]
    return {
        "providerNamespaces": ",".join(settings.provider_namespaces),
        "undecided": settings.undecided,
        "maxAge": f"{settings.max_age:g}s",
        "certificate": settings.tls.source,
        "callersProvenBy": settings.callers_proven_by,
        "api": str(settings.api.enabled),
        "rules": ",".join(rules),
        "namespaces": ",".join(sorted(settings.namespaces)),
    }


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
