"""An API server that gives no answer: the cause in words, and its address only where it may be."""

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.command import run
from webhook import tls
from webhook.cluster import Cluster
from webhook.errors import ClusterUnreachable

HUNG_UP = (
    "the connection broke off", "it can't be connected to", "no TLS connection can be made with it",
    "connection reset by peer",
)  # fmt: skip
"""By when it comes."""


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def _kubeconfig(folder: Path, server: str) -> Path:
    file = folder / "kubeconfig"
    entry = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": server}}],
        "users": [{"name": "a", "user": {}}],
    }
    file.write_text(json.dumps(entry))
    return file


def _why(kubeconfig: Path) -> str:
    """As a webhook's answer has it."""

    async def ask() -> None:
        async with Cluster.open(kubeconfig) as cluster:
            await cluster.version()

    with pytest.raises(ClusterUnreachable) as raised:
        asyncio.run(ask())
    return str(raised.value)


def _hanging_up(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


def test_a_server_that_hangs_up(listening: socket.socket, tmp_path: Path) -> None:
    thread = threading.Thread(target=_hanging_up, args=(listening,))
    thread.start()
    try:
        port = listening.getsockname()[1]
        why = _why(_kubeconfig(tmp_path, f"https://u:secret@127.0.0.1:{port}"))
        done = run("audit", "--kubeconfig", tmp_path / "kubeconfig")
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert why in [f"the API server can't be reached: {cause}" for cause in HUNG_UP]
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"conversion-guard: https://127.0.0.1:{port}: the API server ")
    assert "secret" not in done.stderr


def test_a_server_whose_certificate_nobody_trusts(listening: socket.socket, tmp_path: Path) -> None:
    tls.write(tls.issue(["127.0.0.1"], datetime.now(UTC)), tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")

    def refused() -> None:
        with listening.accept()[0] as taken, pytest.raises(ssl.SSLError):
            context.wrap_socket(taken, server_side=True)

    thread = threading.Thread(target=refused)
    thread.start()
    why = _why(_kubeconfig(tmp_path, f"https://127.0.0.1:{listening.getsockname()[1]}"))
    thread.join()
    assert why == "the API server can't be reached: its certificate is not trusted"


@pytest.mark.parametrize(
    ("server", "cause"),
    [
        ("https://127.0.0.1:1", "connection refused"),
        ("https://no-such-host.invalid", "its name can't be resolved"),
        ("https://[::1", "its address is no URL: write https://host:port"),
        ("api.example.com:6443", "its address is no URL: write https://host:port"),
        ("https://", "its address is no URL: write https://host:port"),
    ],
)
def test_no_server_at_all(server: str, cause: str, tmp_path: Path) -> None:
    assert _why(_kubeconfig(tmp_path, server)) == f"the API server can't be reached: {cause}"
