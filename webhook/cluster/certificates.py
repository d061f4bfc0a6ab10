"""The Secret of the guard's own CA, and the caBundles of its two webhook configurations.

Asks for no more than `get`, `create` and `update` of the one Secret, and `get` and `patch` of the
two configurations: what the manifest has made stays its own, but for caBundle.
"""

import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from webhook.cluster.client import Cluster, ClusterConflict, ClusterMissing, decoded
from webhook.cluster.paths import ApiPath
from webhook.errors import ClusterUnreachable

_log = logging.getLogger("webhook.cluster")

_MANAGER = "conversion-guard"
_GROUP = "admissionregistration.k8s.io/v1"


class _ClientConfig(msgspec.Struct, rename={"ca_bundle": "caBundle"}):
    ca_bundle: str = ""


class _Webhook(msgspec.Struct, rename="camel"):
    name: str
    client_config: _ClientConfig

    @property
    def bundle(self) -> bytes:
        return base64.b64decode(self.client_config.ca_bundle)


class _Configuration(msgspec.Struct):
    webhooks: list[_Webhook] = []


_configuration = msgspec.json.Decoder(_Configuration)


class CertificateStore:
    """What webhook.tls keeps its CA in, and who must trust it. Set `cluster` before each use.

    Raises ClusterUnreachable.
    """

    cluster: Cluster

    def __init__(self, namespace: str, secret: str, *, validating: str, mutating: str) -> None:
        self._secrets = ApiPath("v1", "secrets", namespace=namespace)
        self._path = ApiPath("v1", "secrets", namespace=namespace, name=secret)
        self._secret = secret
        self._read: dict[str, Any] | None = None
        self._configurations = {
            ("ValidatingWebhookConfiguration", validating): "validatingwebhookconfigurations",
            ("MutatingWebhookConfiguration", mutating): "mutatingwebhookconfigurations",
        }
        self._missing: set[str] = set()
        self._found: dict[tuple[str, str, ApiPath], _Configuration] = {}

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

    async def bundles(self) -> Sequence[bytes]:
        """The caBundle of each webhook; none where nothing calls the guard."""
        self._found = {}
        failures = []
        for (kind, name), plural in self._configurations.items():
            path = ApiPath(_GROUP, plural, name=name)
            try:
                found = decoded(_configuration, await self.cluster.get(path))
            except ClusterMissing:
                if kind not in self._missing:
                    _log.warning(
                        "there is no %s %s: the API server does not call the guard", kind, name
                    )
                self._missing.add(kind)
                continue
            except ClusterUnreachable as error:
                failures.append(str(error))
                continue
            self._missing.discard(kind)
            self._found[kind, name, path] = found
        if failures:
            raise ClusterUnreachable("; ".join(failures))
        return [webhook.bundle for found in self._found.values() for webhook in found.webhooks]

    async def trust(self, wanted: Callable[[bytes], bytes]) -> None:
        """Give each webhook that `bundles` has found the caBundle that is `wanted` for its own."""
        failures = []
        for (kind, name, path), found in self._found.items():
            bundles = [wanted(webhook.bundle) for webhook in found.webhooks]
            if bundles == [webhook.bundle for webhook in found.webhooks]:
                continue
            # All of them: by applying one, the manager would give up the others' caBundle.
            applied = {
                "apiVersion": _GROUP,
                "kind": kind,
                "metadata": {"name": name},
                "webhooks": [
                    {
                        "name": webhook.name,
                        "clientConfig": {"caBundle": base64.b64encode(bundle).decode()},
                    }
                    for webhook, bundle in zip(found.webhooks, bundles, strict=True)
                ],
            }
            try:
                await self.cluster.apply(path, applied, _MANAGER)
            except ClusterUnreachable as error:
                failures.append(str(error))
            else:
                _log.info("%s %s: the caBundle has been written", kind, name)
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
