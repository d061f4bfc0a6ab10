"""`conversion-guard demo`: a real server on an embedded snapshot, asked as an API server asks."""

import base64
import http.client
import os
import re
import ssl
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonpatch
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from webhook import tls
from webhook.errors import GuardError

_HERE = Path(__file__).parent
_RESOURCES = {"PersistentVolumeClaim": "persistentvolumeclaims", "Plan": "plans"}
_STYLES = {"admitted": "green", "denied": "red", "undecided": "yellow"}
_LISTENING = re.compile(r"listening on https://127\.0\.0\.1:(\d+)")


class _Case(msgspec.Struct, forbid_unknown_fields=True):
    what: str
    object: dict[str, Any]
    expect: str
    fills: list[str] = []
    rules: list[str] = []


class _Cases(msgspec.Struct, forbid_unknown_fields=True):
    base: dict[str, dict[str, Any]]
    cases: list[_Case]


class _Answer(msgspec.Struct):
    """What the two calls said of one object."""

    verdict: str
    patch: list[dict[str, Any]]
    warnings: list[str]
    causes: list[dict[str, str]]
    text: str

    @property
    def rules(self) -> list[str]:
        return sorted({cause["message"].rpartition(": ")[2].rstrip(")") for cause in self.causes})


def run() -> int:
    """Print the table; 1 if any verdict isn't the expected one."""
    cases = msgspec.yaml.decode((_HERE / "cases.yaml").read_bytes(), type=_Cases)
    table = Table(show_lines=True, expand=True, title="What Conversion Guard answers")
    for column, share in (
        ("object", 5),
        ("verdict", 2),
        ("filled in", 7),
        ("what kubectl shows", 12),
    ):
        table.add_column(column, overflow="fold", ratio=share)
    surprises = []
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as connection:
        for case in cases.cases:
            obj = merged(cases.base[case.object["kind"]], case.object)
            answer = _ask(connection, obj)
            verdict = Text(answer.verdict, style=_STYLES[answer.verdict])
            filled = "\n".join(_change(op) for op in answer.patch)
            table.add_row(
                Text(f"{obj['kind']}: {case.what}"), verdict, Text(filled), Text(answer.text)
            )
            if (answer.verdict, [op["path"] for op in answer.patch], answer.rules) != (
                case.expect,
                case.fills,
                case.rules,
            ):
                surprises.append(f"{case.what}: expected {case.expect} {case.fills} {case.rules}")
    # A pipe has no width of its own, and a log that is cut at 80 columns helps nobody.
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for surprise in surprises:
        console.print(Text(f"NOT AS EXPECTED: {surprise}", style="bold red"))
    console.print(f"{len(cases.cases) - len(surprises)} of {len(cases.cases)} as expected")
    return 1 if surprises else 0


@contextmanager
def _server(folder: Path) -> Iterator[http.client.HTTPSConnection]:
    tls.write(tls.issue(["localhost", "127.0.0.1"], datetime.now(UTC)), folder)
    settings = {
        "listen": "127.0.0.1:0",
        "metricsListen": "127.0.0.1:0",
        "tls": {
            "source": "files",
            "certFile": str(folder / "tls.crt"),
            "keyFile": str(folder / "tls.key"),
        },
        "snapshots": [str(_HERE / "inventory.yaml")],
        "trustNetwork": True,
    }
    (folder / "settings.yaml").write_bytes(msgspec.yaml.encode(settings))
    command = [sys.executable, "-m", "webhook", "serve", "--settings", f"{folder}/settings.yaml"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CONVERSION_GUARD_")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean) as process:  # noqa: S603  our own interpreter
        try:
            connection = http.client.HTTPSConnection(
                "127.0.0.1",
                _port(process),
                timeout=10,
                context=ssl.create_default_context(cafile=str(folder / "ca.crt")),
            )
            yield connection
            connection.close()
        finally:
            process.terminate()
            process.communicate()


def _port(process: "subprocess.Popen[str]") -> int:
    said = []
    for line in process.stderr or ():
        if match := _LISTENING.search(line):
            return int(match[1])
        said.append(line)
    raise GuardError(f"the server did not start: {''.join(said).strip()}")


def _ask(connection: http.client.HTTPSConnection, obj: dict[str, Any]) -> _Answer:
    """Mutate, apply the patch, validate: the API server's own order."""
    mutated = _post(connection, "/mutate?timeout=3s", obj)
    patch = msgspec.json.decode(base64.b64decode(mutated.get("patch", "")) or b"[]")
    validated = _post(connection, "/validate?timeout=5s", jsonpatch.apply_patch(obj, patch))
    status = validated.get("status", {})
    warnings = validated.get("warnings", [])
    verdict = "admitted"
    if not validated["allowed"]:
        verdict = "denied" if status["code"] == 422 else "undecided"
    causes = status.get("details", {}).get("causes", [])
    text = "\n".join([_kubectl(status, causes), *(f"Warning: {w}" for w in warnings)]).strip()
    return _Answer(verdict, patch, warnings, causes, text)


def _post(
    connection: http.client.HTTPSConnection, path: str, obj: dict[str, Any]
) -> dict[str, Any]:
    group, _, version = obj["apiVersion"].rpartition("/")
    request = {
        "uid": str(uuid.uuid4()),
        "kind": {"group": group, "version": version, "kind": obj["kind"]},
        "resource": {"group": group, "version": version, "resource": _RESOURCES[obj["kind"]]},
        "operation": "CREATE",
        "name": obj["metadata"]["name"],
        "namespace": obj["metadata"]["namespace"],
        "userInfo": {"username": "demo"},
        "object": obj,
        "oldObject": None,
        "dryRun": False,
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    headers = {"Content-Type": "application/json"}
    connection.request("POST", path, msgspec.json.encode(review), headers)
    response: dict[str, Any] = msgspec.json.decode(connection.getresponse().read())["response"]
    return response


def _kubectl(status: Mapping[str, Any], causes: list[dict[str, str]]) -> str:
    """The text that kubectl makes of a refusal (kubectl's cmd/util/helpers.go)."""
    if not status:
        return ""
    if not causes:
        return f"Error from server ({status['reason']}): {status['message']}"
    details = status["details"]
    head = f'The {details["kind"]} "{details["name"]}" is invalid: '
    lines = [f"{cause['field']}: {cause['message']}" for cause in causes]
    return head + lines[0] if len(lines) == 1 else "\n* ".join([head, *lines])


def _change(op: Mapping[str, Any]) -> str:
    name = op["path"].removeprefix("/metadata").replace("~1", "/").lstrip("/")
    return (
        f"- {name}"
        if op["op"] == "remove"
        else f"{name}: {msgspec.json.encode(op['value']).decode()}"
    )


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with `over` merged into it; null takes a key away (RFC 7386)."""
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result
