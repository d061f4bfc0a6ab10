"""What a call answers where something was raised: a Problem, whoever raised it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from webhook.api.problems import MEDIA_TYPE, InvalidField, Problem
from webhook.model.keys import echoed


def add_handlers(app: FastAPI) -> None:
    """Those below, for all that may be raised."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(Exception, _fault)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)


async def _problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)  # noqa: S101  it is registered for that
    body = problem.body(request.scope["service"].request_id)
    return Response(body, problem.status, problem.headers, MEDIA_TYPE)


async def _http(request: Request, error: Exception) -> Response:
    """Of Starlette's own: 404 and 405."""
    assert isinstance(error, HTTPException)  # noqa: S101
    details = {
        404: "there is nothing at this path: /api/v1/openapi.json lists the paths",
        405: f"{echoed(request.method, 16)} is not allowed here",
    }
    detail = details.get(error.status_code) or HTTPStatus(error.status_code).description
    headers = dict(error.headers or {})
    return await _problem(request, Problem(error.status_code, detail, headers=headers))


async def _invalid(request: Request, error: Exception) -> Response:
    """Of FastAPI's own: parameters that are not as they must be."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    faults = tuple(
        InvalidField(
            ".".join(map(str, one["loc"])), f"{_worded(one)} (there: {echoed(one['input'])})"
        )
        for one in error.errors()
    )
    detail = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
    return await _problem(request, Problem(422, detail, errors=faults))


def _worded(one: Mapping[str, Any]) -> str:
    """What FastAPI says, but a pattern in words."""
    if one["type"] != "string_pattern_mismatch":
        return str(one["msg"])
    return _WORDS.get(one["loc"][-1], "Write a name of a-z, 0-9 and -")


_WORDS = {
    "moref": "Write a moref, such as vm-178",
    "provider": "Write a name of a-z, 0-9, - and .",
    "plan": "Write a name of a-z, 0-9, - and .",
    "uuid": "Write a uuid, such as 4232f3d0-7c1b-9e55-0a44-5b6c7d8e9f01",
}


async def _fault(request: Request, error: Exception) -> Response:
    """Of our own; it is raised again, for the gate to log."""
    return await _problem(
        request, Problem(500, "conversion-guard failed: search its log for the request id")
    )
