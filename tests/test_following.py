"""Following a cluster whose answers go wrong once, anywhere: nothing ends for good."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio.config import incluster_config

from webhook import tls
from webhook.cluster import CertificateStore, Cluster, FoundProvider, ProviderWatch
from webhook.errors import ClusterUnreachable
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.model.keys import ENFORCE, VM_ID, VM_UUID
from webhook.runtime.following import Following
from webhook.runtime.supervise import Supervisor
from webhook.settings import Settings

pytestmark = pytest.mark.anyio

_GARBAGE = {
    "empty": b"",
    "html": b"<html>no JSON</html>\n",
    "null": b"null\n",
    "list": b"[]\n",
    "bytes": b'{"items": ["\xff\xfe"], "metadata": {}}\n',
    "nulls": b'{"type": "ADDED", "object": null, "items": [null], "metadata": null, "data": 1}\n',
    "numbers": b'{"type": 1, "object": {"metadata": {"name": 1}}, "items": [1], "data": [1]}\n',
    "nameless": b'{"type": "ADDED", "object": {}, "items": [{}], "metadata": {}, "data": {}}\n',
    "no base64": b'{"data": {"user": "\xc3\xa9", "password": "?"}, "items": {}, "type": "ADDED"}\n',
    "deep": b'{"items": ' + b"[" * 100_000 + b"\n",
}


def _named(name: str, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "openshift-mtv", "resourceVersion": "2"},
        **more,
    }


PROVIDER = _named("prod", spec={"type": "vsphere", "url": "https://v/sdk", "secret": {"name": "s"}})
SECRET = {"data": {key: base64.b64encode(key.encode()).decode() for key in ("user", "password")}}


class ApiServer:
    """Lists nothing, and tells of one object of each kind in its watch, by `name`.

    Where `spoils` is true of a request, the first such one for each path gets `garbage`.
    """

    def __init__(
        self, spoils: Callable[[str], bool] = lambda _: False, garbage: bytes = b""
    ) -> None:
        self._spoils, self._garbage = spoils, garbage
        self.spoilt: set[str] = set()
        self.name = "new"
        self.cut = asyncio.Event()
        """Ends every watch."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
            place = path.partition("?")[0]
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            if self._spoils(path) and place not in self.spoilt:
                self.spoilt.add(place)
                writer.write(self._garbage)
            elif "watch=true" in path:
                event = {"type": "ADDED", "object": self._object(path)}
                writer.write(json.dumps(event).encode() + b"\n")
                await writer.drain()
                await self.cut.wait()
            elif "/secrets/" in path:
                writer.write(json.dumps(SECRET).encode())
            else:
                writer.write(b'{"metadata": {"resourceVersion": "1"}, "items": []}')
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _object(self, path: str) -> dict[str, Any]:
        if "/providers" in path:
            return PROVIDER
        found = _named(self.name)
        found["metadata"]["labels"] = {VM_ID: "vm-1", VM_UUID: "u", ENFORCE: "warn"}
        return found


@asynccontextmanager
async def _serving(api: ApiServer, folder: Path) -> AsyncIterator[Path]:
    """The kubeconfig of an API server."""
    async with await asyncio.start_server(api.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        config = {
            "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "users": [{"name": "x", "user": {}}],
            "current-context": "x",
        }
        file = folder / "kubeconfig"
        file.write_text(json.dumps(config))
        yield file
        api.cut.set()


class Source:
    """Stands for what reads a vSphere."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


def _nothing(_: str) -> None: ...


@asynccontextmanager
async def _during(running: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(running)
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _becomes(check: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(30):
            while not check():  # noqa: ASYNC110  it is no event of ours
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within 30 s: {what}") from None


async def _everything(following: Following, inventory: Inventory, name: str = "new") -> None:
    """Wait until all is known that the API server tells."""
    followed = following.followed
    await _becomes(lambda: followed.unlisted == 0 and not inventory.unlisted, "all is listed")
    await _becomes(lambda: inventory.get("openshift-mtv", "prod"), "the Provider is known")
    await _becomes(
        lambda: name in {one.name for one in followed.claims.of("openshift-mtv", "vm-1", "u")},
        "the PVC is known",
    )
    await _becomes(lambda: name in followed.classes.keys(), "the class is")  # noqa: SIM118
    await _becomes(lambda: name in followed.enforced.keys(), "the namespace is")  # noqa: SIM118


@pytest.mark.parametrize("garbage", _GARBAGE.values(), ids=_GARBAGE)
@pytest.mark.parametrize("watch", [False, True], ids=["list", "watch"])
async def test_one_garbled_answer_anywhere_ends_nothing(
    tmp_path: Path, watch: bool, garbage: bytes
) -> None:
    api = ApiServer(lambda path: ("watch=true" in path) is watch, garbage)
    inventory, supervisor = Inventory(), Supervisor(_nothing, _nothing)
    async with _serving(api, tmp_path) as kubeconfig:
        settings = Settings(kubeconfig=kubeconfig)
        following = Following(settings, inventory, supervisor, lambda *_: Source(), _nothing)
        async with _during(supervisor.keep("cluster", following.run)):
            await _everything(following, inventory)
            assert len(api.spoilt) >= 4
            assert supervisor.failing() == ()


async def test_no_part_ends_where_no_namespace_has_providers(tmp_path: Path) -> None:
    inventory, ended = Inventory(), list[str]()
    supervisor = Supervisor(ended.append, _nothing)
    async with _serving(ApiServer(), tmp_path) as kubeconfig:
        settings = Settings(kubeconfig=kubeconfig, provider_namespaces=())
        following = Following(settings, inventory, supervisor, lambda *_: Source(), _nothing)
        async with _during(supervisor.keep("cluster", following.run)):
            await _becomes(lambda: following.followed.unlisted == 0, "all is listed")
            assert ended == []


@pytest.mark.parametrize("garbage", _GARBAGE.values(), ids=_GARBAGE)
async def test_a_secret_that_is_garbled_once_is_read_again(tmp_path: Path, garbage: bytes) -> None:
    api = ApiServer(lambda path: "/secrets/" in path, garbage)
    inventory, found = Inventory(), list[FoundProvider]()

    def connect(one: FoundProvider, _: ProviderInventory) -> Source:
        found.append(one)
        return Source()

    supervisor = Supervisor(_nothing, _nothing)
    async with _serving(api, tmp_path) as kubeconfig, Cluster.open(kubeconfig) as cluster:
        watch = ProviderWatch(
            cluster, ["openshift-mtv"], inventory, connect, 0.01, keep=supervisor.keep
        )
        async with _during(supervisor.keep("providers", watch.run)):
            await _becomes(lambda: found, "the Provider is connected to")
    assert api.spoilt
    assert [(one.user, one.password) for one in found] == [("user", "password")]


@pytest.mark.parametrize("garbage", _GARBAGE.values(), ids=_GARBAGE)
async def test_a_garbled_answer_to_who_keeps_the_certificate_is_one_that_has_not_come(
    tmp_path: Path, garbage: bytes
) -> None:
    api = ApiServer(lambda _: True, garbage)
    store = CertificateStore("here", "own", validating="v", mutating="m")
    async with _serving(api, tmp_path) as kubeconfig, Cluster.open(kubeconfig) as store.cluster:
        with suppress(ClusterUnreachable):
            await store.read()
        with suppress(ClusterUnreachable):
            await store.hooks()
        assert len(api.spoilt) == 3
        assert await store.read() == {"user": b"user", "password": b"password"}


class _Soon(incluster_config.InClusterConfigLoader):  # type: ignore[misc]
    """Reads the token anew for each request, as the real one does once a minute."""

    def _read_token_file(self) -> None:
        super()._read_token_file()
        self.token_expires_at -= self._token_refresh_period


async def test_a_token_that_can_not_be_read_for_a_while_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tls.write(tls.issue(["127.0.0.1"], datetime.now(UTC)), tmp_path)
    token, elsewhere = tmp_path / "token", tmp_path / "elsewhere"
    token.write_text("t")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(incluster_config, "InClusterConfigLoader", _Soon)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    api, inventory, supervisor = ApiServer(), Inventory(), Supervisor(_nothing, _nothing)
    async with await asyncio.start_server(api.serve, "127.0.0.1", 0, ssl=context) as server:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.sockets[0].getsockname()[1]))
        following = Following(Settings(), inventory, supervisor, lambda *_: Source(), _nothing)
        async with _during(supervisor.keep("cluster", following.run)):
            await _everything(following, inventory)
            token.rename(elsewhere)
            api.name = "later"
            api.cut.set()
            await _becomes(lambda: "FileNotFoundError" in caplog.text, "it has failed")
            elsewhere.rename(token)
            await _everything(following, inventory, "later")


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b"[]", b"\xff\xfe", b"users: 1", b"users: [{name: x, user: {token: [SECRET]"],
    ids=["missing", "empty", "torn", "list", "bytes", "wrong", "secret"],
)
async def test_a_kubeconfig_that_is_none_is_told(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ClusterUnreachable, match=f"kubeconfig {file}: ") as raised:
        async with Cluster.open(file):
            pass
    assert "SECRET" not in str(raised.value)
    assert "\n" not in str(raised.value)
