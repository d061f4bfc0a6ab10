"""What is judged, and what came of it: the same JSON wherever it is asked for."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from webhook.model.keys import Action
from webhook.model.review import (
    Admitted,
    Cause,
    Denied,
    Doubt,
    PatchOp,
    Reason,
    Verdict,
    operation,
)


class Candidate(msgspec.Struct, frozen=True):
    """An object to be judged, of any kind and shape, and where it was read."""

    object: Any
    file: str = ""
    line: int = 0


class Found(msgspec.Struct, frozen=True):
    """What one rule found."""

    rule: str
    """`pvc-vm`; `object` where the API server itself would refuse."""
    action: Action
    reason: Reason
    field: str
    message: str
    expected: str | None = None
    """The one right value of the field, where it is known."""


class Note(msgspec.Struct, frozen=True):
    """What no webhook can repair or see, and what could not be checked; never a reason to deny."""

    field: str
    """Empty where it is about all of the object."""
    message: str
    expected: str | None = None

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.field, self.message)))


CheckVerdict = Literal["admitted", "denied", "undecided", "skipped", "not-checked"]


class Result(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The verdict on one object, and all that belongs to it."""

    api_version: str
    kind: str
    namespace: str
    name: str
    file: str | msgspec.UnsetType = msgspec.UNSET
    line: int | msgspec.UnsetType = msgspec.UNSET
    verdict: CheckVerdict
    """`skipped`: one of Forklift's own. `not-checked`: of a kind without rules, or admitted without
    being judged, for what `notes` say."""
    message: str = ""
    """Why it is undecided or skipped, or that its kind has no rules."""
    doubt: Doubt | msgspec.UnsetType = msgspec.UNSET
    """Why the facts could not be had, where the policy admits it all the same."""
    provider: str | msgspec.UnsetType = msgspec.UNSET
    """Of an audit: `namespace/name` of the Provider that it was judged by, where it may be told."""
    findings: tuple[Found, ...] = ()
    """Denials, warnings and what only the audit log has."""
    warnings: tuple[str, ...] = ()
    """What the API server's client would be warned of: each is one of `findings` or of `notes`."""
    notes: tuple[Note, ...] = ()
    patch: tuple[dict[str, Any], ...] = ()
    """RFC 6902: what the mutating webhook writes."""
    patched: Any = None
    """The object with that patch; the verdict is on this one. An audit has none."""

    @property
    def good(self) -> bool:
        """Whether the object may be applied as it is."""
        return self.verdict not in ("denied", "undecided")


class Results(msgspec.Struct, frozen=True):
    """The answer to a whole list, in the list's order."""

    results: tuple[Result, ...]


def result_of(
    candidate: Candidate,
    verdict: Verdict | CheckVerdict,
    message: str = "",
    *,
    patch: Sequence[PatchOp] = (),
    patched: Any = msgspec.UNSET,
    notes: Sequence[Note] = (),
) -> Result:
    """`patched` is the object after `patch`; unset where it is the candidate's own."""
    obj = candidate.object if isinstance(candidate.object, dict) else {}
    metadata: Any = obj.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    findings: tuple[Found, ...] = ()
    warnings: tuple[str, ...] = ()
    if isinstance(verdict, str):
        answer = verdict
    else:
        answer, message = _answer(verdict)
        warnings = verdict.warnings
    doubt: Doubt | msgspec.UnsetType = msgspec.UNSET
    if isinstance(verdict, Admitted):
        doubt = verdict.doubt or msgspec.UNSET
        notes = (*(Note("", said) for said in verdict.notes), *notes)
    if isinstance(verdict, Admitted | Denied):
        findings = tuple(found_of(cause, cause.field) for cause in verdict.findings)
    return Result(
        api_version=str(obj.get("apiVersion", "")),
        kind=str(obj.get("kind", "")),
        namespace=str(metadata.get("namespace") or ""),
        name=_name(metadata),
        file=candidate.file or msgspec.UNSET,
        line=candidate.line or msgspec.UNSET,
        verdict=answer,
        message=message,
        doubt=doubt,
        findings=findings,
        warnings=warnings,
        notes=tuple(notes),
        patch=tuple(operation(op) for op in patch),
        patched=candidate.object if patched is msgspec.UNSET else patched,
    )


def _answer(verdict: Verdict) -> tuple[CheckVerdict, str]:
    match verdict:
        case Denied():
            return "denied", ""
        case Admitted():
            if verdict.unchecked:
                return "not-checked", ""
            why = verdict.audit.get("skipped-because", "")
            return ("skipped" if why else "admitted"), why
        case _:
            return "undecided", verdict.message


def found_of(cause: Cause, field: str) -> Found:
    """On `field`: a Migration's causes have only one, and are told of their entries in the Plan."""
    return Found(cause.rule, cause.action, cause.reason, field, cause.message, cause.expected)


def _name(metadata: Mapping[str, Any]) -> str:
    return str(metadata.get("name") or metadata.get("generateName") or "")
