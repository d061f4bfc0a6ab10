"""Forklift's Providers, found and followed: each with its Secret, and with a source of its own."""

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Collection, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from webhook.cluster.client import Cluster, decoded
from webhook.cluster.errors import ClusterMissing
from webhook.cluster.paths import FORKLIFT, ApiPath
from webhook.cluster.reflector import Reflector
from webhook.errors import ClusterUnreachable, GuardError, NameInvalid
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.logs import Repeated, log_line
from webhook.model.objects import Provider

_log = logging.getLogger("webhook.cluster")

SECRET_SECONDS = 30.0
"""How often a Secret is read again: the guard may only `get` it, so it can't be watched."""


Run = Callable[[], Coroutine[Any, Any, None]]
Keep = Callable[[str, Run], Coroutine[Any, Any, None]]
"""Runs a part of this, by its name, until cancelled: anew whenever it ends."""


async def _once(_: str, run: Run) -> None:
    await run()


class FoundProvider(msgspec.Struct, frozen=True):
    """How a Provider of type vsphere is to be reached (Forklift: provider.go, and its Secret)."""

    url: str
    user: str
    password: str
    ca: str = ""
    """PEM: the Secret's ca.crt, else its deprecated cacert."""
    insecure: bool = False

    def __repr__(self) -> str:
        return f"FoundProvider({self.url})"  # nothing of the Secret


class Source(Protocol):
    """What reads one vSphere; plugged in by webhook.runtime."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class _SecretReference(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""


class ProviderSpec(msgspec.Struct, frozen=True):
    """What is read of a Provider's spec."""

    type: str = ""
    url: str = ""
    secret: _SecretReference = msgspec.field(default_factory=_SecretReference)


class _Metadata(msgspec.Struct):
    name: str
    namespace: str = ""


class _Provider(msgspec.Struct):
    metadata: _Metadata
    spec: ProviderSpec = msgspec.field(default_factory=ProviderSpec)


class _Secret(msgspec.Struct):
    data: dict[str, str] | None = None


_provider = msgspec.json.Decoder(_Provider)
_secret = msgspec.json.Decoder(_Secret)


class ProviderWatch:
    """Puts every Provider of `namespaces` into `inventory`, and gives each vSphere one a source.

    Providers that `inventory` has already (from the settings) stay as they are. What a Secret says
    is asked every `secret_seconds`.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespaces: Collection[str],
        inventory: Inventory,
        connect: Callable[[FoundProvider, ProviderInventory], Source],
        secret_seconds: float = SECRET_SECONDS,
        keep: Keep = _once,
    ) -> None:
        self._cluster = cluster
        self._keep = keep
        self._inventory = inventory
        self._connect = connect
        self._secret_seconds = secret_seconds
        self._settled = {source.name for source in inventory}
        self._followers: dict[str, tuple[ProviderSpec, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._reflectors = {
            namespace: Reflector(
                cluster,
                _path(namespace),
                _decode,
                _Share(self, namespace),
            )
            for namespace in namespaces
        }
        for namespace, reflector in self._reflectors.items():
            inventory.unlisted[namespace] = reflector

    async def ask(self) -> None:
        """For who can't wait for better days: raises ClusterUnreachable where `run` would wait."""
        for namespace in self._reflectors:
            await self._cluster.get(_path(namespace), limit="1")

    async def run(self) -> None:
        """Until cancelled; every source is stopped before it returns."""
        try:
            async with asyncio.TaskGroup() as group:
                for namespace, reflector in self._reflectors.items():
                    group.create_task(self._keep("providers", reflector.run))
                    group.create_task(self._listed(namespace, reflector))
        finally:
            for key in list(self._followers):
                self._forget(key)
            await asyncio.gather(*self._ending, return_exceptions=True)

    async def _listed(self, namespace: str, reflector: Reflector[_Provider]) -> None:
        await reflector.synced.wait()
        self._inventory.unlisted.pop(namespace, None)

    def keys(self, namespace: str) -> set[str]:
        """The followed ones of `namespace`, each as `namespace/name`."""
        return {key for key in self._followers if key.startswith(f"{namespace}/")}

    def put(self, key: str, found: _Provider) -> None:
        """A Provider is there, or has changed. That Forklift wrote its status is no change."""
        if key in self._settled:
            return
        if key in self._followers and self._followers[key][0] == found.spec:
            return
        how = "has changed" if self._forget(key) else "is there"
        namespace, _, name = key.partition("/")
        spec, what = found.spec, f"provider {key} {how}"
        inventory = ProviderInventory(Provider(namespace, name, spec.type))
        if secret := spec.secret.name:
            inventory.secret = f"Secret {spec.secret.namespace or namespace}/{secret}"
        log_line(_log, what, type=spec.type, url=spec.url, secret=inventory.secret)
        inventory.remote = spec.type == "openshift" and bool(spec.url)
        self._inventory.put(inventory)
        follow = partial(self._follow, spec, inventory)
        follower = asyncio.create_task(self._keep("provider", follow), name=f"provider {key}")
        self._followers[key] = spec, follower

    def drop(self, key: str) -> None:
        """A Provider is gone: so is what was known of it."""
        if self._forget(key):
            _log.info("provider %s is deleted", key)

    def _forget(self, key: str) -> bool:
        """Whether it was followed until now."""
        if key not in self._followers:
            return False
        _, follower = self._followers.pop(key)
        follower.cancel()
        self._ending.add(follower)
        follower.add_done_callback(self._ending.discard)
        namespace, _, name = key.partition("/")
        self._inventory.drop(namespace, name)
        return True

    async def _follow(self, spec: ProviderSpec, inventory: ProviderInventory) -> None:
        """Keep a source as the Provider and its Secret say, until cancelled."""
        if spec.type != "vsphere":  # known by its type, which is all that a rule asks
            await asyncio.Event().wait()
        trouble = Repeated()
        known: FoundProvider | None = None
        source: Source | None = None
        try:
            while True:
                try:
                    now = await reach(self._cluster, inventory.provider.namespace, spec)
                    if now != known:
                        if source is not None:
                            await asyncio.to_thread(source.stop)
                            source = known = None
                        # It may read a large file of what an earlier run knew.
                        source = await asyncio.to_thread(self._connect, now, inventory)
                        source.start()
                        known = now
                except Exception as error:  # noqa: BLE001  whatever it is, the next look may be better
                    why = str(error) if isinstance(error, GuardError) else type(error).__name__
                    # What is known of the Secret stays good while the API server is away.
                    if known is None:
                        inventory.lost(why, datetime.now(UTC))
                        if trouble.due(why):
                            _log.warning("%s; %s", inventory.trouble, inventory.secret)
                await asyncio.sleep(self._secret_seconds)
        finally:
            if source is not None:
                await asyncio.to_thread(source.stop)


class _Share:
    """One namespace's share of the watch, as a reflector's store. Its age doesn't matter: what
    counts is each Provider's own."""

    def __init__(self, watch: ProviderWatch, namespace: str) -> None:
        self._watch, self._namespace = watch, namespace

    def put(self, key: str, value: _Provider) -> None:
        self._watch.put(key, value)

    def drop(self, key: str) -> None:
        self._watch.drop(key)

    def keys(self) -> set[str]:
        return self._watch.keys(self._namespace)

    def heard(self, at: float) -> None:
        pass


async def reach(cluster: Cluster, namespace: str, spec: ProviderSpec) -> FoundProvider:
    """The Provider with its Secret. Raises ClusterUnreachable: what is wrong with either."""
    if not _is_vsphere(spec.url):
        raise ClusterUnreachable("its spec.url is not https://<host>/sdk")
    # Another namespace's Secret would let whoever makes a Provider send its password anywhere.
    if spec.secret.namespace not in ("", namespace):
        raise ClusterUnreachable("its Secret is in another namespace, and is not read")
    try:
        path = ApiPath("v1", "secrets", namespace=namespace, name=spec.secret.name)
        data = decoded(_secret, await cluster.get(path)).data or {}
    except NameInvalid as error:
        raise NameInvalid(f"its spec.secret.name: {error}") from None
    except ClusterMissing:
        raise ClusterUnreachable(f"its Secret {spec.secret.name} does not exist") from None
    values = {key: _text(value) for key, value in data.items()}
    if missing := [key for key in ("user", "password") if not values.get(key)]:
        raise ClusterUnreachable(f"its Secret has no {' and no '.join(missing)}")
    return FoundProvider(
        url=spec.url,
        user=values["user"],
        password=values["password"],
        ca=values.get("ca.crt") or values.get("cacert") or "",
        insecure=values.get("insecureSkipVerify", "").lower() == "true",
    )


def _is_vsphere(url: str) -> bool:
    try:
        address = urlsplit(url)
    except ValueError:
        return False
    return address.scheme == "https" and address.path.rstrip("/") == "/sdk" and not address.username


async def found_in(cluster: Cluster, namespace: str = "") -> dict[Provider, ProviderSpec]:
    """The Providers of a namespace, or of all. Raises ClusterUnreachable."""
    found = {}
    async for page in cluster.pages(_path(namespace or None)):
        for raw in page.items:
            one = decoded(_provider, raw)
            metadata, spec = one.metadata, one.spec
            found[Provider(metadata.namespace, metadata.name, spec.type)] = spec
    return found


def _path(namespace: str | None) -> ApiPath:
    return ApiPath(FORKLIFT, "providers", namespace=namespace)


def _decode(raw: Any) -> tuple[str, _Provider]:
    found = decoded(_provider, raw)
    return f"{found.metadata.namespace}/{found.metadata.name}", found


def _text(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
