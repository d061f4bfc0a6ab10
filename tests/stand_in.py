"""A stand-in for the API server: of it all, what the guard asks when somebody calls its REST API.

For tests that need no admission and no storage; tests/e2e has the real one.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

AUDIENCE = "conversion-guard"
_FORKLIFT = "/apis/forklift.konveyor.io/v1beta1"


@dataclass
class StandIn:
    """What it knows; a test may change it at any time."""

    kubeconfig: Path
    rights: dict[str, list[str]] = field(default_factory=dict)
    """User to `verb resource namespace name`, each a pattern. A user's token is `token-USER`."""
    plans: dict[str, Any] = field(default_factory=dict)
    """By `namespace/name`."""
    pvcs: list[Any] = field(default_factory=list)
    objects: dict[str, Any] = field(default_factory=dict)
    """By path, before all else."""
    asked: list[str] = field(default_factory=list)
    """Every `METHOD /path`."""
    forbidden: str = "nothing"
    """What is part of each path that the guard has no right to."""
    accepted: list[str] = field(default_factory=list)
    """The Accept of each request."""
    broken: bool = False
    """Answers 500 to everything."""
    stuck: str = "nothing"
    """What a path that never gets an answer ends in."""
    garbled: bytes = b""
    """Answers 200 and this to everything."""
    ended: threading.Event = field(default_factory=threading.Event)

    def answer(self, method: str, path: str, body: Any, selector: str = "") -> tuple[int, Any]:
        if self.broken:
            return 500, {}
        if self.forbidden in path:
            return 403, {}
        if path in self.objects:
            return 200, self.objects[path]
        if path.endswith("/tokenreviews"):
            return 201, {"status": self._whose(**body["spec"])}
        if path.endswith("/subjectaccessreviews"):
            return 201, {"status": {"allowed": self._may(body["spec"])}}
        assert method == "GET", f"nothing is ever written: {method} {path}"
        if path.startswith(f"{_FORKLIFT}/namespaces/") and "/plans/" in path:
            namespace, _, name = path.split("/")[5:8]
            plan = self.plans.get(f"{namespace}/{name}")
            return (200, plan) if plan else (404, {})
        items = []
        if path.endswith("/persistentvolumeclaims"):
            place = path.split("/")[4] if "/namespaces/" in path else None
            wanted = [part.partition("=") for part in selector.split(",") if part]
            items = [
                pvc
                for pvc in self.pvcs
                if place in (None, pvc["metadata"]["namespace"])
                and all(
                    key in (labels := pvc["metadata"]["labels"])
                    and labels[key] == (value or labels[key])
                    for key, _, value in wanted
                )
            ]
        return 200, {"metadata": {"resourceVersion": "1"}, "items": items}

    def _whose(self, token: str, audiences: list[str]) -> dict[str, Any]:
        user = token.removeprefix("token-")
        if user == token or audiences != [AUDIENCE]:
            return {"authenticated": False, "error": "unknown"}
        good = [] if user == "elsewhere" else audiences
        return {"authenticated": True, "audiences": good, "user": {"username": user}}

    def _may(self, spec: Any) -> bool:
        wanted = spec["resourceAttributes"]
        resource = ".".join(part for part in (wanted["resource"], wanted["group"]) if part)
        asked = f"{wanted['verb']} {resource} {wanted['namespace']} {wanted['name']}"
        return any(fnmatchcase(asked, right) for right in self.rights.get(spec["user"], ()))


@contextmanager
def standing_in(folder: Path) -> Iterator[StandIn]:
    """It runs until the end; `folder` gets the kubeconfig by which a guard finds it."""
    state = StandIn(folder / "kubeconfig")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            state.asked.append(f"{self.command} {path}")
            state.accepted.append(self.headers["accept"])
            if path.endswith(state.stuck):
                self.close_connection = True
                state.ended.wait()
                return
            if "watch=true" in query:
                self.send_response(200)
                self.end_headers()
                self.close_connection = True
                state.ended.wait(float(parse_qs(query)["timeoutSeconds"][0]))
                return
            selector = parse_qs(query).get("labelSelector", [""])[0]
            length = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            code, answer = state.answer(self.command, path, body, selector)
            code = 200 if state.garbled else code
            content = state.garbled or json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nothing: pytest shows enough."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "x", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
            ],
            "users": [{"name": "x", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "current-context": "x",
        }
        state.kubeconfig.write_text(json.dumps(config))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield state
        finally:
            state.ended.set()
            server.shutdown()
            thread.join()
