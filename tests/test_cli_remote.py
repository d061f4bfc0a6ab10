"""`check --server`: the same verdicts from a guard's API, over real HTTPS."""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from tests.command import run
from tests.test_cli_check import RIGHT, SECRET, SNAPSHOT, WRONG
from webhook import tls
from webhook.cli.known import snapshot_of
from webhook.engine.check import check
from webhook.engine.policy import Policy
from webhook.engine.results import Candidate, Results
from webhook.engine.sources import Sources
from webhook.manifests import files

TOKEN = "header.payload.signature"


class Api(HTTPServer):
    """Answers as the guard's API does, by the engine; `asked` is what came."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        tls.write(tls.issue(["127.0.0.1"], datetime.now(UTC)), folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []
        self.answer: bytes | None = None
        self.token = TOKEN

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that doesn't trust it."""


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(self.path)
        if self.headers["Authorization"] != f"Bearer {self.server.token}":
            self._say(401, b'{"title": "Unauthorized", "detail": "the token is\\nnot good"}')
            return
        namespace = parse_qs(urlsplit(self.path).query).get("namespace", [""])[0]
        known = Sources(snapshot_of(SNAPSHOT), Policy(trust_network=True), time.monotonic)
        results = asyncio.run(check([Candidate(one) for one in given], known, namespace=namespace))
        answer = self.server.answer
        self._say(200, msgspec.json.encode(Results(results)) if answer is None else answer)

    def _say(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with Api(tmp_path) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def options(api: Api, folder: Path) -> list[str | Path]:
    return ["--server", api.url, "--token-file", folder / "token", "--ca-file", folder / "ca.crt"]


def test_the_answer_is_that_of_a_check_here(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(f"{SECRET}---\n{RIGHT}---\n{WRONG}")
    for output in ("table", "json", "yaml", "junit"):
        there = run("check", file, *options(api, tmp_path), "--output", output)
        here = run("check", file, "--snapshot", SNAPSHOT, "--output", output)
        assert (there.returncode, there.stdout, there.stderr) == (1, here.stdout, "")


def test_a_namespace_goes_with_it_and_a_list_is_its_items(api: Api, tmp_path: Path) -> None:
    (right,) = (one.object for one in files.documents(RIGHT.encode(), "-"))
    items = [right, {"apiVersion": "v1", "kind": "Secret"}]
    given = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    how = [*options(api, tmp_path), "--namespace", "vms", "--output", "json"]
    done = run("check", "-", *how, given=given)
    assert (done.returncode, done.stderr) == (0, "")
    assert [one["line"] for one in json.loads(done.stdout)["results"]] == [1, 1]
    assert api.asked == ["/api/v1/check?namespace=vms"]


def test_what_the_server_says_is_wrong_is_one_line_without_the_token(
    api: Api, tmp_path: Path
) -> None:
    api.token = "another"
    done = run("check", "-", *options(api, tmp_path), given=RIGHT)
    assert done.returncode == 2
    assert done.stderr == f"conversion-guard: {api.url}: HTTP 401: the token is not good\n"


@pytest.mark.parametrize("answer", [b"<html>", b'{"results": []}', b'{"results": [{}]}'])
def test_an_answer_that_is_none_is_named(api: Api, tmp_path: Path, answer: bytes) -> None:
    api.answer = answer
    done = run("check", "-", *options(api, tmp_path), given=RIGHT)
    assert done.returncode == 2
    assert done.stderr.startswith(f"conversion-guard: {api.url}: ")
    assert len(done.stderr.splitlines()) == 1


def test_what_is_missing_or_wrong_in_the_options_is_named(api: Api, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    token: list[str | Path] = ["--token-file", tmp_path / "token"]
    for args, said in (
        (["--server", api.url], "needs --token-file: `kubectl create token"),
        (["--server", api.url, "--token-file", tmp_path / "empty"], "contains no token"),
        (["--server", api.url, "--token-file", tmp_path / "no"], "No such file"),
        (["--server", "http://guard", *token], "write https://host"),
        (["--server", api.url, *token], "its certificate is not trusted"),
        (["--server", api.url, *token, "--ca-file", tmp_path / "no"], "No such file"),
        (["--server", api.url, *token, "--ca-file", tmp_path / "token"], "not a PEM certificate"),
        (["--server", "https://127.0.0.1:1", *token], "connection refused"),
        (["--server", api.url, *token, "--snapshot", SNAPSHOT], "leave out --snapshot"),
    ):
        done = run("check", "-", *args, given=RIGHT)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert api.asked == []
