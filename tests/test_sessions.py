"""Connections that are closed idle, sessions that end, and Secrets that rotate, below a source."""

import asyncio
import gc
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.bed import Vcsim, end_other_sessions, eventually, find_vm
from tests.live import following, fresh, live_address
from tests.middleman import Middleman, Raw, fault, middleman
from tests.proxy import Proxy, proxy
from tests.test_answers import HEAD, TAIL
from webhook.errors import VsphereUnreachable
from webhook.inventory.provider import ProviderInventory
from webhook.model.objects import Provider
from webhook.vsphere import LiveSource
from webhook.vsphere.answers import SoapAnswer
from webhook.vsphere.collector import morefs_of_names, morefs_of_uuids, those
from webhook.vsphere.session import QUICK, Session

pytestmark = pytest.mark.simulator

_CONTENT = (
    '<RetrieveServiceContent xmlns="urn:vim25">'
    '<_this type="ServiceInstance">ServiceInstance</_this></RetrieveServiceContent>'
)


@pytest.fixture
def between(vcsim: Vcsim) -> Iterator[Proxy]:
    with proxy(vcsim.port) as between:
        yield between


@pytest.fixture
def man(vcsim: Vcsim) -> Iterator[Middleman]:
    with middleman(vcsim) as man:
        yield man


def through(port: int, vcsim: Vcsim, folder: Path) -> Any:
    return live_address(vcsim, folder, url=f"https://127.0.0.1:{port}/sdk")


def _ask(session: Session, many: int) -> None:
    """So many calls at once, each over a connection of its own that is idle then."""
    asked = [session.asked(_CONTENT, QUICK) for _ in range(many)]
    for one in asked:
        assert list(one.read(SoapAnswer())) == []


def test_connections_that_were_closed_while_idle_cost_no_answer(
    vcsim: Vcsim, between: Proxy, tmp_path: Path
) -> None:
    session = Session(through(between.port, vcsim, tmp_path))
    try:
        with vcsim.connect() as instance:
            vm = find_vm(instance, "DC0_H0_VM0")
            moref, uuid = vm._moId, vm.config.uuid
        for _ in range(2):
            _ask(session, 5)
            before = between.connections
            between.cut_all()
            _ask(session, 5)
            assert between.connections - before == 5, "each of them was dead"
            between.cut_all()
            assert set(morefs_of_uuids(session, [uuid])) == {moref}, "pyVmomi's, too"
            between.cut_all()
            assert list(morefs_of_names(session, ["DC0_H0_VM0"])) == [moref]
            assert [change.moref for change in those(session, [moref])] == [moref]
    finally:
        session.close()


def test_what_a_new_connection_does_not_answer_is_not_asked_again(
    vcsim: Vcsim, man: Middleman, tmp_path: Path
) -> None:
    session = Session(through(man.port, vcsim, tmp_path))
    try:
        session._idle.close()
        man.faults["RetrieveServiceContent"] = [b"", b"", b""]
        before = man.calls["RetrieveServiceContent"]
        with pytest.raises(VsphereUnreachable, match="cut off"):
            _ask(session, 1)
        assert man.calls["RetrieveServiceContent"] - before == 1
        man.faults["RetrieveServiceContent"] = []
        _ask(session, 1)
        man.faults["RetrieveServiceContent"] = [b"", b"", b""]
        with pytest.raises(VsphereUnreachable, match="cut off"):
            _ask(session, 1)
        assert man.calls["RetrieveServiceContent"] - before == 4, "once more, and not for ever"
    finally:
        session.close()


def _open(port: int) -> list[ssl.SSLSocket]:
    """Sockets of this process that are connected to `port`, also those that nobody knows of."""
    found = []
    for one in gc.get_objects():
        if isinstance(one, ssl.SSLSocket) and not one.server_side:
            with suppress(OSError):  # closed, by us or by the peer
                if one.getpeername()[1] == port:
                    found.append(one)
    return found


_NO_VM = "42000000-0000-0000-0000-000000000000"
_NONE_FOUND = f'{HEAD}<FindAllByUuidResponse xmlns="urn:vim25"/>{TAIL}'.encode()
_BROKEN = {
    "cut off amid an element": b"200 OK\r\nContent-Length: 9999\r\n\r\n" + _NONE_FOUND[:-9],
    "cut off, the last of its connection": (
        b"200 OK\r\nConnection: close\r\n\r\n" + _NONE_FOUND[:-9]
    ),
    "of a gateway": b"503 Busy\r\nConnection: close\r\nContent-Length: 9\r\n\r\nlater",
    "with a cookie that can't be read": (
        b"200 OK\r\nSet-Cookie: a/b=c\r\nContent-Length: 9999\r\n\r\n" + _NONE_FOUND
    ),
}


@pytest.mark.parametrize("case", _BROKEN)
def test_an_answer_that_is_broken_leaves_no_connection_open(
    vcsim: Vcsim, man: Middleman, tmp_path: Path, case: str
) -> None:
    session = Session(through(man.port, vcsim, tmp_path))
    try:
        session._idle.close()
        man.faults["FindAllByUuid"] = [Raw(b"HTTP/1.1 " + _BROKEN[case])]
        with pytest.raises(Exception, match=r"503|Illegal key|token") as failure:
            list(morefs_of_uuids(session, [_NO_VM]))
        assert _open(man.port) == [], failure  # whose traceback holds what nobody else does
    finally:
        session.close()


def test_a_call_that_outlives_its_session_is_answered_and_leaves_no_connection_open(
    vcsim: Vcsim, man: Middleman, tmp_path: Path
) -> None:
    session = Session(through(man.port, vcsim, tmp_path))
    man.held["FindAllByUuid"] = held = threading.Event()
    man.faults["FindAllByUuid"] = [_NONE_FOUND, _NONE_FOUND]
    answers: list[list[str]] = []
    ask = lambda: answers.append(list(morefs_of_uuids(session, [_NO_VM])))  # noqa: E731
    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: man.calls["FindAllByUuid"], "a call on its way")
    session.close()
    held.set()
    asking.join()
    assert answers == [[]]
    assert _open(man.port) == []


def test_a_read_of_the_old_session_leaves_the_new_one_alone(
    vcsim: Vcsim, man: Middleman, tmp_path: Path
) -> None:
    with following(through(man.port, vcsim, tmp_path)) as inventory, ExitStack() as stack:
        eventually(lambda: inventory.synced and man.versions[-1:] not in ([], [""]), "a wait")
        (vm, *_) = inventory.vms
        man.held["FindAllByUuid"] = held = threading.Event()
        man.faults["FindAllByUuid"] = [fault("NotAuthenticated")]
        answers: list[Any] = []
        reading = threading.Thread(target=lambda: answers.append(fresh(inventory, uuids=[vm.uuid])))
        reading.start()
        stack.callback(reading.join)
        stack.callback(held.set)
        eventually(lambda: man.calls["FindAllByUuid"], "a read on its way")
        before = inventory.vms
        man.say(fault("ManagedObjectNotFound"))  # the one who follows logs in anew
        eventually(lambda: inventory.vms is not before, "a new first read")
        eventually(lambda: inventory.unreachable_since is None, "its news")
        logins, index = man.calls["Login"], inventory.vms
        held.set()
        reading.join()
        assert answers == [(vm,)]
        heard = inventory.heard_at
        eventually(lambda: inventory.heard_at != heard, "it is followed on")
        assert (man.calls["Login"], inventory.vms) == (logins, index)


def test_a_session_that_has_ended_costs_a_reader_no_answer(vcsim: Vcsim, tmp_path: Path) -> None:
    with following(live_address(vcsim, tmp_path)) as inventory:
        eventually(lambda: inventory.synced, "the first read")
        (vm, *_) = inventory.vms
        with vcsim.connect() as instance:
            end_other_sessions(instance)
        assert fresh(inventory, morefs=[vm.moref]) == (vm,)


async def _reads(inventory: ProviderInventory, many: int) -> list[Any]:
    assert inventory.reader is not None
    reads = [
        inventory.reader.read(
            morefs=[f"vm-{number}"], uuids=[], names=[], user=f"{number}", since=time.monotonic()
        )
        for number in range(many)
    ]
    return await asyncio.gather(*reads, return_exceptions=True)


def test_a_secret_that_rotates_ends_what_waits_as_undecided(
    vcsim: Vcsim, man: Middleman, tmp_path: Path
) -> None:
    """Neither as cancelled, which a server takes for a client that has gone, nor as a fault."""
    inventory = ProviderInventory(Provider("mtv", "prod"))
    source = LiveSource(through(man.port, vcsim, tmp_path), inventory)
    source.start()
    stopping = threading.Thread(target=source.stop)
    try:
        eventually(lambda: inventory.unreachable_since is None and inventory.synced, "a read")
        man.held["RetrievePropertiesEx"] = held = threading.Event()

        async def rotate() -> list[Any]:
            reads = asyncio.create_task(_reads(inventory, 9))
            loop = asyncio.get_running_loop()
            before = man.calls["RetrievePropertiesEx"]
            wait = lambda: man.calls["RetrievePropertiesEx"] - before == 4  # noqa: E731
            await loop.run_in_executor(None, eventually, wait, "four reads on their way")
            stopping.start()
            await loop.run_in_executor(None, eventually, lambda: source._reads._shutdown, "a stop")
            held.set()
            return await reads

        answers = asyncio.run(rotate())
    finally:
        source.stop()
        stopping.join()
    ended = [answer for answer in answers if isinstance(answer, VsphereUnreachable)]
    assert len(ended) >= 5
    assert not [one for one in answers if isinstance(one, BaseException) and one not in ended]
    (after,) = asyncio.run(_reads(inventory, 1))
    assert isinstance(after, VsphereUnreachable)
    assert "logging in to provider mtv/prod again" in str(after)
