"""The Secret of the guard's own CA, and what is kept right in its two webhook configurations.

Asks for no more than `get`, `create` and `update` of the one Secret, and `get` and `patch` of the
two configurations: what the manifest has made stays its own, but for caBundle and the path.
"""

import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from webhook.cluster.client import Cluster, decoded
from webhook.cluster.errors import ClusterConflict, ClusterMissing
from webhook.cluster.paths import ApiPath
from webhook.errors import ClusterUnreachable
from webhook.model import calls
from webhook.model.calls import Hook, Webhook

_log = logging.getLogger("webhook.cluster")

_MANAGER = "conversion-guard"
_GROUP = "admissionregistration.k8s.io/v1"


class _Service(msgspec.Struct):
    path: str = ""


class _ClientConfig(msgspec.Struct, rename={"ca_bundle": "caBundle"}):
    ca_bundle: str = ""
    service: _Service | None = None
    url: str = ""

    def hook(self, webhook: Webhook) -> Hook:
        """As the guard knows it."""
        path = self.service.path if self.service else urlsplit(self.url).path
        led, end = calls.split(path) or (None, "")
        ours = led == webhook and (not end or calls.made(end))
        return Hook(base64.b64decode(self.ca_bundle), end if ours else None)

    def applied(self, webhook: Webhook, wanted: Hook) -> dict[str, Any]:
        """What makes it the one that is wanted, and says nothing of anything else."""
        path = calls.path(webhook, wanted.end or "")
        made: dict[str, Any] = {"caBundle": base64.b64encode(wanted.bundle).decode()}
        if self.service:
            return made | {"service": {"path": path}}
        return made | {"url": urlsplit(self.url)._replace(path=path).geturl()}


class _Webhook(msgspec.Struct, rename="camel"):
    name: str
    client_config: _ClientConfig


class _Configuration(msgspec.Struct):
    webhooks: list[_Webhook] = []


_configuration = msgspec.json.Decoder(_Configuration)


class _Configured(NamedTuple):
    """A configuration of the guard's."""

    kind: str
    name: str
    path: ApiPath
    webhook: Webhook


class CertificateStore:
    """What webhook.tls keeps its CA and its path in, and who must trust the one and call the other.
    Set `cluster` before each use.

    Raises ClusterUnreachable.
    """

    cluster: Cluster

    def __init__(self, namespace: str, secret: str, *, validating: str, mutating: str) -> None:
        self._secrets = ApiPath("v1", "secrets", namespace=namespace)
        self._path = ApiPath("v1", "secrets", namespace=namespace, name=secret)
        self._secret = secret
        self._read: dict[str, Any] | None = None
        webhooks: tuple[tuple[str, str, Webhook], ...] = (
            ("Validating", validating, "validate"),
            ("Mutating", mutating, "mutate"),
        )
        self._configurations = [
            _Configured(
                f"{how}WebhookConfiguration",
                name,
                ApiPath(_GROUP, f"{how.lower()}webhookconfigurations", name=name),
                webhook,
            )
            for how, name, webhook in webhooks
        ]
        self._missing: set[str] = set()
        self._found: dict[_Configured, _Configuration] = {}

    async def read(self) -> Mapping[str, bytes] | None:
        """The Secret's data; None where there is no Secret."""
        try:
            raw = await self.cluster.get(self._path)
        except ClusterMissing:
            self._read = None
            return None
        try:
            found = msgspec.json.decode(raw, type=dict[str, Any])
            data = msgspec.convert(found.get("data") or {}, dict[str, str])
            content = {key: base64.b64decode(value) for key, value in data.items()}
        except (ValueError, RecursionError):  # msgspec's and base64's own are ValueErrors
            raise ClusterUnreachable(f"the Secret {self._secret} can't be read") from None
        self._read = found
        return content

    async def write(self, data: Mapping[str, bytes]) -> None:
        """Replace what was read last, unless somebody else was quicker: read again to know."""
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        try:
            if self._read is None:
                await self.cluster.post(self._secrets, self._new(encoded))
            else:
                # Whole, with its resourceVersion: labels that others have put there stay.
                await self.cluster.put(self._path, self._read | {"data": encoded})
        except ClusterConflict:
            return

    async def hooks(self) -> Sequence[Hook]:
        """Each webhook; none where nothing calls the guard."""
        self._found = {}
        failures = []
        for one in self._configurations:
            try:
                found = decoded(_configuration, await self.cluster.get(one.path))
            except ClusterMissing:
                if one.kind not in self._missing:
                    _log.warning(
                        "there is no %s %s: the API server does not call the guard",
                        one.kind,
                        one.name,
                    )
                self._missing.add(one.kind)
                continue
            except ClusterUnreachable as error:
                failures.append(str(error))
                continue
            self._missing.discard(one.kind)
            self._found[one] = found
        if failures:
            raise ClusterUnreachable("; ".join(failures))
        return [
            entry.client_config.hook(one.webhook)
            for one, found in self._found.items()
            for entry in found.webhooks
        ]

    async def mend(self, wanted: Callable[[Hook], Hook]) -> None:
        """Make each webhook that `hooks` has found what is `wanted` in its place."""
        failures = []
        for one, found in self._found.items():
            there = [entry.client_config.hook(one.webhook) for entry in found.webhooks]
            hooks = [wanted(hook) for hook in there]
            if hooks == there:
                continue
            # All of them: by applying one, the manager would give up what is the others'.
            applied = {
                "apiVersion": _GROUP,
                "kind": one.kind,
                "metadata": {"name": one.name},
                "webhooks": [
                    {
                        "name": entry.name,
                        "clientConfig": entry.client_config.applied(one.webhook, hook),
                    }
                    for entry, hook in zip(found.webhooks, hooks, strict=True)
                ],
            }
            try:
                await self.cluster.apply(one.path, applied, _MANAGER)
            except ClusterUnreachable as error:
                failures.append(str(error))
            else:
                # Which path it is, nobody may read in a log.
                _log.info("%s %s: caBundle and path have been written", one.kind, one.name)
        if failures:
            raise ClusterUnreachable("; ".join(failures))

    def _new(self, data: dict[str, str]) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self._secret,
                "labels": {"app.kubernetes.io/managed-by": _MANAGER},
            },
            "type": "kubernetes.io/tls",
            "data": data,
        }
