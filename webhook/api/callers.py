"""Who calls, how often, and what they may: by the API server's word alone."""

import asyncio
import hashlib
import math
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from cachetools import LRUCache, TTLCache

from webhook.api.problems import Problem, Right
from webhook.bucket import Bucket, Buckets
from webhook.engine.sources import Sources
from webhook.errors import ClusterUnreachable
from webhook.inventory.cluster import TokenReader
from webhook.model.objects import User
from webhook.shared import shared, waited

_T = TypeVar("_T")

TOKEN_SECONDS = 10.0
"""How long the API server's word on a token serves, good or bad."""
STRANGERS_RATE = 5.0
"""New tokens a second, and at once, from one address, good ones not counted: each costs the API
server a review. More wait for their turn, so that one stranger's locks out nobody."""
STREAMS_OF_ONE, STREAMS = 5, 100
"""Answers that last, of one user and of all, at once: each judges on its own."""
_TURN_SECONDS = 2.0
_MOST = 2_000  # tokens, users, addresses: a kilobyte for each
_PATIENCE = 10.0  # seconds for the API server to answer
_BEARER = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)", re.ASCII | re.IGNORECASE)
_CHALLENGE = 'Bearer realm="conversion-guard"'


class Callers:
    """Tells callers by their tokens, each for ten seconds, by a hash: no token is kept."""

    def __init__(
        self,
        reader: TokenReader,
        audience: str,
        rate: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader, self._audience, self._now = reader, audience, now
        self._known: TTLCache[bytes, asyncio.Future[User | None]]
        self._known = TTLCache(_MOST, TOKEN_SECONDS, now)
        self._proven: LRUCache[bytes, bool] = LRUCache(_MOST)
        """Tokens that were good at the last look: no stranger at their address concerns them."""
        self._users = Buckets(rate, now, _MOST)
        self._strangers: LRUCache[str, _Strangers] = LRUCache(_MOST)
        self._streams: Counter[str] = Counter()

    async def of(self, authorization: bytes, address: str) -> User:
        """Whose request it is. Raises Problem: 401, 429 or 503."""
        match = _BEARER.fullmatch(authorization.strip())
        if match is None:
            how = f"kubectl create token NAME --audience {self._audience}"
            detail = f"send the header Authorization: Bearer TOKEN, with a token from `{how}`"
            raise Problem(401, detail, headers={"WWW-Authenticate": _CHALLENGE})
        token = match[1]
        user = await self._user(token, address)
        if user is None:
            challenge = f'{_CHALLENGE}, error="invalid_token"'
            detail = f"the token is not valid, or not for the audience {self._audience}"
            raise Problem(401, detail, headers={"WWW-Authenticate": challenge})
        return user

    def admit(self, user: User) -> None:
        """Take one permit of theirs. Raises Problem: 429."""
        bucket = self._users.of(user.username)
        if (wait := bucket.wait()) > 0:
            raise _too_many(wait)
        bucket.take()

    def charge(self, user: User, permits: int) -> None:
        """A request that is worth so many more."""
        self._users.of(user.username).take(permits)

    @contextmanager
    def streaming(self, user: User) -> Iterator[None]:
        """Meanwhile they have one more answer that lasts. Raises Problem, 429, for one too many."""
        name = user.username
        if self._streams[name] >= STREAMS_OF_ONE or self._streams.total() >= STREAMS:
            detail = (
                f"{self._streams[name]} streams of {name} and {self._streams.total()} in all are "
                f"open, of {STREAMS_OF_ONE} and {STREAMS}: close one"
            )
            raise Problem(429, detail, headers={"Retry-After": "10"})
        self._streams[name] += 1
        try:
            yield
        finally:
            self._streams[name] -= 1
            if not self._streams[name]:
                del self._streams[name]

    async def _user(self, token: bytes, address: str) -> User | None:
        key = hashlib.blake2b(token, digest_size=32).digest()
        answer = self._known.get(key)
        if answer is None or _failed(answer):
            answer = shared(self._ask(token, key, address))
            self._known[key] = answer
        return await answered(waited(answer))

    async def _ask(self, token: bytes, key: bytes, address: str) -> User | None:
        strangers = None
        if key not in self._proven:
            strangers = self._strangers.get(address)
            if strangers is None:
                strangers = self._strangers[address] = _Strangers(self._now)
            await strangers.turn()
        bad = False
        try:
            user = await self._reader.user(token.decode(), self._audience)
            bad = user is None
        finally:
            if strangers is not None and not bad:
                strangers.spare()
        if bad:
            self._proven.pop(key, None)
        else:
            self._proven[key] = True
        return user


class _Strangers:
    """The turns of one address's new tokens."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._bucket, self._line = Bucket(STRANGERS_RATE, now), asyncio.Lock()

    async def turn(self) -> None:
        """Raises Problem, 429, where it doesn't come soon."""
        try:
            async with asyncio.timeout(_TURN_SECONDS), self._line:
                await asyncio.sleep(self._bucket.wait())
                self._bucket.take()
        except TimeoutError:
            raise _too_many(self._bucket.wait()) from None

    def spare(self) -> None:
        """It was no stranger's."""
        self._bucket.take(-1.0)


async def answered(asked: Awaitable[_T], within: float = _PATIENCE) -> _T:
    """What the API server says, `within` seconds. Raises Problem where it doesn't."""
    try:
        async with asyncio.timeout(within):
            return await asked
    except ClusterUnreachable as error:
        raise Problem(503, f"the cluster can't answer: {error}") from None
    except TimeoutError:
        raise Problem(503, "the API server did not answer in time: try again") from None


async def demand(sources: Sources, user: User, rights: Collection[Right]) -> None:
    """Every one of `rights`. Raises Problem: 403 with those that are missing, or 503."""
    allowed = await which(sources, user, rights)
    if missing := tuple(right for right in rights if right not in allowed):
        named = "; ".join(map(str, missing[:3])) + ("; …" if len(missing) > 3 else "")
        raise Problem(403, f"{user.username} may not: {named}", missing=missing)


async def which(sources: Sources, user: User, rights: Collection[Right]) -> set[Right]:
    """Those of `rights` that `user` has. Raises Problem: 503."""
    cluster = sources.cluster
    if cluster is None:
        raise Problem(503, "the guard is not connected to a cluster")
    asked = asyncio.gather(
        *(cluster.may(user, one.verb, one.resource, one.namespace, one.name) for one in rights)
    )
    allowed = await answered(asked)
    return {right for right, may in zip(rights, allowed, strict=True) if may}


def _too_many(wait: float) -> Problem:
    detail = "too many requests: wait as long as Retry-After says"
    return Problem(429, detail, headers={"Retry-After": str(max(1, math.ceil(wait)))})


def _failed(answer: "asyncio.Future[User | None]") -> bool:
    return answer.done() and (answer.cancelled() or answer.exception() is not None)
