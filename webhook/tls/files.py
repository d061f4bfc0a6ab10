"""A certificate from files that others keep right: cert-manager, OpenShift, a person."""

from pathlib import Path

from webhook.errors import CertificateInvalid
from webhook.tls.served import Served


class Files:
    """Two PEM files. By content, for kubelet swaps symlinks and an editor replaces files."""

    def __init__(self, served: Served, certificate: Path, key: Path) -> None:
        self._served, self._certificate, self._key = served, certificate, key

    async def look(self) -> None:
        """Serve what they hold. Raises CertificateInvalid while they can't be read, or while only
        one of them is new: then what was served stays."""
        try:
            # Small files on a local or memory disk: a thread would cost more than it saves.
            certificate, key = self._certificate.read_bytes(), self._key.read_bytes()
        except OSError as error:
            raise CertificateInvalid(f"tls: {error.filename}: {error.strerror}") from None
        try:
            self._served.load(certificate, key)
        except CertificateInvalid as error:
            message = f"tls: {self._certificate} and {self._key}: {error}"
            raise CertificateInvalid(message) from None
