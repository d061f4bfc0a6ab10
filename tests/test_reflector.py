"""The reflector against an API server that does what a real one does only once in a while."""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import msgspec
import pytest
import uvloop

from tests.guard import running
from tests.proxy import proxy
from webhook.cluster import Cluster
from webhook.cluster.client import SILENCE
from webhook.cluster.errors import ClusterMissing
from webhook.cluster.paths import ApiPath
from webhook.cluster.reflector import Reflector

pytestmark = pytest.mark.anyio

PATH = ApiPath("v1", "things")
DEAD: tuple[int, list[Any]] = 0, []
"""No byte ever comes, and no end; the next request is answered."""
ITS_TIME = object()
"""In a watch: the time that it was asked to last, from the request on."""
A_WHILE = 0.3
"""Seconds, in a watch: so long the rest is on its way."""
IDLE: tuple[int, list[Any]] = 200, [ITS_TIME]
"""A watch of a kind without objects: nothing comes, no bookmark either, until its time is over."""
TORN = 66
"""The version of an object that can't be read."""
GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410}}


def thing(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def listed(version: int, *names: str, more: str = "") -> tuple[int, list[Any]]:
    metadata = {"resourceVersion": str(version), "continue": more}
    return 200, [{"metadata": metadata, "items": [thing(name, version) for name in names]}]


def watched(*events: Any) -> tuple[int, list[Any]]:
    return 200, list(events)


def event(kind: str, name: str, version: int) -> dict[str, Any]:
    return {"type": kind, "object": thing(name, version)}


class ApiServer:
    """Answers one request after the other by its script, and then holds the last one open."""

    def __init__(self, script: Sequence[tuple[int, list[Any]]]) -> None:
        self.script = list(script)
        self.asked: list[str] = []
        self.holds = asyncio.Event()
        self.unread = 0
        """How often the account's token can't be read."""

    def token(self, _: object) -> None:
        if self.asked and self.unread:
            self.unread -= 1
            raise FileNotFoundError("token")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head.split(b" ")[1].decode())
            if not self.script:
                self.holds.set()
                await reader.read()
                return
            status, lines = answer = self.script.pop(0)
            if answer is DEAD:
                await reader.read()
                return
            writer.write(f"HTTP/1.1 {status} X\r\nConnection: close\r\n\r\n".encode())
            for line in lines:
                if line is ITS_TIME or line is A_WHILE:
                    await self._pass(reader, head, line)
                    continue
                raw = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
                for start in range(0, len(raw), 50):  # torn anywhere
                    writer.write(raw[start : start + 50])
                    await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, head: bytes, what: object) -> None:
        """Let it go by, unless the request is given up."""
        (asked,) = re.findall(rb"timeoutSeconds=(\d+)", head)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(float(asked) if what is ITS_TIME else A_WHILE):
                await reader.read()


class Store(dict[str, str]):
    def __init__(self) -> None:
        self.heard_at: list[float] = []
        self.ages: list[float] = []
        """How long ago that was, each time."""

    def heard(self, at: float) -> None:
        self.heard_at.append(at)
        self.ages.append(time.monotonic() - at)

    def put(self, key: str, value: str) -> None:
        self[key] = value

    def drop(self, key: str) -> None:
        self.pop(key, None)

    def keys(self) -> set[str]:  # type: ignore[override]
        return set(iter(self))


def decode(raw: bytes | msgspec.Raw) -> tuple[str, str]:
    metadata = msgspec.json.decode(raw)["metadata"]
    if metadata["resourceVersion"] == str(TORN):
        raise LookupError("what nobody thought of")
    return metadata["name"], "seen"


def _kubeconfig(cluster: dict[str, str]) -> str:
    return json.dumps(
        {
            "clusters": [{"name": "x", "cluster": cluster}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "users": [{"name": "x", "user": {"token": "x"}}],
            "current-context": "x",
        }
    )


@asynccontextmanager
async def reflected(
    folder: Path,
    *script: tuple[int, list[Any]],
    silence: float = SILENCE,
    unread: int = 0,
    optional: bool = False,
) -> AsyncIterator[tuple[Store, ApiServer, Reflector[str]]]:
    """What a reflector holds once the script is at its end."""
    api, store = ApiServer(script), Store()
    api.unread = unread
    async with await asyncio.start_server(api.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(_kubeconfig({"server": f"http://127.0.0.1:{port}"}))
        async with Cluster.open(kubeconfig, silence=silence) as opened:
            opened._api.configuration.refresh_api_key_hook = api.token
            labels = {"labelSelector": "vmID,vmUUID"}
            reflector = Reflector(opened, PATH, decode, store, optional=optional, **labels)
            task = asyncio.create_task(reflector.run())
            async with asyncio.timeout(30):
                await api.holds.wait()
            yield store, api, reflector
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_pages_events_and_the_version_to_go_on_from(tmp_path: Path) -> None:
    async with reflected(
        tmp_path,
        listed(7, "a", more="page two"),
        listed(7, "b"),
        watched(
            event("ADDED", "c", 8), event("DELETED", "a", 9), {"type": "BOOKMARK", "object": {}}
        ),
        watched(event("BOOKMARK", "", 12)),
    ) as (store, api, reflector):
        assert store.keys() == {"b", "c"}
        assert reflector.synced.is_set()
        assert reflector.why() == ""
        assert "continue=page two" in unquote_plus(api.asked[1])
        versions = [re.findall(r"resourceVersion=(\d+)", url) for url in api.asked]
        assert versions == [[], [], ["7"], ["9"], ["12"]]
        assert all("labelSelector=vmID,vmUUID" in unquote_plus(url) for url in api.asked)


@pytest.mark.parametrize("gone", [(410, []), watched(GONE), (200, [event("ADDED", "b", 8), GONE])])
async def test_a_version_that_is_too_old_lists_again(
    tmp_path: Path, gone: tuple[int, list[Any]]
) -> None:
    """And what was deleted meanwhile is dropped, which no event will ever say."""
    async with reflected(tmp_path, listed(7, "a", "b"), gone, listed(99, "b")) as (store, api, _):
        assert store.keys() == {"b"}
        assert "resourceVersion=99" in api.asked[-1]


@pytest.mark.parametrize(
    "failure",
    [
        (500, []),
        (403, []),
        watched(b'{"type": "ADDED", "object": {"metadata": {"na'),
        watched(b"<html>no JSON</html>\n"),
        watched({"type": "ERROR", "object": {"code": 500}}),
        watched(b"x" * (2**23 + 2**17)),
        watched({"type": "ERROR", "object": None}),
        watched(),
    ],
    ids=["500", "403", "torn", "html", "error", "endless", "null", "nothing"],
)
async def test_any_failure_is_tried_again_from_where_it_was(
    tmp_path: Path, failure: tuple[int, list[Any]]
) -> None:
    async with reflected(tmp_path, listed(7, "a"), failure, watched(event("ADDED", "b", 8))) as (
        store,
        api,
        reflector,
    ):
        assert store.keys() == {"a", "b"}
        assert "resourceVersion=7" in api.asked[2]
        assert reflector.why() == ""


@pytest.mark.parametrize(
    "garbled", [b"<html>", b"", b"null", b"[]", b'{"metadata": {}, "items": 1}', b'"\xff"']
)
async def test_a_garbled_list_is_asked_for_again(tmp_path: Path, garbled: bytes) -> None:
    async with reflected(tmp_path, (200, [garbled]), listed(7, "a")) as (store, _, reflector):
        assert store.keys() == {"a"}
        assert reflector.why() == ""


async def test_a_token_that_cannot_be_read_is_read_again(tmp_path: Path) -> None:
    script = listed(7, "a"), watched(event("ADDED", "b", 8)), watched(event("ADDED", "c", 9))
    async with reflected(tmp_path, *script, unread=2) as (store, api, _):
        assert api.unread == 0
        assert store.keys() == {"a", "b", "c"}


async def test_an_object_that_cannot_be_read_hides_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told of once, and what was known of it isn't true any more."""
    status, [answer] = listed(7, "a", "b")
    nameless: list[Any] = [None, 5, {}, {"metadata": {"name": None}}]
    answer["items"] = [*nameless, *answer["items"]]
    news = event("MODIFIED", "a", TORN), event("MODIFIED", "a", TORN), event("ADDED", "c", 70)
    async with reflected(tmp_path, (status, [answer]), watched(*news)) as (store, api, reflector):
        assert store.keys() == {"b", "c"}
        assert "resourceVersion=70" in api.asked[-1]
        assert reflector.synced.is_set()
    told = [record.message for record in caplog.records if "is left out" in record.message]
    assert [line.split(" is left")[0] for line in told] == [
        "/api/v1/things: an object without a name",
        "/api/v1/things: a",
    ]


async def test_a_watch_that_has_died_is_noticed_while_the_api_server_is_well(
    tmp_path: Path,
) -> None:
    script = listed(7, "a"), DEAD, watched(event("ADDED", "b", 8)), DEAD, watched()
    async with reflected(tmp_path, *script, silence=0.3) as (store, _, _):
        assert store.keys() == {"a", "b"}


async def test_a_watch_on_which_nothing_happens_is_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """For a kind without objects no bookmark comes, either: that was "fell silent" after 90 s."""
    async with reflected(tmp_path, listed(7), IDLE, IDLE) as (store, api, reflector):
        assert len(store.heard_at) == 3, "the list, and the end of each watch"
        assert (reflector.why(), caplog.messages) == ("", [])
        asked = [int(re.findall(r"timeoutSeconds=(\d+)", url)[0]) for url in api.asked[1:]]
        assert len(asked) == 3
        assert max(asked) < SILENCE, "each proves in time that it was alive, by its own end"


async def test_only_what_came_is_taken_for_a_sign_of_life(tmp_path: Path) -> None:
    async with reflected(tmp_path, (500, []), listed(7, "a"), watched()) as (store, _, _):
        assert len(store.heard_at) == 1, "the list"


@pytest.mark.parametrize("end", [(), (b'{"type": "ADDED", "object": {"metadata": {"na',)])
async def test_an_event_proves_nothing_of_those_behind_it(
    tmp_path: Path, end: tuple[bytes, ...]
) -> None:
    """After a failure a watch begins with what has happened meanwhile. Where it is cut amid that,
    the copy is of a moment long ago."""
    behind = watched(event("ADDED", "b", 8), event("BOOKMARK", "", 12), *end)
    async with reflected(tmp_path, listed(7, "a"), (500, []), behind, behind) as (store, _, _):
        assert store.keys() == {"a", "b"}
        assert len(store.heard_at) == 1, "the list"


async def test_a_watch_proves_all_until_its_time_was_over_however_late_its_end_comes(
    tmp_path: Path,
) -> None:
    script = listed(7, "a"), watched(event("ADDED", "b", 8), ITS_TIME, A_WHILE)
    async with reflected(tmp_path, *script) as (store, _, _):
        assert len(store.heard_at) == 2
        assert store.heard_at[1] - store.heard_at[0] >= 1.0, "it lasted a second"
        assert store.ages[1] >= A_WHILE


@pytest.mark.parametrize(("status", "passing"), [(403, False), (404, False), (500, True)])
async def test_whether_waiting_helps(tmp_path: Path, status: int, passing: bool) -> None:
    async with reflected(tmp_path, (status, []), silence=0.3) as (_, _, reflector):
        assert reflector.passing is passing
        assert str(status) in reflector.why()
    async with reflected(tmp_path, (status, []), listed(7)) as (_, _, reflector):
        assert reflector.passing
        assert reflector.why() == ""


async def test_a_kind_that_is_not_there_has_no_objects_where_it_may_be_missing(
    tmp_path: Path,
) -> None:
    missing: tuple[int, list[Any]] = 404, []
    async with reflected(tmp_path, missing) as (store, _, reflector):
        assert (store.heard_at, reflector.synced.is_set()) == ([], False)
    async with reflected(tmp_path, missing, optional=True) as (store, _, reflector):
        assert reflector.synced.is_set()
        assert (len(store.heard_at) > 0, store.keys()) == (True, set())
        assert "404" in reflector.why(), "as long as it is so"
    gone: tuple[int, list[Any]] = 410, []
    async with reflected(tmp_path, listed(7, "a"), gone, missing, optional=True) as (store, _, _):
        assert store.keys() == set(), "its definition has been taken away"
    async with reflected(tmp_path, (403, []), optional=True) as (_, _, reflector):
        assert not reflector.synced.is_set()


async def test_a_page_that_has_expired_begins_the_list_again(tmp_path: Path) -> None:
    expired: tuple[int, list[Any]] = 410, []
    script = listed(7, "a", more="x"), expired, listed(8, "b")
    async with reflected(tmp_path, *script) as (store, _, reflector):
        assert reflector.synced.is_set()
        assert store.keys() == {"b"}


async def test_nothing_is_known_until_the_whole_list_is(tmp_path: Path) -> None:
    async with reflected(tmp_path, (503, []), listed(7, "a", more="x")) as (_, _, reflector):
        assert not reflector.synced.is_set()
        assert "503" in reflector.why()


def test_a_loop_may_end_with_answers_unread_and_a_call_cut_short(tmp_path: Path) -> None:
    """Its sockets are closed: a warning is an error here, and fails to close the loop."""
    with running(tmp_path, {}) as guard, proxy(guard.port) as far:
        far.delay = 0.01
        url = f"https://127.0.0.1:{far.port}"
        cluster = {"server": url, "certificate-authority": str(guard.ca_file)}
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(_kubeconfig(cluster))

        async def ask() -> None:
            async with Cluster.open(kubeconfig) as opened:
                with pytest.raises(ClusterMissing):
                    await opened.get(PATH)

        async def cut_short() -> None:
            task = asyncio.create_task(ask())
            await asyncio.sleep(0.045)  # in the middle of it
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        for do in (ask, cut_short):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(do())
