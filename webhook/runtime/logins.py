"""Which replica logs in to a vCenter's account first: a Lease for each account tells."""

import asyncio
import hashlib
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, TypeVar

from webhook.errors import ClusterUnreachable

if TYPE_CHECKING:
    from webhook.cluster import Cluster
    from webhook.cluster.leases import Lease
    from webhook.vsphere.refusals import Account

T = TypeVar("T")

_PATIENCE = 5.0  # seconds for the API server

_log = logging.getLogger("webhook")


class Logins:
    """A webhook.vsphere.refusals.Turn, by Leases in the guard's own namespace."""

    def __init__(self, namespace: str, replica: str = socket.gethostname()) -> None:
        self._namespace, self._replica = namespace, replica
        self._opened = threading.Event()
        self._at: tuple[asyncio.AbstractEventLoop, Cluster, dict[Account, Lease]] | None = None
        self._trouble = ""

    def open(self, cluster: "Cluster") -> None:
        """From now on it can be asked, by way of the event loop that runs here."""
        self._at = asyncio.get_running_loop(), cluster, {}
        self._opened.set()

    def take(self, account: "Account") -> bool:
        """See Turn."""
        return self._ask(account, lambda lease: lease.hold(), alone=True)

    def give(self, account: "Account") -> None:
        """See Turn."""
        self._ask(account, lambda lease: lease.release(), alone=None)

    def _ask(self, account: "Account", what: "Callable[[Lease], Awaitable[T]]", alone: T) -> T:
        self._opened.wait(_PATIENCE)
        if self._at is None:
            return alone
        loop, cluster, leases = self._at

        async def ask() -> T:
            return await what(leases.get(account) or self._lease(cluster, leases, account))

        asked = asyncio.run_coroutine_threadsafe(ask(), loop)
        try:
            said = asked.result(_PATIENCE)
        except (ClusterUnreachable, TimeoutError, CancelledError) as error:
            asked.cancel()
            trouble = str(error) or "the API server did not answer in time"
            if trouble != self._trouble:
                self._trouble = trouble
                _log.warning("each replica logs in to vSphere on its own: %s", trouble)
            return alone
        self._trouble = ""
        return said

    def _lease(
        self, cluster: "Cluster", leases: "dict[Account, Lease]", account: "Account"
    ) -> "Lease":
        from webhook.cluster.leases import Lease

        text = "\n".join(account).encode()
        name = f"conversion-guard-login-{hashlib.blake2b(text, digest_size=10).hexdigest()}"
        leases[account] = Lease(cluster, self._namespace, name, self._replica)
        return leases[account]
