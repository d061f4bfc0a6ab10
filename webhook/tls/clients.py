"""The CAs whose certificates clients may show: a file that others keep right."""

import logging
from pathlib import Path

from webhook.errors import CertificateInvalid
from webhook.tls.served import LiveContext

_log = logging.getLogger("webhook.tls")


class Clients:
    """One PEM file. By content, for kubelet swaps symlinks and an editor replaces files."""

    def __init__(self, context: LiveContext, cas: Path) -> None:
        self._context, self._path = context, cas
        self._known = b""

    async def look(self) -> None:
        """Trust what it holds, and nothing else any more. Raises CertificateInvalid while it can't
        be read: then what was trusted stays."""
        try:
            # A small file on a local or memory disk: a thread would cost more than it saves.
            cas = self._path.read_bytes()
        except OSError as error:
            raise CertificateInvalid(f"clientCAFile: {self._path}: {error.strerror}") from None
        if cas == self._known:
            return
        try:
            self._context.ask_for_certificates(cas)
        except CertificateInvalid as error:
            raise CertificateInvalid(f"clientCAFile: {self._path}: {error}") from None
        if self._known:
            _log.info("clientCAFile: the CAs of clients have been reloaded")
        self._known = cas
