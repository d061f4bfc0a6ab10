"""What certificates say of themselves, for a person to read."""

from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509

from webhook.errors import CertificateInvalid
from webhook.tls.authority import signed
from webhook.tls.issuing import names_of


class Shown(NamedTuple):
    """The first certificate of a PEM text; of a bundle, that which lasts longest."""

    days_left: float
    """Negative once it has expired."""
    names: frozenset[str]


def shown(pem: bytes, now: datetime) -> Shown:
    """Raises CertificateInvalid."""
    first, *others = _read(pem)
    ends = max(one.not_valid_after_utc for one in (first, *others) if one.subject == first.subject)
    return Shown((ends - now) / timedelta(days=1), frozenset(names_of(first)))


def trusted(bundle: bytes, chain: bytes, now: datetime) -> bool:
    """Whether a CA of `bundle` that is still good has signed one of `chain`, or is in it itself.

    Raises CertificateInvalid.
    """
    cas = [ca for ca in _read(bundle) if now < ca.not_valid_after_utc]
    return any(ca == one or signed(ca, one) for ca in cas for one in _read(chain))


def _read(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise CertificateInvalid("is not a PEM certificate") from error
