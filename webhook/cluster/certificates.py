"""The Secret of the guard's own CA, and the caBundles of its two webhook configurations.

Asks for no more than `get`, `create` and `update` of the one Secret, and `get` and `patch` of the
two configurations: what the manifest has made stays its own, but for caBundle.
"""

import base64
import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from webhook.cluster.client import Cluster, ClusterConflict, ClusterMissing
from webhook.errors import ClusterUnreachable

_log = logging.getLogger("webhook.cluster")

_MANAGER = "conversion-guard"
_GROUP = "admissionregistration.k8s.io/v1"


class _ClientConfig(msgspec.Struct, rename={"ca_bundle": "caBundle"}):
    ca_bundle: str = ""


class _Webhook(msgspec.Struct, rename="camel"):
    name: str
    client_config: _ClientConfig


class _Configuration(msgspec.Struct):
    webhooks: list[_Webhook] = []


_configuration = msgspec.json.Decoder(_Configuration)


class CertificateStore:
    """What webhook.tls keeps its CA in, and who must trust it. Set `cluster` before each use.

    Raises ClusterUnreachable.
    """

    cluster: Cluster

    def __init__(self, namespace: str, secret: str, *, validating: str, mutating: str) -> None:
        self._secrets = f"/api/v1/namespaces/{namespace}/secrets"
        self._secret = secret
        self._read: dict[str, Any] | None = None
        self._configurations = {
            ("ValidatingWebhookConfiguration", validating): "validatingwebhookconfigurations",
            ("MutatingWebhookConfiguration", mutating): "mutatingwebhookconfigurations",
        }
        self._missing: set[str] = set()

    async def read(self) -> Mapping[str, bytes] | None:
        """The Secret's data; None where there is no Secret."""
        try:
            raw = await self.cluster.get(f"{self._secrets}/{self._secret}")
        except ClusterMissing:
            self._read = None
            return None
        self._read = msgspec.json.decode(raw, type=dict[str, Any])
        data = self._read.get("data") or {}
        return {key: base64.b64decode(value) for key, value in data.items()}

    async def write(self, data: Mapping[str, bytes]) -> None:
        """Replace what was read last, unless somebody else was quicker: read again to know."""
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        try:
            if self._read is None:
                await self.cluster.post(self._secrets, self._new(encoded))
            else:
                # Whole, with its resourceVersion: labels that others have put there stay.
                path = f"{self._secrets}/{self._secret}"
                await self.cluster.put(path, self._read | {"data": encoded})
        except ClusterConflict:
            return

    async def trust(self, bundle: bytes) -> bool:
        """Give every webhook this caBundle; False if one had another, so that it was written."""
        encoded = base64.b64encode(bundle).decode()
        as_wanted, failures = True, []
        for (kind, name), plural in self._configurations.items():
            try:
                as_wanted &= await self._trusts(kind, name, plural, encoded)
            except ClusterUnreachable as error:
                failures.append(str(error))
        if failures:
            raise ClusterUnreachable("; ".join(failures))
        return as_wanted

    async def _trusts(self, kind: str, name: str, plural: str, encoded: str) -> bool:
        path = f"/apis/{_GROUP}/{plural}/{name}"
        try:
            found = _configuration.decode(await self.cluster.get(path))
        except ClusterMissing:
            if kind not in self._missing:
                _log.warning("there is no %s %s: nothing calls the guard by it", kind, name)
            self._missing.add(kind)
            return True
        self._missing.discard(kind)
        if all(webhook.client_config.ca_bundle == encoded for webhook in found.webhooks):
            return True
        # All of them: by applying one, the manager would give up the others' caBundle.
        applied = {
            "apiVersion": _GROUP,
            "kind": kind,
            "metadata": {"name": name},
            "webhooks": [
                {"name": webhook.name, "clientConfig": {"caBundle": encoded}}
                for webhook in found.webhooks
            ],
        }
        await self.cluster.apply(path, applied, _MANAGER)
        _log.info("%s %s: the caBundle has been written", kind, name)
        return False

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
