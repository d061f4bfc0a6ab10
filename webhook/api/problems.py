"""Errors as RFC 9457 has them: application/problem+json."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

MEDIA_TYPE = "application/problem+json"


class InvalidField(msgspec.Struct, frozen=True):
    """What is wrong with one part of a request."""

    field: str
    """`query.limit`, `path.moref`, `body.namespace`."""
    message: str


class Right(msgspec.Struct, frozen=True):
    """A right, as in an access review; an empty namespace means all of them."""

    verb: str
    resource: str
    """`persistentvolumeclaims`, `plans.forklift.konveyor.io`."""
    namespace: str
    name: str = ""

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else ""
        where = f"in namespace {self.namespace}" if self.namespace else "in every namespace"
        return f"{self.verb} {self.resource}{name} {where}"


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The body of every error."""

    type: str = msgspec.field(default_factory=lambda: "about:blank")
    title: str
    status: int
    detail: str
    request_id: str
    """As in the header X-Request-Id, and in the guard's log."""
    errors: tuple[InvalidField, ...] = ()
    missing: tuple[Right, ...] = ()
    """Of a 403: the rights that the caller would need."""


class Problem(Exception):
    """A request that gets an error; `detail` says what would be right."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: tuple[InvalidField, ...] = (),
        missing: tuple[Right, ...] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers or {}
        self._errors, self._missing = errors, missing

    def body(self, request_id: str) -> bytes:
        """The JSON of it."""
        return msgspec.json.encode(
            ProblemDetails(
                title=HTTPStatus(self.status).phrase,
                status=self.status,
                detail=str(self),
                request_id=request_id,
                errors=self._errors,
                missing=self._missing,
            )
        )
