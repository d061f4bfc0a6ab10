"""Updates as vCenter sends them and the simulator never does, from a server of the tests' own.

It passes everything to the simulator, except for the waits for updates that a test has answers for.
"""

import http.client
import logging
import queue
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.bed import Vcsim, add_disk, eventually, find_vm
from tests.live import following, fresh, live_address
from tests.test_answers import HEAD, TAIL
from webhook.inventory.provider import ProviderInventory

pytestmark = pytest.mark.simulator

_WAITS = re.compile(rb"<WaitForUpdatesEx .*<version>(.*)</version>")


class Middleman:
    """What a test has scripted, and the versions that waits were asked for from."""

    def __init__(self, vcsim: Vcsim) -> None:
        self._vcsim = vcsim
        self._script: queue.Queue[bytes] = queue.Queue()
        self.versions: list[str] = []
        self.methods: set[str] = set()
        self.port = 0
        self.ending = threading.Event()

    def say(self, *answers: bytes) -> None:
        for answer in answers:
            self._script.put(answer)

    @property
    def said(self) -> bool:
        return self._script.empty()

    def answer(self, body: bytes) -> bytes | None:
        """The scripted answer to a wait; None where the simulator should answer."""
        if called := re.search(rb"<(?:\w+:)?Body[^>]*><(?:\w+:)?(\w+)", body):
            self.methods.add(called[1].decode())
        match = _WAITS.search(body)
        if match is None:
            return None
        version = match[1].decode()
        self.versions.append(version)
        if not version:
            return None  # to a new filter everything is told, by the simulator
        while not self.ending.is_set():
            try:
                return self._script.get(timeout=0.05)
            except queue.Empty:
                continue
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
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def man(vcsim: Vcsim) -> Iterator[Middleman]:
    with middleman(vcsim) as man:
        yield man


@pytest.fixture
def inventory(man: Middleman, vcsim: Vcsim, tmp_path: Path) -> Iterator[ProviderInventory]:
    url = f"https://127.0.0.1:{man.port}/sdk"
    with following(live_address(vcsim, tmp_path, url=url)) as inventory:
        eventually(lambda: inventory.synced and man.versions[-1:] not in ([], [""]), 60, "a wait")
        yield inventory
        man.ending.set()


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


def morefs(inventory: ProviderInventory) -> dict[str, str]:
    return {vm.name: vm.moref for vm in inventory.vms}


def test_truncated_news_are_asked_on_for_and_age_waits_for_the_last(
    man: Middleman, inventory: ProviderInventory
) -> None:
    one, two = (morefs(inventory)[name] for name in ("DC0_H0_VM0", "DC0_H0_VM1"))
    heard = inventory.heard_at
    man.say(news("modify", one, changed("name", "first"), version="a", truncated=True))
    eventually(lambda: inventory.vms.by_name("first"), 60, "the first half")
    assert inventory.heard_at == heard
    man.say(news("leave", two, version="b"))
    eventually(lambda: inventory.vms.by_moref(two) is None, 60, "the second half")
    eventually(lambda: inventory.heard_at != heard, 60, "all of it")
    eventually(lambda: man.versions[-2:] == ["a", "b"], 60, "the versions to go on from")


def test_uuids_and_templates_are_followed(man: Middleman, inventory: ProviderInventory) -> None:
    moref = morefs(inventory)["DC0_H0_VM0"]
    old = inventory.vms.by_moref(moref)
    assert old is not None
    uuid = "11111111-2222-3333-4444-555555555555"
    man.say(
        news("modify", moref, changed("config.uuid", uuid) + changed("config.template", "true"))
    )
    eventually(lambda: inventory.vms.by_uuid(uuid), 60, "the new uuid")
    new = inventory.vms.by_moref(moref)
    assert new is not None
    assert (new.uuid, new.template, new.disks) == (uuid, True, old.disks)
    assert not inventory.vms.by_uuid(old.uuid)


def test_a_part_of_a_property_makes_the_whole_vm_be_read(
    man: Middleman, inventory: ProviderInventory, vcsim: Vcsim
) -> None:
    moref = morefs(inventory)["DC0_H0_VM0"]
    with vcsim.connect() as instance:
        add_disk(find_vm(instance, "DC0_H0_VM0"), 1024, "[LocalDS_0] DC0_H0_VM0/hot.vmdk")
    assert len(inventory.vms.by_moref(moref).disks) == 1  # type: ignore[union-attr]
    man.say(news("modify", moref, changed("config.hardware.device[2000].backing.fileName", "x")))
    eventually(
        lambda: len(inventory.vms.by_moref(moref).disks) == 2,  # type: ignore[union-attr]
        60,
        "both disks",
    )


@pytest.mark.parametrize(
    "how", ["InvalidCollectorVersion", "NotAuthenticated", "ManagedObjectNotFound", "torn", "html"]
)
def test_a_wait_that_fails_begins_again_and_misses_no_vm_that_left(
    man: Middleman, inventory: ProviderInventory, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = inventory.vms
    man.say(news("enter", "vm-777", changed("name", "ghost")))
    eventually(lambda: inventory.vms.by_name("ghost"), 60, "a VM that the simulator has not")
    answers = {"torn": news()[:-20], "html": b"<html>busy</html>"}
    man.say(answers.get(how) or fault(how))
    eventually(lambda: inventory.vms is not before, 60, "a new first read")
    eventually(lambda: inventory.unreachable_since is None, 60, "it is back")
    assert len(inventory.vms) == 4


def test_the_methods_called_are_those_that_the_readme_lists(
    man: Middleman, vcsim: Vcsim, tmp_path: Path
) -> None:
    """All of a source's life: what its account needs the right to."""
    url = f"https://127.0.0.1:{man.port}/sdk"
    with following(live_address(vcsim, tmp_path, url=url)) as inventory:
        eventually(lambda: inventory.synced, 60, "the first read")
        (vm, *_) = inventory.vms
        assert fresh(inventory, morefs=[vm.moref], uuids=[vm.uuid], names=[vm.name]) == (vm,)
        many = list(inventory.vms)
        assert len(many) > 1
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    section = readme.partition("## What the guard may do in vSphere")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`(\w+)`", section))
    assert man.methods <= listed, man.methods - listed
    # Only a read of more than one page asks for the next one.
    assert listed - man.methods <= {"ContinueRetrievePropertiesEx", "CancelWaitForUpdates"}
