"""Reads fields of any type: what has another one than the CRD says is named, never a traceback."""

from collections.abc import Mapping
from typing import Any

from webhook.errors import ObjectMalformed
from webhook.model.keys import echoed


def mapping(value: object, field: str | None = None) -> Mapping[str, Any]:
    """`value` if it is an object; else an empty one, or ObjectMalformed where `field` is given."""
    if isinstance(value, dict):
        return value
    if value is not None and field is not None:
        raise ObjectMalformed(field, f"must be an object, not {kind_of(value)}")
    return {}


def listed(spec: Mapping[str, Any], field: str) -> list[Any]:
    """The list in `spec` at the last part of `field`; empty for none. Raises ObjectMalformed."""
    value = spec.get(field.rpartition(".")[2])
    if value is not None and not isinstance(value, list):
        raise ObjectMalformed(field, f"must be a list, not {kind_of(value)}")
    return value or []


def text(value: object, field: str) -> str | None:
    """`value`, a string or None. Raises ObjectMalformed, which names `field`."""
    if value is not None and not isinstance(value, str):
        raise ObjectMalformed(field, f"must be a string, not {kind_of(value)}: write it in quotes")
    return value


def kind_of(value: object) -> str:
    match value:
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return f"the string {echoed(value)}"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "null"
