"""What the API server itself refuses of an object, before it asks a webhook."""

from collections.abc import Iterator
from typing import Any

import msgspec

from webhook import quantity
from webhook.model.keys import STORAGE_FIELD, echoed, quoted
from webhook.model.objects import KubeObject, Metadata, Pvc
from webhook.model.review import Cause, Reason

_OBJECT: tuple[Reason, str] = "FieldValueInvalid", "object"


def malformed(obj: Any) -> Iterator[Cause]:
    """Of an object of any kind."""
    if not isinstance(obj, dict):
        yield Cause("", "is not an object: write one with apiVersion and kind", *_OBJECT)
        return
    for field in ("apiVersion", "kind"):
        if not isinstance(obj.get(field), str) or not obj[field]:
            yield Cause(field, "is missing, or is not a string", "FieldValueRequired", "object")
    metadata = obj.get("metadata")
    for part in ("labels", "annotations"):
        pairs = metadata.get(part) if isinstance(metadata, dict) else None
        for key, value in pairs.items() if isinstance(pairs, dict) else ():
            if not isinstance(value, str | None):
                there = msgspec.json.encode(value).decode() if _plain(value) else "not a string"
                message = f"is {there}, which the API server refuses: write it in quotes"
                yield Cause(f"metadata.{part}[{key}]", message, *_OBJECT)


def not_storage(obj: KubeObject) -> Iterator[Cause]:
    """Of a PVC: a request that is no size."""
    storage = Pvc.of(obj).storage
    size = quantity.parse(storage) if storage is not None else None
    if storage is not None and (size is None or size <= 0):
        right = quantity.near(storage)
        fix = " or ".join(map(quoted, right)) or 'one such as "10Gi"'
        message = f"{echoed(storage)} is not a size, and the API server refuses it: write {fix}"
        yield Cause(STORAGE_FIELD, message, *_OBJECT)


def narrow(obj: Any, namespace: str) -> KubeObject:
    """What a review keeps of `obj`. Raises msgspec.ValidationError where its shape is another."""
    kept = msgspec.convert(obj, KubeObject)
    metadata = kept.setdefault("metadata", Metadata())
    if namespace and not metadata.get("namespace"):
        metadata["namespace"] = namespace
    return kept


def fault(error: msgspec.ValidationError) -> Cause:
    """Of an object that `narrow` can't read: where, and why."""
    what, _, where = str(error).partition(" - at `")
    field = where.rstrip("`").removeprefix("$").lstrip(".")
    return Cause(field, f"the API server refuses it: {what[:1].lower()}{what[1:]}", *_OBJECT)


def _plain(value: object) -> bool:
    return isinstance(value, bool | int | float)
