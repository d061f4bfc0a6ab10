"""What comes with a request: its body, and what is said of one that can't be read."""

from typing import Any, TypeVar

import msgspec
from fastapi import Request
from starlette.requests import ClientDisconnect

from webhook.api.problems import InvalidField, Problem
from webhook.errors import BodyRefused
from webhook.manifests import render
from webhook.model.keys import echoed

T = TypeVar("T")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


async def decoded(request: Request, kind: type[T] | Any = Any) -> Any:
    """The request's body, of type `kind`. Raises Problem."""
    body = await _body(request)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _misshapen(error) from None
    except _UNREADABLE as error:
        raise _no_json(error) from None


async def _body(request: Request) -> bytes:
    """The request's. Raises Problem."""
    headers = request.headers
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        detail = f"content-type is {echoed(content_type)}: send application/json"
        raise Problem(415, detail)
    if headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "send the body without compression")
    try:
        body = b"".join([piece async for piece in request.stream()])
    except ClientDisconnect:
        raise Problem(400, "the body ended before its end") from None  # nobody hears it
    except BodyRefused as error:
        # The rest stays unread, so the connection is of no further use.
        told = {"Connection": "close"} | ({"Retry-After": "1"} if error.code == 503 else {})
        detail = f"{error}: split it" if error.code == 413 else str(error)
        raise Problem(error.code, detail, headers=told) from None
    if not body:
        raise Problem(400, "the body is empty: send JSON")
    return body


def _no_json(error: Exception) -> Problem:
    why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
    return Problem(400, f"the body is not valid JSON: {why}")


def _misshapen(error: msgspec.ValidationError) -> Problem:
    where, what = render.fault(error)
    field = f"body.{where}" if where else "body"
    return Problem(422, f"{field}: {what}", errors=(InvalidField(field, what),))
