"""Results as SARIF 2.1.0: what code hosts show beside the line of a manifest."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from webhook import __version__
from webhook.cli.verdicts import title
from webhook.engine.reference import reference
from webhook.engine.results import Result
from webhook.model.keys import Action

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: Mapping[Action, str] = {"deny": "error", "warn": "warning", "audit": "note", "off": "none"}
_OTHERS = {
    "object": "The API server itself would refuse the object.",
    "undecided": "The facts to judge the object can't be had now.",
    "note": "What no webhook can repair or see, or could not be checked.",
}
"""What is told of an object, and is no rule's."""


def sarif(results: Sequence[Result]) -> bytes:
    """One run, with a result for each finding and note, and for each object that is undecided.

    An object of a cluster is in no file: its place is `KIND/NAMESPACE/NAME`, for a code host shows
    nothing that has none.
    """
    rules = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.title},
            "fullDescription": {
                "text": " ".join([rule.title, *(f"{k}: {text}." for k, text in rule.text.items())])
            },
            "defaultConfiguration": {"level": _LEVELS[rule.action]},
        }
        for rule in reference().rules
    ]
    rules += [{"id": key, "shortDescription": {"text": text}} for key, text in _OTHERS.items()]
    at = {str(rule["id"]): index for index, rule in enumerate(rules)}
    driver = {"name": "conversion-guard", "semanticVersion": __version__, "rules": rules}
    found = [one for result in results for one in _results(result, at)]
    run = {"tool": {"driver": driver}, "results": found}
    return msgspec.json.encode({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


def _results(result: Result, at: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    def one(rule: str, level: str, field: str, message: str) -> dict[str, Any]:
        name = title(result)
        key = hashlib.sha256("\0".join([name, rule, field]).encode("utf-8", "replace")).hexdigest()
        return {
            "ruleId": rule,
            "ruleIndex": at[rule],
            "level": level,
            "message": {"text": ": ".join(filter(None, (name, field, message)))},
            "locations": [_location(result, field)],
            "partialFingerprints": {"primaryLocationLineHash": key[:32]},
        }

    if result.verdict == "undecided":
        yield one("undecided", "error", "", result.message)
    for found in result.findings:
        yield one(found.rule, _LEVELS[found.action], found.field, found.message)
    for note in result.notes:
        yield one("note", "note", note.field, note.message)


def _location(result: Result, field: str) -> dict[str, Any]:
    name = "/".join(filter(None, (result.kind or "object", result.namespace, result.name)))
    line = result.line if isinstance(result.line, int) and result.line else 1
    within = f"{name}: {field}" if field else name
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(result, name)},
            "region": {"startLine": line},
        },
        "logicalLocations": [{"fullyQualifiedName": within, "kind": "resource"}],
    }


def _uri(result: Result, name: str) -> str:
    """Relative to the working folder, which in a pipeline is that of the repository."""
    if not isinstance(result.file, str) or result.file == "-":
        return quote(name)
    file = Path(result.file)
    if file.is_absolute():
        if not file.is_relative_to(Path.cwd()):
            return file.as_uri()
        file = file.relative_to(Path.cwd())
    return quote(file.as_posix())
