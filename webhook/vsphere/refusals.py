"""Refused logins, over all Providers: whoever tries a wrong password, it is one account it locks.

vCenter's default policy locks an account for five minutes after five refusals within three.
"""

import hashlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from webhook.errors import VsphereUnreachable

REST = 15 * 60.0
"""Seconds until a password that was refused is tried again."""
WINDOW = 3 * 60.0
"""Seconds within which vCenter counts refusals."""
MOST = 2
"""Passwords that may be refused within them: who mends a typing error is let try at once."""


class Account(NamedTuple):
    """Whose login it is, whatever the Provider."""

    host: str
    """`vcenter.example.com:443`."""
    user: str


class LoginRefused(VsphereUnreachable):
    """The user or the password is wrong: another try would only help to lock the account."""


class Turn(Protocol):
    """Whose turn it is among the replicas to log in to an account: one tries for all of them. Asked
    from threads; where nobody can be asked, each is on its own."""

    def take(self, account: Account) -> bool:
        """Whether it is this one's, for some seconds from now."""
        ...

    def give(self, account: Account) -> None:
        """Let the next one have it."""
        ...


class Refusals:
    """What was refused to whom. Of a password nothing but a hash is kept, and only in memory."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._salt = os.urandom(16)
        self._turns: defaultdict[Account, threading.Lock] = defaultdict(threading.Lock)
        self._refused: defaultdict[Account, dict[bytes, tuple[float, str]]] = defaultdict(dict)
        """By the password's hash: when, and what vSphere said."""
        self._good: dict[Account, bytes] = {}
        """The hash of the password that was taken last."""

    def rest(self, account: Account, password: str) -> float:
        """Seconds until this password may be tried; 0: now."""
        return self._rest(account, password)[0]

    @contextmanager
    def attempt(self, account: Account, password: str, turn: Turn | None = None) -> Iterator[None]:
        """Around a login; one at a time of each account.

        Who is refused keeps its turn, by taking it again and again, until it is let in. Raises
        LoginRefused where the password must rest, VsphereUnreachable where it is another's turn.
        """
        key = self._hash(password)
        with self._turns[account]:
            rest, why = self._rest(account, password)
            if rest > 0:
                raise LoginRefused(why)
            turn = None if self._good.get(account) == key else turn
            if turn is not None and not turn.take(account):
                raise VsphereUnreachable("another replica tries to log in first, for all of them")
            try:
                yield
            except LoginRefused as refusal:
                said = self._now(), str(refusal)
                self._refused[account] = {**self._recent(account), key: said}
                self._good.pop(account, None)
                raise
            except BaseException:
                if turn is not None:
                    turn.give(account)
                raise
            self._refused.pop(account, None)
            self._good[account] = key
            if turn is not None:
                turn.give(account)

    def _rest(self, account: Account, password: str) -> tuple[float, str]:
        recent, now = self._recent(account), self._now()
        if (refused := recent.get(self._hash(password))) is not None:
            return max(0.0, refused[0] + REST - now), refused[1]
        times = sorted(at for at, _ in recent.values())
        if len(times) >= MOST and (rest := times[-MOST] + WINDOW - now) > 0:
            why = f"{MOST} passwords were refused within {WINDOW:.0f} s: the next must wait"
            return rest, why
        return 0.0, ""

    def _recent(self, account: Account) -> dict[bytes, tuple[float, str]]:
        since = self._now() - REST
        refused = self._refused.get(account, {})
        return {key: said for key, said in refused.items() if said[0] > since}

    def _hash(self, password: str) -> bytes:
        return hashlib.blake2b(password.encode(), key=self._salt, digest_size=16).digest()


REFUSALS = Refusals()
"""Those of this process: whatever Providers it has, they share it."""
