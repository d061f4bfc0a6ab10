"""`conversion-guard serve`: a guard from its settings to its end."""

import asyncio
import contextlib
import gc
import logging
import socket
from pathlib import Path

from webhook import logs
from webhook.errors import PartEnded, SettingsInvalid
from webhook.runtime.compose import compose
from webhook.runtime.settings_file import SettingsFile
from webhook.server import scrape

_log = logging.getLogger("webhook")


def run(path: Path | None) -> None:
    """Serve until a signal. Raises SettingsInvalid, SnapshotInvalid, CertificateInvalid, and
    PartEnded where it can't go on."""
    logs.log_to()
    file = SettingsFile(path)
    settings = file.settings
    logs.log_to(level=settings.log_level, log_format=settings.log_format)
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

            door = stack.enter_context(_listen(settings.api.listen, "api.listen"))
            context = guard.certificates.served.another().context
            guard.https.open(guard.api, door, context, largest=BODY_LIMIT)
            _log.info("the API listens on https://%s:%s", *door.getsockname()[:2])
        host, port = listener.getsockname()[:2]
        metrics_port = scraped.getsockname()[1]
        # What is here now stays: no review waits 20 ms because it is looked through for garbage.
        gc.freeze()
        gc.enable()
        _log.info("listening on https://%s:%s, metrics on port :%s", host, port, metrics_port)
        guard.https.run(sockets=[listener])
    if guard.hopeless:
        raise PartEnded("; ".join(guard.hopeless))


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
