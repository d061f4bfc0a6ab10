"""What the Secret holds, and what it should hold: pure functions of the time.

A CA is replaced in steps, each of which every client of every replica survives:

1. The new CA signs from now on; the old one stays in the bundle, and its last leaf is served.
2. Once all webhooks trust the new CA ("settled": two looks in a row have found it so, for an API
   server hears of a change a moment later; or one, where the old leaf is due, for a second may come
   too late), a leaf of it takes over.
3. The old CA leaves the bundle once every leaf that it can have signed has expired; or, where the
   Secret is deleted again and again, once two newer ones have come after it.

A replica that can read the Secret has taken the newest leaf long before its CA is the third; it may
be late all the same, or have started from nothing. So nobody loses a CA that is in use: who finds a
bundle without the CA that it serves by puts it back before it lets the webhooks trust that bundle;
who starts without a Secret takes over the CAs that the webhooks trust; and a webhook is left a CA
that the Secret no longer names until half a minute has passed, in which each replica looks at it
several times (webhook.tls.self_managed). What may be lost is a replica that can't reach the API
server, but is still called by it, while the Secret is lost twice or an old backup of it comes back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from webhook.errors import CertificateInvalid
from webhook.tls.issuing import (
    CA_LIFE,
    CLOCK_SKEW,
    LEAF_LIFE,
    ORGANIZATION,
    KeyPair,
    authority,
    key_pem,
    leaf,
    names_of,
    pem,
)

_MOST_CAS = 3  # the newest, that of the leaf, and one that a replica may serve by still


@dataclass(frozen=True)
class Authority:
    """The CA, those it has replaced, and the leaf that every replica serves."""

    cas: tuple[x509.Certificate, ...]
    """Newest first; it alone signs."""
    key: ec.EllipticCurvePrivateKey
    """Of the newest CA: that of an old one is gone."""
    leaf: KeyPair

    @property
    def bundle(self) -> bytes:
        """PEM: what caBundle should be."""
        return pem(self.cas)

    @property
    def served(self) -> tuple[bytes, bytes]:
        """PEM: the serving certificate, and its key."""
        return pem([self.leaf.certificate]), key_pem(self.leaf.key)

    @property
    def issuer(self) -> x509.Certificate:
        """The CA of the leaf."""
        return next(ca for ca in self.cas if signed(ca, self.leaf.certificate))

    def data(self) -> dict[str, bytes]:
        """As the Secret holds it: a TLS Secret, with the bundle and the newest CA's key."""
        certificate, key = self.served
        return {
            "ca.crt": self.bundle,
            "ca.key": key_pem(self.key),
            "tls.crt": certificate,
            "tls.key": key,
        }


def of_secret(data: Mapping[str, bytes]) -> Authority:
    """The Secret's content. Raises CertificateInvalid: what doesn't fit in it."""
    try:
        cas = tuple(x509.load_pem_x509_certificates(data["ca.crt"]))
        certificate = x509.load_pem_x509_certificate(data["tls.crt"])
        ca_key, key = (
            serialization.load_pem_private_key(data[name], None) for name in ("ca.key", "tls.key")
        )
        signs = [
            ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca for ca in cas
        ]
    except KeyError as error:
        raise CertificateInvalid(f"has no {error.args[0]}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
        raise CertificateInvalid(f"can't be read ({type(error).__name__})") from None
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey) or not isinstance(
        key, ec.EllipticCurvePrivateKey
    ):
        raise CertificateInvalid("has a key that is not ECDSA")
    if cas[0].public_key() != ca_key.public_key():
        raise CertificateInvalid("ca.key is not the key of the first certificate in ca.crt")
    if certificate.public_key() != key.public_key():
        raise CertificateInvalid("tls.key is not the key of tls.crt")
    if not all(signs) or not any(signed(ca, certificate) for ca in cas):
        raise CertificateInvalid("tls.crt is not signed by a CA in ca.crt")
    return Authority(cas, ca_key, KeyPair(certificate, key))


def foreign(data: Mapping[str, bytes]) -> bool:
    """Whether there is a certificate that somebody else has put there."""
    try:
        issuer = x509.load_pem_x509_certificate(data.get("tls.crt", b"")).issuer
    except ValueError:
        return False
    return _made_by(issuer) != [ORGANIZATION]


def _made_by(name: x509.Name) -> list[str | bytes]:
    return [one.value for one in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]


def ours(bundle: bytes) -> tuple[x509.Certificate, ...]:
    """The CAs of a caBundle that a guard has made; none of one that can't be read."""
    try:
        found = x509.load_pem_x509_certificates(bundle)
    except ValueError:
        return ()
    return tuple(ca for ca in found if _made_by(ca.subject) == [ORGANIZATION])


def fresh(
    names: Sequence[str], now: datetime, trusted: Iterable[x509.Certificate] = ()
) -> Authority:
    """A first CA, and a leaf of it; those that are `trusted` already stay so."""
    ca = authority(now)
    return Authority(_few(ca.certificate, *trusted), ca.key, leaf(names, ca, now))


def rotated(held: Authority, now: datetime) -> Authority:
    """With a new CA, which has signed nothing yet. The key of the one before is gone by that, so
    what that should sign must be `renewed` before: it is served until the new CA is trusted."""
    ca = authority(now)
    return replace(held, cas=_few(ca.certificate, held.issuer, *held.cas), key=ca.key)


def keeping(held: Authority, ca: x509.Certificate) -> Authority:
    """With `ca` in the bundle: itself where it is."""
    if ca in held.cas:
        return held
    return replace(held, cas=_few(held.cas[0], held.issuer, ca, *held.cas))


def _few(*cas: x509.Certificate) -> tuple[x509.Certificate, ...]:
    return tuple(dict.fromkeys(cas))[:_MOST_CAS]


def renewed(held: Authority, names: Sequence[str], now: datetime, *, settled: bool) -> Authority:
    """What `held` should be at `now`: itself, if nothing is due.

    `settled`: a leaf of the newest CA of `held` may take over, for the webhooks trust it.
    """
    if not _valid(held.cas[0], now):
        held, settled = rotated(held, now), False
    certificate = held.leaf.certificate
    usable = _valid(certificate, now) and _valid(held.issuer, now)
    of_newest = held.issuer == held.cas[0]
    lacks = due(certificate.not_valid_after_utc, now) or not set(names) <= names_of(certificate)
    if not usable or (lacks if of_newest else settled):
        held = replace(held, leaf=leaf(names, KeyPair(held.cas[0], held.key), now))
        of_newest = True
    held = replace(held, cas=_needed(held.cas, now) if of_newest else held.cas)
    return rotated(held, now) if due(held.cas[0].not_valid_after_utc, now, CA_LIFE) else held


def _needed(cas: tuple[x509.Certificate, ...], now: datetime) -> tuple[x509.Certificate, ...]:
    """Without the CAs of which no leaf can be served any more.

    An old CA has signed nothing since the newest one was made, so by then its last leaf, too, has
    expired: also where a replica was cut off and still serves it. A backup may lack a CA that came
    after it; the replica that serves by that one puts it back (`keeping`).
    """
    newest, *old = cas
    if now >= newest.not_valid_before_utc + CLOCK_SKEW + LEAF_LIFE:
        return (newest,)
    return newest, *(ca for ca in old if ca.not_valid_after_utc > now)


def _valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def due(not_after: datetime, now: datetime, life: timedelta = LEAF_LIFE) -> bool:
    """Whether what ends then is to be replaced: from two thirds of its life on."""
    return not_after - now < life / 3


def signed(ca: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether `ca` has signed `certificate`."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
