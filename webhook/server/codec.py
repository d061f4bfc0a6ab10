"""The AdmissionReview codec: bytes to a Review, a verdict to bytes. No policy here."""

import base64
import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from webhook.errors import ReviewMalformed
from webhook.model.keys import echoed
from webhook.model.objects import KubeObject, User
from webhook.model.review import (
    RESOURCES,
    Admitted,
    Cause,
    Denied,
    Kind,
    Operation,
    Resource,
    Review,
    Verdict,
    operation,
)

API_VERSION = "admission.k8s.io/v1"

# The API server cuts each warning to 256 runes once all of them together pass 4,096.
_WARNING_LIMIT = 256
_WARNINGS_LIMIT = 2048
_AUDIT_LIMIT = 1024


class _UserInfo(msgspec.Struct):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class _AdmissionRequest(msgspec.Struct, rename="camel"):
    uid: str
    kind: Kind
    resource: Resource
    operation: Operation
    name: str = ""
    namespace: str = ""
    sub_resource: str = ""
    user_info: _UserInfo = msgspec.field(default_factory=_UserInfo)
    dry_run: bool | None = None
    object: msgspec.Raw = msgspec.Raw(b"null")
    old_object: msgspec.Raw = msgspec.Raw(b"null")


class _Envelope(msgspec.Struct, rename="camel"):
    api_version: str = ""
    kind: str = ""
    request: _AdmissionRequest | None = None


class _OnlyUidRequest(msgspec.Struct):
    uid: str = ""


class _OnlyUid(msgspec.Struct):
    request: _OnlyUidRequest | None = None


_envelope = msgspec.json.Decoder(_Envelope)
_only_uid = msgspec.json.Decoder(_OnlyUid)
_NULL = msgspec.Raw(b"null")
_object = msgspec.json.Decoder(KubeObject | None)
_encoder = msgspec.json.Encoder()
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_review(body: bytes | bytearray, *, proven: bool = False) -> Review:
    """The review in `body`. `proven` says that it is certainly the API server that sent it.

    Raises ReviewMalformed, with the request's uid where there is one: also where the envelope is
    right, but the object isn't of its kind's shape.
    """
    try:
        envelope = _envelope.decode(body)
    except _UNREADABLE as error:
        raise ReviewMalformed(
            f"the body is not an AdmissionReview: {_plain(error)}", _uid(body)
        ) from None
    request = envelope.request
    if request is None:
        raise ReviewMalformed("the AdmissionReview has no request")
    if not request.uid:
        raise ReviewMalformed("the AdmissionReview's request has no uid")
    if envelope.api_version != API_VERSION or envelope.kind != "AdmissionReview":
        there = echoed(f"{envelope.api_version} {envelope.kind}")
        message = f"the body is {there}: send {API_VERSION} AdmissionReview"
        raise ReviewMalformed(message, request.uid)
    expected = RESOURCES.get(request.kind)
    if expected is not None and request.resource != expected:
        there = echoed(request.resource.resource)
        message = f"request.resource {there} is not the resource of kind {request.kind}"
        raise ReviewMalformed(message, request.uid)
    user = request.user_info
    judged = (
        expected is not None
        and not request.sub_resource
        and request.operation in ("CREATE", "UPDATE")
    )
    return Review(
        uid=request.uid,
        kind=request.kind,
        operation=request.operation,
        name=request.name,
        namespace=request.namespace,
        user=User(user.username, user.uid, user.groups, user.extra, proven),
        dry_run=bool(request.dry_run),
        object=_decode(request.object, "object", request) if judged else None,
        old=_decode(request.old_object, "oldObject", request) if judged else None,
    )


def _decode(raw: msgspec.Raw, where: str, request: _AdmissionRequest) -> KubeObject | None:
    try:
        obj: KubeObject | None = None if raw == _NULL else _object.decode(raw)
    except _UNREADABLE as error:
        raise ReviewMalformed(f"request.{where}: {_plain(error)}", request.uid) from None
    if obj is None:
        if where == "object" or request.operation == "UPDATE":
            raise ReviewMalformed(f"request.{where} is missing", request.uid)
        return None
    api_version = request.kind.api_version
    if (obj.get("apiVersion"), obj.get("kind")) != (api_version, request.kind.kind):
        there = echoed(f"{obj.get('apiVersion')} {obj.get('kind')}")
        message = f"request.{where} is {there}, but request.kind is {api_version} {request.kind}"
        raise ReviewMalformed(message, request.uid)
    return obj


def _uid(body: bytes | bytearray) -> str | None:
    try:
        found = _only_uid.decode(body).request
    except _UNREADABLE:
        return None
    return (found and found.uid) or None


def _plain(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def render(review: Review, verdict: Verdict) -> bytes:
    """The answer to `review`: always with its uid, and HTTP 200 around it."""
    response: dict[str, Any] = {"uid": review.uid, "allowed": isinstance(verdict, Admitted)}
    if isinstance(verdict, Admitted):
        if verdict.patch:
            operations = _encoder.encode([operation(op) for op in verdict.patch])
            response["patchType"] = "JSONPatch"
            response["patch"] = base64.b64encode(operations).decode("ascii")
    elif isinstance(verdict, Denied):
        response["status"] = _invalid(review, verdict.causes)
    else:
        response["status"] = status = _status(503, "ServiceUnavailable", verdict.message)
        if verdict.retry_after_seconds is not None:
            status["details"] = {"retryAfterSeconds": verdict.retry_after_seconds}
    if verdict.warnings:
        response["warnings"] = _bounded(verdict.warnings)
    if verdict.audit:
        response["auditAnnotations"] = {k: v[:_AUDIT_LIMIT] for k, v in verdict.audit.items()}
    return _answer(response)


def render_malformed(error: ReviewMalformed, *, allowed: bool) -> bytes:
    """The answer to a review that can't be judged but whose uid could be read."""
    response: dict[str, Any] = {"uid": error.uid, "allowed": allowed}
    if not allowed:
        response["status"] = _status(400, "BadRequest", f"conversion-guard: {error}")
    return _answer(response)


def _answer(response: dict[str, Any]) -> bytes:
    answer = {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
    return _encoder.encode(answer)


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {"status": "Failure", "code": code, "reason": reason, "message": message}


def _invalid(review: Review, causes: tuple[Cause, ...]) -> dict[str, Any]:
    listed = "; ".join(f"{cause.field}: {cause}" for cause in causes)
    name = review.name or _generated(review)
    message = f"{review.kind} {echoed(name)} is invalid: {listed}"
    return _status(422, "Invalid", message) | {
        "details": {
            "group": review.kind.group,
            "kind": review.kind.kind,
            "name": name,
            "causes": [
                {"reason": cause.reason, "field": cause.field, "message": str(cause)}
                for cause in causes
            ],
        }
    }


def _generated(review: Review) -> str:
    # On CREATE with generateName the name isn't there yet when the API server is of an older line.
    metadata = (review.object or KubeObject()).get("metadata") or {}
    return metadata.get("name") or metadata.get("generateName") or ""


def _bounded(warnings: Sequence[str]) -> list[str]:
    """At most 256 characters each and 2,048 in all: the rest is counted, not lost in silence."""
    bounded: list[str] = []
    room = _WARNINGS_LIMIT
    for position, text in enumerate(warnings):
        text = _shortened(text)
        if len(text) > room:
            bounded.append(f"+{len(warnings) - position} more")
            break
        room -= len(text)
        bounded.append(text)
    return bounded


def _shortened(text: str) -> str:
    """At most 256 characters. What the message begins with, an echo of what was sent, gives way
    first; any other quotation is whole or left out, for somebody may paste it."""
    if (excess := len(text) - _WARNING_LIMIT) <= 0:
        return text
    if match := _ECHO.match(text):
        sent = json.loads(match[2])
        shorter = echoed(sent, max(len(sent) - excess - 1, 1))
        text = f"{match[1]}{shorter}{text[match.end() :]}"
    if len(text) <= _WARNING_LIMIT:
        return text
    start, mark, rule = text.rpartition(" (conversion-guard: ")  # the rule's id stays readable
    start, end = (start, f"{mark}{rule}") if mark else (text, "")
    room = _WARNING_LIMIT - len(end) - 1
    cuts = (m.start() for m in _QUOTATION.finditer(start) if m.start() < room < m.end())
    return f"{start[: next(cuts, room)]}…{end}"


_QUOTATION = re.compile(r'"(?:[^"\\]|\\.)*"')
_ECHO = re.compile(rf"(\S+: )({_QUOTATION.pattern})")
