"""Which Forklift is in a cluster, as far as it matters: by its operator's release, its controller's
image, or else by what its API knows."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from typing import Any

import msgspec

from webhook.cluster.client import Cluster, decoded
from webhook.cluster.errors import ClusterForbidden, ClusterMissing
from webhook.cluster.paths import FORKLIFT, ApiPath
from webhook.errors import ClusterUnreachable
from webhook.inventory.cluster import Followed
from webhook.model.forklift import Release

_EVERY = 300.0  # seconds: an upgrade takes longer
_AGAIN = 2.0
_CONTROLLER = "forklift-controller"
_UNSEEN = ClusterForbidden, ClusterMissing


class _Meta(msgspec.Struct):
    name: str = ""


class _Named(msgspec.Struct):
    metadata: _Meta


class _Container(msgspec.Struct):
    image: str = ""


class _PodSpec(msgspec.Struct):
    containers: tuple[_Container, ...] = ()


class _Template(msgspec.Struct):
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)


class _DeploymentSpec(msgspec.Struct):
    template: _Template = msgspec.field(default_factory=_Template)


class _Deployment(msgspec.Struct):
    spec: _DeploymentSpec = msgspec.field(default_factory=_DeploymentSpec)


class _List(msgspec.Struct):
    items: tuple[_Named, ...] = ()


class _Components(msgspec.Struct):
    schemas: dict[str, Any] = {}


class _OpenApi(msgspec.Struct):
    components: _Components = msgspec.field(default_factory=_Components)


_list = msgspec.json.Decoder(_List)
_deployment = msgspec.json.Decoder(_Deployment)
_open_api = msgspec.json.Decoder(_OpenApi)


class ReleaseWatch:
    """Looks again now and then; `namespaces` are those where Forklift may be."""

    def __init__(self, cluster: Cluster, namespaces: Collection[str], followed: Followed) -> None:
        self._cluster, self._namespaces = cluster, namespaces
        self._followed = followed

    async def run(self) -> None:
        """Until cancelled. While the API server is away, what was known before still counts."""
        while True:
            pause = _EVERY
            try:
                self._followed.release = await release_of(self._cluster, self._namespaces)
            except ClusterUnreachable:  # what is followed tells of it
                pause = _AGAIN
            await asyncio.sleep(pause)


async def release_of(cluster: Cluster, namespaces: Collection[str]) -> Release:
    """The first answer, surest first. What is not there, or not for us to see, tells nothing.
    Raises ClusterUnreachable."""
    for namespace in sorted(namespaces):
        async for texts in _texts(cluster, namespace):
            if found := [one for text in texts if (one := Release.named(text))]:
                return min(found, key=lambda one: one.order)  # an upgrade may be under way
    with suppress(*_UNSEEN):
        return _by_schemas(decoded(_open_api, await cluster.schemas(FORKLIFT)).components.schemas)
    return Release()


async def _texts(cluster: Cluster, namespace: str) -> AsyncIterator[list[str]]:
    """What has its version in it."""
    with suppress(*_UNSEEN):
        path = ApiPath(
            "operators.coreos.com/v1alpha1", "clusterserviceversions", namespace=namespace
        )
        names = [found.metadata.name for found in decoded(_list, await cluster.get(path)).items]
        yield [name for name in names if name.startswith(("mtv-operator.", "forklift-operator."))]
    with suppress(*_UNSEEN):
        path = ApiPath("apps/v1", "deployments", namespace=namespace, name=_CONTROLLER)
        spec = decoded(_deployment, await cluster.get(path)).spec.template.spec
        images = (container.image.rpartition("/")[2] for container in spec.containers)
        yield [image.partition("@")[0].partition(":")[2] for image in images]


def _by_schemas(schemas: dict[str, Any]) -> Release:
    kinds = {key.rpartition(".")[2]: schema for key, schema in schemas.items()}
    if "Migration" not in kinds:
        return Release()
    if "Conversion" not in kinds:
        return Release("deleted")  # 2.11 or earlier
    # 2.12.0 has the same schemas as the later ones of 2.12, which keep the PVCs.
    return Release("kept" if _resumes(kinds["Migration"]) else "unknown")


def _resumes(migration: Any) -> bool:
    for part in ("properties", "spec", "properties"):
        migration = migration.get(part) if isinstance(migration, dict) else None
    return isinstance(migration, dict) and "resumeConversion" in migration
