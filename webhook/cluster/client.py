"""Requests to the API server: the kubernetes package's configuration and transport, raw answers."""

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

import aiohttp
import msgspec
from kubernetes.aio import client, config

from webhook.cluster.errors import ClusterBusy, ClusterSilent, check, unreachable
from webhook.cluster.paths import ApiPath
from webhook.errors import ClusterUnreachable, GuardError
from webhook.model import calls

SILENCE = 10.0
"""Seconds without a byte after which a peer is dead."""
_WHOLE = "application/json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_PIECE = 2**16
_PAGE = 500  # objects
_LOOKS, _LOOK = 50, 0.01  # times, and seconds between two
_BUSY_PAUSES = 0.2, 0.5, 1.0  # seconds; who asks has a deadline of its own


class Tried(NamedTuple):
    """What became of a dry run."""

    status: int
    message: str
    """Of a refusal; else empty."""
    warnings: tuple[str, ...]


class _Status(msgspec.Struct):
    message: str = ""


class _Request(NamedTuple):
    method: str
    path: str
    query: Mapping[str, str] = {}
    body: Mapping[str, Any] | None = None
    content_type: str = "application/json"
    silence: float | None = None
    """Seconds that this one may be left without an answer, where it isn't the cluster's."""
    accept: str = _WHOLE


class Page(NamedTuple):
    """Some of the objects that are listed."""

    items: list[msgspec.Raw]
    version: str


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] = []


_status = msgspec.json.Decoder(_Status)
_list = msgspec.json.Decoder(_List)
_UNREADABLE = msgspec.DecodeError, UnicodeDecodeError, RecursionError

T = TypeVar("T")


def decoded(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw) -> T:
    """What an answer says. Raises ClusterUnreachable where it isn't of that shape."""
    try:
        return decoder.decode(raw)
    except _UNREADABLE as error:
        why = str(error) if isinstance(error, msgspec.DecodeError) else type(error).__name__
        raise ClusterUnreachable(f"the API server's answer can't be read: {why}") from None


class Cluster:
    """An API server and the right to ask it. Use `open`."""

    def __init__(self, api: Any, silence: float) -> None:
        self._api = api
        self.silence = silence
        """Seconds that the API server may leave anything without an answer."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, kubeconfig: Path | None, context: str | None = None, silence: float = SILENCE
    ) -> AsyncIterator["Cluster"]:
        """By a kubeconfig file (or several, as in KUBECONFIG) and a context in it, or by the pod's
        own service account. Raises ClusterUnreachable."""
        configuration = client.Configuration()
        try:
            if kubeconfig is None:
                config.load_incluster_config(client_configuration=configuration)
            elif not any(map(os.path.exists, str(kubeconfig).split(os.pathsep))):
                raise ClusterUnreachable(f"kubeconfig {kubeconfig}: there is no such file")
            else:
                await config.load_kube_config(
                    config_file=str(kubeconfig),
                    context=context,
                    client_configuration=configuration,
                )
            api = client.ApiClient(configuration)
        except GuardError:
            raise
        except Exception as error:  # noqa: BLE001  ssl's, yaml's, whatever the package stumbles over
            why = "it is not a kubeconfig: give the file that kubectl uses"
            if isinstance(error, config.ConfigException | OSError):
                why = str(error).partition("\n")[0]
            raise ClusterUnreachable(f"kubeconfig {kubeconfig or 'of the pod'}: {why}") from None
        sockets = WeakSet[socket.socket]()

        def made(address: Any) -> socket.socket:
            sockets.add(one := socket.socket(*address[:3]))
            return one

        connector = aiohttp.TCPConnector(ssl=api.rest_client.ssl_context, socket_factory=made)
        configuration.client_session_kwargs = {"connector": connector}
        try:
            async with connector, api:
                yield cls(api, silence)
        finally:
            await _ended(sockets)

    @property
    def server(self) -> str:
        """Its address, without what may be a password in it: for who looks after the guard."""
        return re.sub("//[^/@]*@", "//", self._api.configuration.host)

    async def get(self, path: ApiPath, **query: str) -> bytes:
        """The answer to one GET. Raises ClusterUnreachable, ClusterGone or ClusterMissing."""
        return await self._patiently(_Request("GET", path.text, query))

    async def metadata(self, path: ApiPath) -> bytes:
        """Nothing but the metadata of the object there. Raises as `get` does."""
        return await self._patiently(_Request("GET", path.text, accept=_METADATA_ONLY))

    async def _patiently(self, request: _Request) -> bytes:
        for pause in _BUSY_PAUSES:
            try:
                return await self._whole(request)
            except ClusterBusy:
                await asyncio.sleep(pause)
        return await self._whole(request)

    async def version(self) -> bytes:
        """What the API server says of itself, as JSON. Raises as `get` does."""
        return await self._whole(_Request("GET", "/version"))

    async def schemas(self, api: str) -> bytes:
        """The OpenAPI of one of its groups and versions, as JSON. Raises as `get` does."""
        return await self._whole(_Request("GET", f"/openapi/v3/apis/{api}"))

    async def pages(self, path: ApiPath, **query: str) -> AsyncIterator[Page]:
        """What `path` lists, some hundred objects at a time. Raises as `get` does.

        The last page's version is the one to watch from.
        """
        query["limit"] = str(_PAGE)
        while True:
            listed = decoded(_list, await self.get(path, **query))
            yield Page(listed.items, listed.metadata.resource_version)
            if not listed.metadata.continue_:
                return
            query["continue"] = listed.metadata.continue_

    async def post(self, path: ApiPath, body: Mapping[str, Any]) -> bytes:
        """The answer to one POST of JSON. Raises as `get` does."""
        return await self._whole(_Request("POST", path.text, body=body))

    async def dry_run(self, path: ApiPath, body: Mapping[str, Any]) -> Tried:
        """The answer to one POST that creates nothing, whatever it is. Raises ClusterUnreachable
        where there is none."""
        request = _Request("POST", path.text, {"dryRun": "All"}, body)
        async with self._answered(request) as response:
            raw = await _joined(response)
            warnings = tuple(response.headers.getall("Warning", ()))
            message = calls.hidden(decoded(_status, raw).message)
            return Tried(response.status, message, warnings)

    async def put(self, path: ApiPath, body: Mapping[str, Any]) -> bytes:
        """The answer to one PUT of JSON. Raises as `get` does, and ClusterConflict."""
        return await self._whole(_Request("PUT", path.text, body=body))

    async def delete(self, path: ApiPath) -> None:
        """Delete what is there. Raises as `get` does."""
        await self._whole(_Request("DELETE", path.text))

    async def apply(self, path: ApiPath, body: Mapping[str, Any], manager: str) -> bytes:
        """The answer to one server-side apply: what `manager` applies is `manager`'s. Raises as
        `get` does."""
        query, kind = {"fieldManager": manager, "force": "true"}, "application/apply-patch+yaml"
        return await self._whole(_Request("PATCH", path.text, query, body, kind))

    @asynccontextmanager
    async def stream(
        self, path: ApiPath, silence: float, **query: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The answer to one GET, piece by piece; `silence`: seconds without a byte. Raises as `get`
        does."""
        request = _Request("GET", path.text, query, silence=silence)
        async with self._answered(request) as response:
            check(response.status, request.method, request.path)
            yield _pieces(response)

    async def _whole(self, request: _Request) -> bytes:
        """The answer, if it is a good one."""
        async with self._answered(request) as response:
            check(response.status, request.method, request.path)
            return await _joined(response)

    @asynccontextmanager
    async def _answered(self, request: _Request) -> AsyncIterator[Any]:
        """aiohttp's response, whatever it is."""
        headers = {"Accept": request.accept}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        patience = aiohttp.ClientTimeout(
            total=None, sock_connect=self.silence, sock_read=request.silence or self.silence
        )
        try:
            call = await self._api.param_serialize(
                method=request.method,
                resource_path=request.path,
                query_params=list(request.query.items()),
                header_params=headers,
                body=request.body,
                auth_settings=["BearerToken"],
            )
        except Exception as error:  # noqa: BLE001  it reads the account's token, in one of many ways
            why = f"the account's token can't be read: {type(error).__name__}"
            raise ClusterUnreachable(why) from None
        try:
            answer = await self._api.call_api(*call, _request_timeout=patience)
        except TimeoutError:
            raise ClusterSilent("the API server did not answer in time") from None
        except Exception as error:  # noqa: BLE001  aiohttp's, ssl's and the kubernetes package's own
            raise unreachable(error) from None
        response = answer.response
        try:
            yield response
        finally:
            if response.connection is not None and response.connection.transport is not None:
                response.connection.transport.abort()  # unread: nothing to wait for
            response.close()


async def _ended(sockets: Collection[socket.socket]) -> None:
    """Return with them closed. One that was given up while it was asked ends its TLS by itself,
    which takes an answer of the peer's; a loop that ends before would leave it open."""
    for one in sockets:
        with suppress(OSError):  # it is closed, or never was connected
            one.shutdown(socket.SHUT_RDWR)
    for _ in range(_LOOKS):
        if all(one.fileno() < 0 for one in sockets):
            return
        await asyncio.sleep(_LOOK)


async def _pieces(response: Any) -> AsyncIterator[bytes]:
    try:
        async for piece in response.content.iter_chunked(_PIECE):
            yield piece
    except TimeoutError:
        raise ClusterSilent("the API server stopped answering") from None
    except Exception as error:  # noqa: BLE001  see above
        raise unreachable(error) from None


async def _joined(response: Any) -> bytes:
    return b"".join([piece async for piece in _pieces(response)])
