"""ECDSA P-256 certificates: a CA, and serving certificates of it. Nothing here reads a clock."""

import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ORGANIZATION = "conversion-guard"
"""In the name of every CA that keeps itself: by it the guard knows its own."""
CA_LIFE = timedelta(days=3652)
LEAF_LIFE = timedelta(days=30)
CLOCK_SKEW = timedelta(hours=1)
"""How much earlier than `now` a certificate begins: the API server's clock may lag."""


class KeyPair(NamedTuple):
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Issued(NamedTuple):
    """PEM: a CA certificate (for caBundle), and a serving certificate and key of it."""

    ca: bytes
    certificate: bytes
    key: bytes


def issue(names: Sequence[str], now: datetime, *, days: int = 365) -> Issued:
    """A CA whose key is forgotten at once, and one serving certificate for `names`.

    `names` are host names or IP addresses; the API server asks for `<service>.<namespace>.svc`.
    """
    life = timedelta(days=days)
    name = x509.NameAttribute(NameOID.COMMON_NAME, "conversion-guard development CA")
    ca = _authority(x509.Name([name]), now, life)
    certificate, key = leaf(names, ca, now, life)
    return Issued(pem([ca.certificate]), pem([certificate]), key_pem(key))


def write(issued: Issued, folder: Path) -> None:
    """`ca.crt`, `tls.crt` and `tls.key` (mode 0600) in `folder`, named as in a TLS Secret."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.crt").write_bytes(issued.ca)
    (folder / "tls.crt").write_bytes(issued.certificate)
    key = folder / "tls.key"
    key.unlink(missing_ok=True)  # an existing file would keep its mode
    key.touch(mode=0o600, exist_ok=False)
    key.write_bytes(issued.key)


def authority(now: datetime, life: timedelta = CA_LIFE) -> KeyPair:
    """A CA of a name that no other has: two in one bundle are never taken for each other."""
    name = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
        x509.NameAttribute(NameOID.COMMON_NAME, f"conversion-guard CA {secrets.token_hex(4)}"),
    ]
    return _authority(x509.Name(name), now, life)


def leaf(names: Sequence[str], ca: KeyPair, now: datetime, life: timedelta = LEAF_LIFE) -> KeyPair:
    """A serving certificate for `names` with a key of its own. It doesn't outlive its CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    end = min(now + life, ca.certificate.not_valid_after_utc)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    certificate = (
        _builder(subject, ca.certificate.subject, key.public_key(), now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(_key_id(key), critical=False)
        .add_extension(issuer, critical=False)
        .sign(ca.key, hashes.SHA256())
    )
    return KeyPair(certificate, key)


def names_of(certificate: x509.Certificate) -> frozenset[str]:
    """The host names and IP addresses that it is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(str(name.value) for name in extension.value)


def pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """One after the other, as a caBundle holds them."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _authority(name: x509.Name, now: datetime, life: timedelta) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(name, name, key.public_key(), now, now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(_key_id(key), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(certificate, key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - CLOCK_SKEW)
        .not_valid_after(end)
    )


def _key_id(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
