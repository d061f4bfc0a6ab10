"""The certificate that every listener serves, and whose certificates its clients may show."""

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


class LiveContext:
    """The SSLContext of a listener, for as long as the process lives.

    Each handshake gets the pair and the clients' CAs of its moment: what is current is a context of
    its own, put in whole. (To a living one CAs can only be added.)
    """

    def __init__(self, pair: bytes) -> None:
        self.context = _context()
        """For the listener."""
        self._pair, self._cas = pair, b""
        self._current = self.context
        self.context.sni_callback = self._choose
        if pair:
            self._renew(pair, b"")

    def serve(self, pair: bytes) -> None:
        """From now on, this certificate and key: PEM. Raises CertificateInvalid."""
        self._renew(pair, self._cas)

    def ask_for_certificates(self, cas: bytes) -> None:
        """Let clients show a certificate, which must then be of one of these CAs: PEM.

        None is demanded, for kubelet's probes have none. Raises CertificateInvalid.
        """
        self._renew(self._pair, cas)
        self.context.verify_mode = ssl.CERT_OPTIONAL  # a connection has this of its listener's

    def _renew(self, pair: bytes, cas: bytes) -> None:
        current = _context()
        if pair:
            with _file(pair) as path:
                try:
                    current.load_cert_chain(path)
                except OSError as error:  # SSLError among them
                    why = getattr(error, "reason", None) or error.strerror
                    raise CertificateInvalid(f"the certificate can't be served: {why}") from None
        if cas:
            current.verify_mode = ssl.CERT_OPTIONAL
            try:
                current.load_verify_locations(
                    cadata=cas.decode("ascii", "ignore")  # comments may be in any language
                )
            except (ssl.SSLError, ValueError):
                raise CertificateInvalid("it contains no PEM certificate") from None
        self._pair, self._cas, self._current = pair, cas, current

    def _choose(self, connection: ssl.SSLObject, name: str | None, asked: ssl.SSLContext) -> None:
        connection.context = self._current


class Served:
    """The pair that every listener serves. A new one counts from the next handshake on.

    `now` is the clock; `loaded` is called for every pair that is put in.
    """

    def __init__(self, now: Callable[[], datetime], loaded: Callable[[], None]) -> None:
        self._pair = b""
        self._contexts: list[LiveContext] = []
        self.first = self.another()
        """The first one."""
        self.not_after: datetime | None = None
        """When the pair expires; None before there is one."""
        self._now, self._loaded = now, loaded

    def load(self, certificate: bytes, key: bytes) -> None:
        """Serve this pair, both PEM. Raises CertificateInvalid, and then serves the old one."""
        pair = key + b"\n" + certificate
        if pair == self._pair:
            return
        not_after = _checked(certificate, key)
        for context in self._contexts:  # what the first one takes, the others take, too
            context.serve(pair)
        self._pair, self.not_after = pair, not_after
        self._loaded()
        _log.info("serving a certificate that is valid until %s", f"{not_after:%Y-%m-%d %H:%M}Z")

    def another(self) -> LiveContext:
        """One more with the same pair, for another listener."""
        context = LiveContext(self._pair)
        self._contexts.append(context)
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
    # All that is offered is good, and AES-128, which the API server prefers, costs both less.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0  # the API server never comes back with one
    return context


def _checked(certificate: bytes, key: bytes) -> datetime:
    """When the first of the chain expires. Raises CertificateInvalid."""
    try:
        chain = x509.load_pem_x509_certificates(certificate)
    except ValueError:
        raise CertificateInvalid("the certificate is not a PEM certificate") from None
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateInvalid("the key is not a PEM key") from None
    except TypeError:
        raise CertificateInvalid("the key is encrypted: write it without a password") from None
    if chain[0].public_key() != private.public_key():
        raise CertificateInvalid("the key does not belong to the certificate")
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
