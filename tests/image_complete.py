"""Run while the image is built, inside it: nothing that the guard needs has been left out.

Every module is imported, and the cluster's client sends and reads each sort of request: what it
imports only then would be missed only then.
"""

import asyncio
import importlib
import json
import pkgutil
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import webhook
from webhook.cluster import Cluster
from webhook.cluster.paths import ApiPath


class _ApiServer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"items": []}')

    do_POST = do_GET  # noqa: N815  the name that http.server calls

    def log_message(self, *_: object) -> None:
        """Nothing to see."""


async def _ask(port: int, folder: Path) -> None:
    named = {"cluster": "here", "user": "guard"}
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": named}],
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "guard", "user": {"token": "none"}}],
    }
    file = folder / "kubeconfig"
    file.write_text(json.dumps(config))
    pods = ApiPath("v1", "pods")
    async with Cluster.open(file) as cluster:
        assert await cluster.get(pods, limit="1") == b'{"items": []}'
        assert await cluster.post(pods, {"kind": "Pod"}) == b'{"items": []}'


def main() -> None:
    for module in pkgutil.walk_packages(webhook.__path__, "webhook."):
        if module.name != "webhook.__main__":
            importlib.import_module(module.name)
    with (
        HTTPServer(("127.0.0.1", 0), _ApiServer) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        asyncio.run(_ask(server.server_port, Path(folder)))
        server.shutdown()


if __name__ == "__main__":
    main()
