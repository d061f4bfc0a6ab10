"""A server between a source and the simulator, which answers what a test has scripted itself."""

import http.client
import queue
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.e2e.bed import Vcsim
from tests.test_answers import HEAD, TAIL

_METHOD = re.compile(rb"<(?:\w+:)?Body[^>]*><(?:\w+:)?(\w+)")
_WAITS = re.compile(rb"<WaitForUpdatesEx .*<version>(.*)</version>.*<maxWaitSeconds>(\d+)<")


class Raw(bytes):
    """A whole HTTP answer, as it is; its connection ends with it."""


class Middleman:
    """What a test has scripted, and what it was asked."""

    def __init__(self, vcsim: Vcsim) -> None:
        self._vcsim = vcsim
        self._script: queue.Queue[bytes] = queue.Queue()
        self.versions: list[str] = []
        """That waits were asked for from."""
        self.calls: Counter[str] = Counter()
        """Methods, and how often each was called."""
        self.faults: dict[str, list[bytes]] = {}
        """Answers to the next calls of a method; an empty one closes the connection without any."""
        self.held: dict[str, threading.Event] = {}
        """Methods whose calls wait for an event before anything else is done."""
        self.first_wait = threading.Event()
        """Cleared, it holds what every following begins with."""
        self.first_wait.set()
        self._lock = threading.Lock()
        self.port = 0
        self.ending = threading.Event()

    def say(self, *answers: bytes) -> None:
        for answer in answers:
            self._script.put(answer)

    @property
    def said(self) -> bool:
        return self._script.empty()

    def answer(self, body: bytes) -> bytes | None:
        """What is scripted; None where the simulator should answer."""
        called = _METHOD.search(body)
        if called is None:
            return None
        method = called[1].decode()
        with self._lock:
            self.calls[method] += 1
            held, scripted = self.held.get(method), self.faults.get(method)
        if held is not None:
            held.wait(60)
        if scripted:
            return scripted.pop(0)
        match = _WAITS.search(body)
        if match is None:
            return None
        version = match[1].decode()
        self.versions.append(version)
        if not version:
            self.first_wait.wait(60)
            return None  # to a new filter everything is told, by the simulator
        until = time.monotonic() + int(match[2])
        while True:
            try:
                return self._script.get(timeout=0.05)
            except queue.Empty:
                if self.ending.is_set() or time.monotonic() >= until:
                    return news()

    def forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, Any, bytes]:
        context = ssl.create_default_context(cafile=self._vcsim.ca_file)
        onward = http.client.HTTPSConnection("127.0.0.1", self._vcsim.port, context=context)
        try:
            headers = {k: v for k, v in handler.headers.items() if k.lower() != "accept-encoding"}
            onward.request(handler.command, handler.path, body, headers)
            with onward.getresponse() as response:
                return response.status, response.headers, response.read()
        finally:
            onward.close()


@contextmanager
def middleman(vcsim: Vcsim) -> Iterator[Middleman]:
    made = Middleman(vcsim)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, answer = 200, dict[str, str](), made.answer(body)
            if answer is None:
                status, headers, answer = made.forward(self, body)
            elif not answer:
                self.close_connection = True
                return
            elif isinstance(answer, Raw):
                self.wfile.write(answer)
                self.close_connection = True
                return
            elif b"Fault>" in answer:
                status = 500
            self.send_response(status)
            if "Set-Cookie" in headers:
                self.send_header("Set-Cookie", headers["Set-Cookie"])
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            with suppress(OSError):  # nobody waits any more
                self.wfile.write(answer)

        do_GET = do_POST  # noqa: N815  http.server's name

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = vcsim.ca_file.parent
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        made.ending.set()
        for held in (made.first_wait, *made.held.values()):
            held.set()
        server.shutdown()
        thread.join()
        server.server_close()


def news(
    kind: str = "modify",
    moref: str = "",
    changes: str = "",
    *,
    version: str = "next",
    truncated: bool = False,
) -> bytes:
    one = (
        f'<filterSet><objectSet><kind>{kind}</kind><obj type="VirtualMachine">{moref}</obj>'
        f"{changes}</objectSet></filterSet>"
    )
    body = (
        f'<W xmlns="urn:vim25"><returnval><version>{version}</version>{one if moref else ""}'
        f"<truncated>{str(truncated).lower()}</truncated></returnval></W>"
    )
    return f"{HEAD}{body}{TAIL}".encode()


def fault(kind: str) -> bytes:
    detail = f'<detail><{kind}Fault xmlns="urn:vim25" xsi:type="{kind}"/></detail>'
    inside = f"<faultcode>ServerFaultCode</faultcode><faultstring>no</faultstring>{detail}"
    return f"{HEAD}<soapenv:Fault>{inside}</soapenv:Fault>{TAIL}".encode()


def changed(path: str, value: str, op: str = "assign") -> str:
    return (
        f"<changeSet><name>{path}</name><op>{op}</op>"
        f'<val xsi:type="xsd:string">{value}</val></changeSet>'
    )
