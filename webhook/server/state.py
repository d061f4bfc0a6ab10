"""What the connections of all listeners share, and how many there may be. Imports uvicorn."""

import contextlib
import resource
from collections.abc import Callable
from typing import Any

from uvicorn.server import ServerState

from webhook.server.heads import Heads

MOST_CONNECTIONS = 2000
"""Of all listeners together, a few hundred kilobytes each at the worst. One more takes the place of
the one that has been waiting longest for its client."""
_FILES = 128  # of the process, beside its connections


class State(ServerState):
    """What the connections of all listeners share."""

    connections: set[Any]

    def __init__(self, crowded: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._crowded = crowded
        """Hears of each connection that has to go: a call may have been on its way."""
        self.draining = False
        self.silent: dict[Any, None] = {}
        """Those that have never sent a whole request, the oldest first."""
        self.idle: dict[Any, None] = {}
        """Those that have, and wait for the next one."""
        self._most = min(MOST_CONNECTIONS, _open_files() - _FILES)
        self.heads = Heads()

    def make_room(self, newcomer: Any) -> None:
        """Strangers go before those that are known, and these before one that is answered now."""
        if len(self.connections) > self._most:
            longest = next(iter(self.silent or self.idle), newcomer)
            longest.forget()
            longest.transport.abort()
            self._crowded()


def _open_files() -> int:
    """As many as the process may have, from now on: a soft limit of 1,024 is soon used up."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        soft = most
    return MOST_CONNECTIONS + _FILES if soft == resource.RLIM_INFINITY else soft
