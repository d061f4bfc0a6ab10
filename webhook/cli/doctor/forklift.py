"""Forklift: its CRDs with every field that the guard reads, its release, and its Plans."""

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import suppress
from typing import Any

from webhook.cli.doctor.finding import Observation
from webhook.cluster import ApiPath, Cluster, release_of
from webhook.errors import ObjectMalformed
from webhook.model.forklift import Plan
from webhook.model.keys import CONVERSION_FIELDS
from webhook.model.objects import KubeObject

Get = Callable[[ApiPath], Awaitable[dict[str, Any] | None]]

_CRDS = "apiextensions.k8s.io/v1", "customresourcedefinitions"
_VERSION = "v1beta1"
_FIELDS = {
    "plans": (
        "spec.type", "spec.targetNamespace", "spec.provider.source", "spec.provider.destination",
        "spec.vms.id", "spec.vms.name", "spec.map.network", "status.conditions",
    ),
    "migrations": ("spec.plan", "status.completed"),
    "providers": ("spec.type", "spec.url", "spec.secret"),
    "conversions": tuple(sorted(CONVERSION_FIELDS)),
}  # fmt: skip
"""What the guard reads of Forklift's objects."""
_LATER = frozenset({"conversions"})  # an older Forklift has none
_KEEP = "write spec.deleteVmOnFailMigration: false into each conversion Plan, or upgrade Forklift"


async def looked(get: Get) -> AsyncIterator[Observation]:
    """A finding for each CRD, by `get`: None where there is none."""
    for plural, fields in _FIELDS.items():
        name = f"{plural}.forklift.konveyor.io"
        found = await get(ApiPath(*_CRDS, name=name))
        if found is None:
            state: Any = "note" if plural in _LATER else "wrong"
            fix = "" if plural in _LATER else "install Forklift, or a later version of it"
            yield Observation("forklift", state, f"there is no CRD {name}", fix)
            continue
        schemas = {
            version["name"]: at(version, "schema", "openAPIV3Schema") or {}
            for version in at(found, "spec", "versions") or ()
            if version.get("served")
        }
        schema = schemas.get(_VERSION)
        if schema is None:
            what = f"CRD {name} serves {', '.join(schemas) or 'nothing'}, not {_VERSION}"
            yield Observation("forklift", "wrong", what, "install a Forklift that does")
            continue
        lacks = [field for field in fields if not _has(schema, field.split("."))]
        types = at(schema, "properties", "spec", "properties", "type", "enum")
        if plural == "plans" and types is not None and "conversion" not in types:
            lacks.append("spec.type: conversion")
        if lacks:
            what = f"CRD {name} has no {', '.join(lacks)}"
            fix = "install a Forklift that knows conversion migrations"
            yield Observation("forklift", "wrong", what, fix)
        else:
            yield Observation("forklift", "good", f"CRD {name} has every field that is read")


async def release(cluster: Cluster, namespaces: Collection[str]) -> AsyncIterator[Observation]:
    """One finding: what becomes of vendors' PVCs. Raises ClusterUnreachable."""
    found = await release_of(cluster, namespaces)
    which = f"Forklift {found.version}".strip()
    if found.pvcs == "kept":
        yield Observation("forklift", "good", f"{which} keeps the PVCs of vendors")
        return
    may = "may delete" if found.pvcs == "unknown" else "deletes"
    what = f"{which} {may} the PVCs of vendors at the start of a Plan with true"
    yield Observation("forklift", "note", f"{what} for spec.deleteVmOnFailMigration", _KEEP)


def conversions(plans: Iterable[KubeObject]) -> Iterator[Plan]:
    """The conversion Plans among them; what can't be read is none."""
    for obj in plans:
        with suppress(ObjectMalformed):
            plan = Plan.of(obj)
            if plan.judged:
                yield plan


def _has(schema: Mapping[str, Any], path: Collection[str]) -> bool:
    """Whether the API server keeps that field: an array's items count as the array."""
    for part in path:
        while "items" in schema:
            schema = schema["items"]
        known = schema.get("properties") or {}
        if part not in known:
            return bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        schema = known[part]
    return True


def at(obj: Any, *path: str) -> Any:
    """What is there; None where nothing is."""
    for part in path:
        obj = obj.get(part) if isinstance(obj, dict) else None
    return obj
