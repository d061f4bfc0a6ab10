"""The certificate that is served: one SSL context a door, for as long as the process lives."""

import logging
import math
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from webhook.errors import CertificateInvalid

_log = logging.getLogger("webhook.tls")

# What TLS 1.2 may use; 1.3 has none that is weak.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class Served:
    """A live SSLContext and the pair in it. A new pair counts from the next handshake on.

    `now` is the clock; `loaded` is called for every pair that is put in.
    """

    def __init__(self, now: Callable[[], datetime], loaded: Callable[[], None]) -> None:
        self.context = _context()
        self._others: list[ssl.SSLContext] = []
        self.not_after: datetime | None = None
        """When the pair expires; None before there is one."""
        self._now, self._loaded = now, loaded
        self._pem = b""

    def load(self, certificate: bytes, key: bytes) -> None:
        """Serve this pair, both PEM. Raises CertificateInvalid, and then serves the old one."""
        pem = key + b"\n" + certificate
        if pem == self._pem:
            return
        not_after = _checked(certificate, key)
        with _file(pem) as path:
            try:
                # First elsewhere: what fails half-way would leave half of it behind.
                _context().load_cert_chain(path)
                for context in (self.context, *self._others):
                    context.load_cert_chain(path)
            except OSError as error:  # SSLError among them
                why = getattr(error, "reason", None) or error.strerror
                raise CertificateInvalid(f"the certificate can't be served: {why}") from None
        self._pem, self.not_after = pem, not_after
        self._loaded()
        _log.info("a certificate is served that is good until %s", f"{not_after:%Y-%m-%d %H:%M}Z")

    def another(self) -> ssl.SSLContext:
        """One more live context with the same pair: for a door that asks its clients otherwise."""
        context = _context()
        self._others.append(context)
        if self._pem:
            with _file(self._pem) as path:
                context.load_cert_chain(path)
        return context

    def timestamp(self) -> float:
        """When the pair expires, in Unix time; NaN before there is one."""
        return self.not_after.timestamp() if self.not_after else math.nan

    def seconds_left(self) -> float:
        """Until then; below 0 afterwards, NaN before there is one."""
        return self.timestamp() - self._now().timestamp()

    @property
    def good(self) -> bool:
        """Whether there is a certificate, and it has not expired."""
        return self.seconds_left() > 0


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _checked(certificate: bytes, key: bytes) -> datetime:
    """When the first of the chain expires. Raises CertificateInvalid."""
    try:
        chain = x509.load_pem_x509_certificates(certificate)
    except ValueError:
        raise CertificateInvalid("the certificate is no PEM certificate") from None
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateInvalid("the key is no PEM key") from None
    except TypeError:
        raise CertificateInvalid("the key is encrypted: it must be in clear") from None
    if chain[0].public_key() != private.public_key():
        raise CertificateInvalid("the key is not that of the certificate")
    return min(one.not_valid_after_utc for one in chain)


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    """A file for OpenSSL, which takes no bytes: in memory where there is such a thing (Linux), so
    that a key reaches no disk and a read-only container needs no place for it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("certificate")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
    else:
        with tempfile.NamedTemporaryFile() as file:  # mode 0600
            file.write(content)
            file.flush()
            yield file.name
