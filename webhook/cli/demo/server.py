"""A real `conversion-guard serve` of the demo's own, asked as an API server asks."""

import base64
import http.client
import os
import re
import ssl
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import jsonpatch
import msgspec

from webhook.errors import GuardError

INVENTORY = Path(__file__).with_name("inventory.yaml")
Verdict = Literal["allowed", "denied", "undecided"]

_RESOURCES = {"PersistentVolumeClaim": "persistentvolumeclaims", "Plan": "plans"}
_LISTENING = re.compile(r"listening on https://127\.0\.0\.1:(\d+)")
_RULE = re.compile(r"\(conversion-guard: ([a-z-]+)\)")
_NOT_ITS_OWN = ("CONVERSION_GUARD_", "KUBERNETES_SERVICE_")  # a pod's, too: no cluster is followed


class DemoAnswer(msgspec.Struct):
    """What came back for one object."""

    verdict: Verdict
    patch: list[dict[str, Any]]
    rules: list[str]
    """Those that refuse."""
    warns: list[str]
    """Those that warn."""
    text: list[str]
    """The lines that kubectl prints."""


def settings(folder: Path, *, trusted: bool) -> dict[str, Any]:
    """What manifests/ ship, but for where this server is and what it knows; its TLS files are in
    `folder`. `trusted`: each caller counts as one who may get the Provider."""
    return {
        "listen": "127.0.0.1:0",
        "metricsListen": "127.0.0.1:0",
        "tls": {
            "source": "files",
            "certFile": str(folder / "tls.crt"),
            "keyFile": str(folder / "tls.key"),
        },
        "shutdownDelay": "0s",  # no load balancer has to hear that it ends
        "snapshots": [str(INVENTORY)],
        **({"trustNetwork": True} if trusted else {}),
    }


class DemoServer:
    """One that may still be starting: the first question waits until it listens."""

    def __init__(self, process: "subprocess.Popen[str]", ca: Path) -> None:
        self._process, self._ca = process, ca
        self._connection: http.client.HTTPSConnection | None = None

    def ask(self, obj: dict[str, Any]) -> DemoAnswer:
        """Mutate, apply the patch, validate: the API server's own order. Raises GuardError."""
        mutated = self._post("/mutate?timeout=3s", obj)
        patch = msgspec.json.decode(base64.b64decode(mutated.get("patch", "")) or b"[]")
        validated = self._post("/validate?timeout=5s", jsonpatch.apply_patch(obj, patch))
        status = validated.get("status", {})
        warnings = [f"Warning: {warning}" for warning in validated.get("warnings", ())]
        causes = status.get("details", {}).get("causes", [])
        verdict: Verdict = "allowed"
        if not validated["allowed"]:
            verdict = "denied" if status["code"] == 422 else "undecided"
        return DemoAnswer(
            verdict,
            patch,
            _rules(cause["message"] for cause in causes),
            _rules(warnings),
            [*warnings, *_kubectl(obj, status, causes)],
        )

    def _post(self, path: str, obj: dict[str, Any]) -> dict[str, Any]:
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
        review = {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": request,
        }
        connection = self._connection = self._connection or self._connect()
        headers = {"Content-Type": "application/json"}
        try:
            connection.request("POST", path, msgspec.json.encode(review), headers)
            answer = connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            raise GuardError(f"the demo's server does not answer: {error}") from None
        response: dict[str, Any] = msgspec.json.decode(answer)["response"]
        return response

    def _connect(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self._ca))
        port = _port(self._process)
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


@contextmanager
def started(folder: Path, *, trusted: bool) -> Iterator[DemoServer]:
    """It is stopped at the end. `folder` has ca.crt, tls.crt and tls.key."""
    file = folder / f"settings-{'trusted' if trusted else 'shipped'}.yaml"
    file.write_bytes(msgspec.yaml.encode(settings(folder, trusted=trusted)))
    command = [sys.executable, "-m", "webhook", "serve", "--settings", str(file)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_ITS_OWN)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean) as process:  # noqa: S603  our own interpreter
        server = DemoServer(process, folder / "ca.crt")
        try:
            yield server
        finally:
            server.close()
            process.terminate()
            process.communicate()


def _port(process: "subprocess.Popen[str]") -> int:
    said = []
    for line in process.stderr or ():
        if match := _LISTENING.search(line):
            return int(match[1])
        said.append(line)
    raise GuardError(f"the demo's server did not start: {''.join(said).strip()}")


def _rules(messages: "Iterator[str] | list[str]") -> list[str]:
    return sorted({rule for message in messages for rule in _RULE.findall(message)})


def _kubectl(
    obj: Mapping[str, Any], status: Mapping[str, Any], causes: list[dict[str, str]]
) -> list[str]:
    """What `kubectl create` prints (kubectl's cmd/util/helpers.go)."""
    if not status:
        group = obj["apiVersion"].rpartition("/")[0]
        kind = f"{obj['kind'].lower()}{'.' if group else ''}{group}"
        return [f"{kind}/{obj['metadata']['name']} created"]
    if not causes:
        return [f"Error from server ({status['reason']}): {status['message']}"]
    details = status["details"]
    head = f'The {details["kind"]} "{details["name"]}" is invalid:'
    lines = [f"{cause['field']}: {cause['message']}" for cause in causes]
    return [f"{head} {lines[0]}"] if len(lines) == 1 else [head, *(f"* {line}" for line in lines)]
