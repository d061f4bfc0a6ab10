"""Certificates: what an API server asks of them, and how a running server changes them."""

import json
import math
import os
import re
import ssl
import stat
import subprocess
import sys
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.e2e.bed import eventually
from tests.guard import Guard, running
from tests.test_authority import shown
from webhook import tls
from webhook.errors import CertificateInvalid
from webhook.tls import Served

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


def test_a_pair_that_cannot_be_served_leaves_the_old_one() -> None:
    loaded = []
    served = Served(lambda: NOW, lambda: loaded.append(1))
    assert not served.good
    assert math.isnan(served.seconds_left())
    good, other = (tls.issue(["localhost"], NOW, days=10) for _ in range(2))
    served.load(good.certificate, good.key)
    served.load(good.certificate, good.key)  # the same is nothing new
    for certificate, key, told in (
        (b"", good.key, "the certificate is not a PEM certificate"),
        (other.certificate[:400], other.key, "the certificate is not a PEM certificate"),
        (other.certificate, other.key[:100], "the key is not a PEM key"),
        (other.certificate, good.key, "the key does not belong to the certificate"),
        (other.certificate, _encrypted(other.key), "the key is encrypted"),
    ):
        with pytest.raises(CertificateInvalid, match=told):
            served.load(certificate, key)
        assert shown(served.first.context) == x509.load_pem_x509_certificate(good.certificate)
    assert loaded == [1]
    assert served.seconds_left() == timedelta(days=10).total_seconds()
    assert served.timestamp() == (NOW + timedelta(days=10)).timestamp()


def test_every_listener_serves_the_same_pair_also_the_next_one() -> None:
    served = Served(lambda: NOW, lambda: None)
    early = served.another()  # before there is any
    first, second = (tls.issue(["localhost"], NOW, days=10) for _ in range(2))
    served.load(first.certificate, first.key)
    late = served.another()
    for issued in (first, second):
        served.load(issued.certificate, issued.key)
        wanted = x509.load_pem_x509_certificate(issued.certificate)
        assert [shown(listener.context) for listener in (served.first, early, late)] == [wanted] * 3


def test_the_shortest_life_in_a_chain_counts() -> None:
    served = Served(lambda: NOW, lambda: None)
    leaf, intermediate = tls.issue(["localhost"], NOW, days=10), tls.issue(["x"], NOW, days=3)
    served.load(leaf.certificate + intermediate.ca, leaf.key)
    assert served.not_after == NOW + timedelta(days=3)


def test_an_rsa_certificate_is_served_too() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
    ).sign(key, hashes.SHA256())
    served = Served(lambda: NOW, lambda: None)
    encoding = serialization.Encoding.PEM
    pem = key.private_bytes(
        encoding, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    served.load(certificate.public_bytes(encoding), pem)
    assert shown(served.first.context) == certificate


@pytest.mark.parametrize(
    ("version", "ciphers", "fits"),
    [
        (ssl.TLSVersion.TLSv1_3, "DEFAULT", True),
        (ssl.TLSVersion.TLSv1_2, "DEFAULT", True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256", False),
        (ssl.TLSVersion.TLSv1_1, "DEFAULT:@SECLEVEL=0", False),
    ],
)
def test_old_versions_and_suites_find_no_server(
    version: ssl.TLSVersion, ciphers: str, fits: bool
) -> None:
    served = Served(lambda: NOW, lambda: None)
    issued = tls.issue(["localhost"], NOW)
    served.load(issued.certificate, issued.key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that 1.1 is old is the point
        client.minimum_version = ssl.TLSVersion.TLSv1_1
        client.maximum_version = version
    client.set_ciphers(ciphers)
    if fits:
        assert shown(served.first.context, client).not_valid_after_utc > NOW
    else:
        with pytest.raises(ssl.SSLError):
            shown(served.first.context, client)


def _encrypted(key: bytes) -> bytes:
    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


class _Mount:
    """A Secret volume as kubelet writes it: `tls.crt` → `..data/tls.crt`, `..data` → a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = 0
        folder.mkdir()
        for name in ("tls.crt", "tls.key"):
            (folder / name).symlink_to(f"..data/{name}")

    def put(self, certificate: bytes, key: bytes) -> None:
        self._versions += 1
        version = self.folder / f"..version-{self._versions}"
        version.mkdir()
        (version / "tls.crt").write_bytes(certificate)
        (version / "tls.key").write_bytes(key)
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.folder / "..data")


def test_a_rotation_of_mounted_files_reaches_new_connections_and_harms_no_old_one(
    tmp_path: Path,
) -> None:
    mount = _Mount(tmp_path / "mounted")
    first, second, third = (
        tls.issue(["localhost", "127.0.0.1"], datetime.now(UTC), days=days) for days in (2, 3, 4)
    )
    mount.put(first.certificate, first.key)
    files = {"certFile": f"{mount.folder}/tls.crt", "keyFile": f"{mount.folder}/tls.key"}
    with running(tmp_path, {"tls": {"source": "files", **files}}) as guard:
        trusting = ssl.create_default_context()
        for issued in (first, second, third):
            trusting.load_verify_locations(cadata=issued.ca.decode())
        kept = httpx.Limits(keepalive_expiry=None)
        with httpx.Client(base_url=guard.url, verify=trusting, limits=kept, timeout=60) as old:
            assert old.get("/livez").status_code == 200
            assert _shown(guard) == first.certificate
            mount.put(second.certificate, second.key)
            eventually(lambda: _shown(guard) == second.certificate, "the second is served")
            # Half of the next one: what is served stays.
            failed = _loads(guard, "failed")
            mount.put(third.certificate, second.key)
            eventually(lambda: _loads(guard, "failed") > failed, "a failure is counted")
            assert _shown(guard) == second.certificate
            assert "the key does not belong to the certificate" in guard.log
            mount.put(third.certificate[:200], third.key)
            eventually(lambda: "is not a PEM certificate" in guard.log, "half of it is told")
            assert _shown(guard) == second.certificate
            mount.put(third.certificate, third.key)
            eventually(lambda: _shown(guard) == third.certificate, "the third is served")
            before = old.get("/livez").extensions["network_stream"]
            assert before.get_extra_info("ssl_object").getpeercert(True) == _der(first.certificate)
        assert _loads(guard, "ok") == 3
        left = float(_metric(guard, "conversion_guard_certificate_seconds_left"))
        assert 3 < left / timedelta(days=1).total_seconds() < 4
        timestamp = float(
            _metric(guard, "conversion_guard_certificate_not_after_timestamp_seconds")
        )
        assert timestamp == _not_after(third.certificate)


def test_health_tells_of_an_expired_certificate_and_life_does_not_end(tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=2)
    expired = tls.issue(["localhost", "127.0.0.1"], past, days=1)
    with running(tmp_path, {}) as guard:
        unverified = httpx.Client(base_url=guard.url, verify=False, timeout=60)  # noqa: S501  it has expired
        with unverified as client:
            assert client.get("/healthz").status_code == 200
            tls.write(expired, tmp_path)
            eventually(lambda: client.get("/healthz").status_code == 503, "it is told")
            assert client.get("/livez").status_code == 200
        assert float(_metric(guard, "conversion_guard_certificate_seconds_left")) < 0


def test_without_a_cluster_the_default_says_what_to_set(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("listen: 127.0.0.1:0\nmetricsListen: 127.0.0.1:0\n")
    done = subprocess.run(
        [sys.executable, "-m", "webhook", "serve", "--settings", str(settings)],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 2
    assert "tls.source: self-managed" in done.stderr
    assert "set tls.source: files" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreachable_cluster_is_asked_again_and_sigterm_still_ends_it(tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(json.dumps(_KUBECONFIG))
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"listen: 127.0.0.1:0\nkubeconfig: {config}\n")
    with subprocess.Popen(
        [sys.executable, "-m", "webhook", "serve", "--settings", str(settings)],
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"]},
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if "the upkeep of the certificate fails: the API server" in line:
                    break
            else:
                raise AssertionError("it ended")
        finally:
            process.terminate()
        assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read()


_KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "none", "user": {"token": "t"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "current-context": "none",
}


def _shown(guard: Guard) -> bytes:
    """The certificate that a new connection is shown, PEM."""
    return ssl.get_server_certificate(("127.0.0.1", guard.port)).encode()


def _metric(guard: Guard, name: str) -> str:
    text = guard.metrics()
    (value,) = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.M)
    return str(value)


def _loads(guard: Guard, result: str) -> int:
    return int(
        float(_metric(guard, f'conversion_guard_certificate_loads_total{{result="{result}"}}'))
    )


def _der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())


def _not_after(pem: bytes) -> float:
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
