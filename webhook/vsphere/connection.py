"""Connections to a vSphere: to allowed addresses only, and made anew where one was closed idle."""

import http.client
import ipaddress
import socket
import ssl
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from webhook.errors import VsphereUnreachable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CONNECT = 10.0
"""Seconds for a connection to be made, whatever its answers may take."""

_CLOSED = ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError


class SoapConnection(http.client.HTTPSConnection):
    """One that vSphere may close while it is idle, unnoticed.

    What goes out on a connection that was used before, and isn't answered because the peer has
    closed it, goes out once more on a new one (as Go's net/http does for what may be sent twice).
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float,
        context: ssl.SSLContext,
        denied: Collection[Network] = (),
        repeats: Callable[[], bool] = lambda: False,
    ) -> None:
        """`timeout` is in seconds, for each piece of an answer; to none of the `denied` networks is
        ever connected; `repeats` says whether a request may be sent twice now."""
        super().__init__(host, port, timeout=timeout, context=context)
        self._create_connection = _outside(denied)  # http.client's own seam
        self._repeats = repeats
        self._sent: tuple[Any, ...] = ()
        self._answered = self._reused = False
        self._response: http.client.HTTPResponse | None = None

    def patience(self, timeout: float) -> None:
        """Wait so many seconds for each piece of an answer from now on."""
        self.timeout = timeout
        if self.sock is not None:
            self.sock.settimeout(timeout)

    def connect(self) -> None:
        self._answered = False
        timeout = self.timeout or CONNECT
        self.timeout = min(timeout, CONNECT)
        try:
            super().connect()
        except BaseException:  # a handshake that fails leaves the socket open
            self.close()
            raise
        finally:
            self.timeout = timeout
        self.sock.settimeout(timeout)

    def close(self) -> None:
        super().close()
        if self._response is not None:  # http.client leaves the last of a connection to its reader
            self._response.close()
            self._response = None

    def request(self, *sent: Any, **named: Any) -> None:
        self._sent, self._reused = sent, self._answered and self.sock is not None
        try:
            super().request(*sent, **named)
        except _CLOSED as error:
            self._repeat(error)

    def getresponse(self) -> http.client.HTTPResponse:
        try:
            response = super().getresponse()
        except _CLOSED as error:
            self._repeat(error)
            response = super().getresponse()
        self._answered, self._response = True, response
        return response

    def _repeat(self, error: Exception) -> None:
        """Send it once more on a new connection. Raises `error` where that wouldn't be right."""
        if not self._reused or not self._repeats():
            raise error
        self.close()
        self._reused = False
        super().request(*self._sent)


class Idle:
    """The connections of a session that nobody uses.

    One that is taken is its user's alone: to be given back after a whole answer, or closed.
    """

    def __init__(self, make: Callable[[], SoapConnection]) -> None:
        self._make = make
        self._idle: deque[SoapConnection] = deque()
        self._over = False

    def take(self, timeout: float) -> SoapConnection:
        """One that waits `timeout` seconds for each piece; a new one connects when it is used."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._make()
        connection.patience(timeout)
        return connection

    def give_back(self, connection: SoapConnection) -> None:
        self._idle.append(connection)
        if self._over:  # since it was taken
            self.close()

    def close(self) -> None:
        """Close those that are there now."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def end(self) -> None:
        """Close them, and from now on each that is given back."""
        self._over = True
        self.close()


def trust(ca_file: Path | None, ca: str, insecure: bool) -> ssl.SSLContext:
    """Whose certificates are taken; `ca` is PEM. Raises VsphereUnreachable."""
    try:
        context = ssl.create_default_context(cafile=ca_file, cadata=ca or None)
    except ssl.SSLError:
        raise VsphereUnreachable("its CA is not a PEM certificate") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _outside(denied: Collection[Network]) -> Callable[..., socket.socket]:
    """Connects to an allowed address of a host, after resolving it itself.

    Checked on the addresses that are then connected to, so that no name can change its mind.
    """

    def connect(
        address: tuple[str, int], timeout: float | None = None, source: Any = None
    ) -> socket.socket:
        refused = []
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        last: OSError | None = None
        for *_, (ip, *_) in found:
            if any(ipaddress.ip_address(ip) in network for network in denied):
                refused.append(str(ip))
                continue
            try:
                return socket.create_connection((str(ip), address[1]), timeout, source)
            except OSError as error:
                last = error
        if last is None:
            raise VsphereUnreachable(f"{', '.join(map(str, refused))} is in deniedNetworks")
        raise last

    return connect
