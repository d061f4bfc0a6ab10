"""Forklift's CRDs: are they there, with every field that the guard reads?"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any

from webhook.cli.doctor.finding import Observation
from webhook.cluster import ApiPath

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
    "conversions": ("spec.type", "spec.vm", "spec.disks"),
}  # fmt: skip
"""What the guard reads of Forklift's objects."""
_LATER = frozenset({"conversions"})  # an older Forklift has none


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
