"""Who calls, how often, and what they may: by the API server's word alone."""

import asyncio
import hashlib
import math
import re
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from webhook.api.problems import Problem, Right
from webhook.engine.decide import Sources
from webhook.errors import ClusterUnreachable
from webhook.inventory.cluster import TokenReader
from webhook.model.objects import User

_T = TypeVar("_T")

TOKEN_SECONDS = 10.0
"""How long the API server's word on a token serves, good or bad."""
STRANGERS_RATE = 5.0
"""Bad tokens a second, and at once, from one address: each costs the API server a review."""
_TOKENS = 10_000
_KEYS = 10_000
_PATIENCE = 10.0  # seconds for the API server to answer
_BEARER = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)", re.ASCII | re.IGNORECASE)
_CHALLENGE = 'Bearer realm="conversion-guard"'


class Buckets:
    """Permits for each key: `rate` a second, as many at once. Who overdraws waits the longer."""

    def __init__(self, rate: float, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most, self._now = rate, max(rate, 1.0), now
        self._permits: dict[str, tuple[float, float]] = {}

    def wait(self, key: str) -> float:
        """Seconds until `key` has a permit; 0 where it has one."""
        return max(0.0, (1.0 - self._left(key)) / self._rate)

    def charge(self, key: str, permits: float = 1.0) -> None:
        """Take them, also those that aren't there yet."""
        left = self._left(key) - permits
        if len(self._permits) >= _KEYS and key not in self._permits:
            kept = [(other, at) for other, at in self._permits.items() if self._left(other) < 1.0]
            self._permits = dict(kept[-_KEYS // 2 :])
        self._permits[key] = left, self._now()

    def _left(self, key: str) -> float:
        left, at = self._permits.get(key, (self._most, 0.0))
        return min(self._most, left + (self._now() - at) * self._rate)


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
        self._known: dict[bytes, tuple[float, asyncio.Future[User | None]]] = {}
        self._users = Buckets(rate, now)
        self._strangers = Buckets(STRANGERS_RATE, now)

    async def of(self, authorization: bytes, address: str) -> User:
        """Whose request it is, and one permit of theirs. Raises Problem: 401, 429 or 503."""
        match = _BEARER.fullmatch(authorization.strip())
        if match is None:
            how = f"kubectl create token NAME --audience {self._audience}"
            detail = f"send Authorization: Bearer TOKEN, with a token of `{how}`"
            raise Problem(401, detail, headers={"WWW-Authenticate": _CHALLENGE})
        token = match[1]
        user = await self._user(token, address)
        if user is None:
            challenge = f'{_CHALLENGE}, error="invalid_token"'
            detail = f"the token is not good, or not made for the audience {self._audience}"
            raise Problem(401, detail, headers={"WWW-Authenticate": challenge})
        _allow(self._users.wait(user.username))
        self._users.charge(user.username)
        return user

    def charge(self, user: User, permits: int) -> None:
        """A request that is worth so many more."""
        self._users.charge(user.username, permits)

    async def _user(self, token: bytes, address: str) -> User | None:
        key = hashlib.blake2b(token, digest_size=32).digest()
        now = self._now()
        at, answer = self._known.get(key, (0.0, None))
        if answer is None or now - at > TOKEN_SECONDS or _failed(answer):
            _allow(self._strangers.wait(address))
            if len(self._known) >= _TOKENS:
                self._known.clear()
            answer = asyncio.ensure_future(self._reader.user(token.decode(), self._audience))
            answer.add_done_callback(lambda done: self._count(done, address))
            self._known[key] = now, answer
        return await answered(asyncio.shield(answer))

    def _count(self, answer: "asyncio.Future[User | None]", address: str) -> None:
        if not _failed(answer) and answer.result() is None:
            self._strangers.charge(address)


async def answered(asked: Awaitable[_T], within: float = _PATIENCE) -> _T:
    """What the API server says, `within` seconds. Raises Problem where it doesn't."""
    try:
        async with asyncio.timeout(within):
            return await asked
    except ClusterUnreachable as error:
        raise Problem(503, f"the cluster can't be asked: {error}") from None
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
        raise Problem(503, "the cluster can't be asked: there is none")
    asked = asyncio.gather(
        *(cluster.may(user, one.verb, one.resource, one.namespace, one.name) for one in rights)
    )
    allowed = await answered(asked)
    return {right for right, may in zip(rights, allowed, strict=True) if may}


def _allow(wait: float) -> None:
    if wait > 0:
        detail = "too many requests: wait as long as Retry-After says"
        raise Problem(429, detail, headers={"Retry-After": str(math.ceil(wait))})


def _failed(answer: "asyncio.Future[User | None]") -> bool:
    return answer.done() and (answer.cancelled() or answer.exception() is not None)
