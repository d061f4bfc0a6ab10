"""The API's own description: OpenAPI 3.1, with msgspec's schemas."""

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI

from webhook.api.problems import MEDIA_TYPE, ProblemDetails

_TEXTS = {
    400: "The body is not JSON, or `continue` is not from this list.",
    401: "The token is missing, or not valid for this API.",
    403: "The caller lacks a right; `missing` names it.",
    404: "There is no such object.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    422: "A parameter or the body is not valid; `errors` names each fault.",
    429: "Too many requests; Retry-After has the seconds to wait.",
    503: "vSphere or the API server can't answer now.",
}
BODY = (400, 413, 415)
"""What a call that takes a body may answer besides."""
_RATED = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}


def answering(answer: type, description: str, *more: int) -> dict[int | str, dict[str, Any]]:
    """The responses of a call that answers with `answer`, and may fail with `more`."""
    return responses(ref(answer), description, *more)


def responses(
    schema: dict[str, Any], description: str, *more: int, media_type: str = "application/json"
) -> dict[int | str, dict[str, Any]]:
    """The same, by the schema of the answer."""
    told: dict[int | str, dict[str, Any]] = {
        200: {"description": description, "content": {media_type: {"schema": schema}}}
    }
    problem = {MEDIA_TYPE: {"schema": ref(ProblemDetails)}}
    for code in sorted({401, 422, 429, 503, *more}):
        told[code] = {"description": _TEXTS[code], "content": problem}
    told[429]["headers"] = _RATED
    told["default"] = {"description": "Any other error.", "content": problem}
    return told


def takes(schema: dict[str, Any]) -> dict[str, Any]:
    """The body of a call."""
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def ref(answer: type) -> dict[str, str]:
    """Its schema, by name."""
    return {"$ref": f"#/components/schemas/{answer.__name__}"}


def described(app: FastAPI, shown: Sequence[type]) -> bytes:
    """The document of `app`, whose calls take and answer `shown`, as docs/openapi.json has it."""
    document = app.openapi()
    _, schemas = msgspec.json.schema_components(
        (*shown, ProblemDetails), ref_template="#/components/schemas/{name}"
    )
    bearer = {"type": "http", "scheme": "bearer", "description": "A token with the API's audience."}
    document["components"] = {"schemas": schemas, "securitySchemes": {"bearer": bearer}}
    document["security"] = [{"bearer": []}]
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2) + b"\n"
