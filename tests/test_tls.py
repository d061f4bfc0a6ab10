"""Issued certificates: what an API server asks of them."""

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from webhook import tls

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_the_serving_certificate_is_p256_for_the_service() -> None:
    issued = tls.issue(["conversion-guard.conversion-guard.svc", "127.0.0.1"], NOW, days=10)
    leaf = x509.load_pem_x509_certificate(issued.certificate)
    ca = x509.load_pem_x509_certificate(issued.ca)
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["conversion-guard.conversion-guard.svc"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert leaf.not_valid_after_utc == NOW + timedelta(days=10)
    assert leaf.not_valid_before_utc < NOW
    leaf.verify_directly_issued_by(ca)


def test_the_files_load_and_only_the_owner_reads_the_key(tmp_path: Path) -> None:
    for _ in range(2):  # a second time replaces
        tls.write(tls.issue(["localhost"], datetime.now(UTC)), tmp_path / "new")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "new/tls.crt", tmp_path / "new/tls.key")
    assert stat.S_IMODE((tmp_path / "new/tls.key").stat().st_mode) == 0o600
