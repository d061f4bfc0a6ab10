"""The readiness of all Plans as it changes: a line of JSON for each piece of news.

A stream looks for reasons to judge a Plan again, as the audit does, and judges it for its own
reader, who may know something else than another. What isn't followed, such as pods and quotas, is
no reason: so everything is judged again now and then.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from typing import Any

import msgspec
from fastapi import Response
from starlette.types import Receive, Scope, Send

from webhook.api.answers import ProviderView
from webhook.api.problems import Problem
from webhook.api.service import Service
from webhook.engine.policy import Policy
from webhook.engine.readiness import Readiness
from webhook.engine.watched import Key, Lookout, Watched, vms_of

NEWS_TYPE = "application/x-ndjson"
LOOK = 0.5
"""Seconds between two looks for reasons; and between two Plans, once each has been told: one costs
vSphere a read, of which a user has five a second."""
BEAT = 10.0
"""Seconds between two lines at the most."""
EVERY = 60.0
"""Seconds until every Plan is judged again."""
_PATIENCE = 30.0
"""Seconds that a client may leave a line unread."""


class ProvidersNews(msgspec.Struct, frozen=True, tag="providers"):
    """The Providers that the caller may get, every ten seconds."""

    providers: tuple[ProviderView, ...]


class PlanNews(msgspec.Struct, frozen=True, tag="plan"):
    """A Plan that is new to this stream, or whose readiness has changed."""

    plan: Readiness


class GoneNews(msgspec.Struct, frozen=True, tag="gone"):
    """A Plan that was told of and is deleted, archived or out of the caller's sight."""

    namespace: str
    name: str


class WholeNews(msgspec.Struct, frozen=True, tag="whole"):
    """Every Plan has been told of once."""


class EndNews(msgspec.Struct, frozen=True, tag="end"):
    """The last line: why there are no more, as an error of any call."""

    status: int
    detail: str


NEWS = (ProvidersNews, PlanNews, GoneNews, WholeNews, EndNews)
News = ProvidersNews | PlanNews | GoneNews | WholeNews | EndNews


class NewsStream(Response):
    """The answer that lasts: until its client goes, its token ends, or the server does."""

    media_type = NEWS_TYPE

    def __init__(self, service: Service) -> None:
        # A proxy such as nginx would keep lines back until it has many.
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def line(body: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(_PATIENCE):
                await send({"type": "http.response.body", "body": body, "more_body": more})

        with self._service.callers.streaming(self._service.user):
            headers = self.raw_headers
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            gone = asyncio.ensure_future(_gone(receive))
            try:
                async with aclosing(_news(self._service, gone)) as told:
                    async for news in told:
                        await line(msgspec.json.encode(news) + b"\n")
                await line(b"", more=False)
            except TimeoutError:
                return  # the server closes the connection of an answer without its end
            finally:
                gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _news(service: Service, gone: "asyncio.Future[None]") -> AsyncGenerator[News]:
    try:
        async for news in _Subscriber(service, gone).news():
            yield news
    except Problem as problem:
        yield EndNews(problem.status, str(problem))


class _Subscriber:
    """What one reader has been told, and what is to be judged for him again."""

    def __init__(self, service: Service, gone: "asyncio.Future[None]") -> None:
        self._service, self._gone = service, gone
        self._told: dict[str, Readiness] = {}
        """By `namespace/name`, as all keys here."""
        self._due: dict[str, None] = {}
        self._hidden: set[str] = set()
        """Plans that the reader may not get, by the last list."""
        self._places: set[str] = set()
        """Namespaces whose PVCs have changed since the last look."""
        self._everything = True
        self._policy: Policy | None = None
        self._states: list[Any] = []
        self._watched = Watched()
        self._lookout = Lookout(self._watched)

    async def news(self) -> AsyncIterator[News]:
        """Until `gone` is done. Raises Problem."""
        whole = False
        beat_at = look_at = all_at = time.monotonic()
        with self._heeding():
            while not self._gone.done():
                service = self._service = await self._service.again()
                if service.ending():
                    raise Problem(503, "this replica is about to end: connect again")
                if (now := time.monotonic()) >= look_at:
                    await self._look()
                    look_at = now + LOOK
                if now >= beat_at:
                    yield ProvidersNews(await service.providers())
                    beat_at = now + BEAT
                if self._everything or now >= all_at:
                    self._everything, all_at = False, now + EVERY
                    async for out_of_sight in self._list():
                        yield out_of_sight
                if self._due:
                    key = next(iter(self._due))
                    del self._due[key]
                    if (news := await self._judged(key)) is not None:
                        yield news
                elif not whole:
                    whole = True
                    yield WholeNews()
                await asyncio.wait([self._gone], timeout=LOOK if whole else 0)

    # Reasons

    @contextmanager
    def _heeding(self) -> Iterator[None]:
        followed = self._service.followed
        with ExitStack() as heeding:
            for table, heed in (
                (followed.claims, self._pvc_changed),
                (followed.plans, self._plan_changed),
                (followed.enforced, self._all_changed),
                (followed.classes, self._all_changed),
            ):
                heeding.enter_context(table.heeded(heed))
            yield

    def _pvc_changed(self, key: str) -> None:
        self._places.add(key.partition("/")[0])

    def _plan_changed(self, key: str) -> None:
        if key not in self._hidden:
            self._due[key] = None

    def _all_changed(self, key: str) -> None:
        self._everything = True

    async def _look(self) -> None:
        sources = self._service.sources
        states = [(one.name, one.state) for one in sources.inventory]
        if sources.policy is not self._policy or states != self._states:
            self._policy, self._states, self._everything = sources.policy, states, True
        places, self._places = self._places, set()
        for key, plan in self._told.items():
            if plan.target_namespace in places:
                self._due[key] = None
        async for drift in self._lookout.look(sources.inventory):
            for plan_key in self._watched.touched([drift.vm]):
                self._due[f"{plan_key.namespace}/{plan_key.name}"] = None

    async def _list(self) -> AsyncIterator[GoneNews]:
        """All that the reader may see is due; what else was told of is gone."""
        names = {f"{one.namespace}/{one.name}" for one in await self._service.plans()}
        self._hidden = self._service.followed.plans.keys() - names
        self._due.update(dict.fromkeys(sorted(names)))
        for key in self._told.keys() - names:
            if (gone := self._forget(key)) is not None:
                yield gone

    # Verdicts

    async def _judged(self, key: str) -> PlanNews | GoneNews | None:
        """What is new of it; None where nothing is."""
        service, (namespace, _, name) = self._service, key.partition("/")
        if not service.followed.converts(key):
            return self._forget(key)
        service.callers.charge(service.user, 1)
        try:
            plan = await service.plan(namespace, name)
        except Problem as problem:
            if problem.status not in (403, 404):
                raise
            self._hidden.add(key)  # until the next list
            return self._forget(key)
        vms = vms_of(plan)
        self._watched.put(Key("Plan", namespace, name), vms)
        self._lookout.begin(vms, service.sources.inventory)
        found = await service.readiness(namespace, name, plan)
        if found == self._told.get(key):
            return None
        self._told[key] = found
        return PlanNews(found)

    def _forget(self, key: str) -> GoneNews | None:
        namespace, _, name = key.partition("/")
        self._watched.put(Key("Plan", namespace, name), ())
        return GoneNews(namespace, name) if self._told.pop(key, None) is not None else None
