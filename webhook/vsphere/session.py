"""Sessions with a vCenter or an ESXi host: login, logout, bytes, and what a failure means."""

import http.client
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyVmomi import SoapStubAdapter, vim
from pyVmomi.VmomiSupport import GetServiceVersions, GetVersionNamespace

from webhook.errors import VsphereUnreachable
from webhook.vsphere.answers import Change, SoapAnswer
from webhook.vsphere.connection import CONNECT, Idle, Network, SoapConnection, trust
from webhook.vsphere.failures import SessionEnded, explained
from webhook.vsphere.refusals import REFUSALS, Account, LoginRefused

QUICK = 5.0
"""Seconds that one answer may take where somebody waits for it."""
_PIECE = 65_536
_TURN = 24 * 1024
"""Bytes after which a review may have the interpreter: without a pause, however short, it would be
this thread's again before the other has woken."""
_ANSWER_LIMIT = 2**30  # bytes, inflated: twenty times a vCenter of 5,000 VMs

_ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
    "<soapenv:Body>{}</soapenv:Body></soapenv:Envelope>"
)


@dataclass(frozen=True)
class VsphereAddress:
    """Where a vSphere is, and who asks."""

    url: str
    """https://<host>[:<port>]/sdk"""
    user: str
    password: Callable[[], str] = field(repr=False)
    """Called at each login. May raise VsphereUnreachable."""
    ca_file: Path | None = None
    ca: str = field(default="", repr=False)
    """PEM, where the CA isn't in a file."""
    insecure: bool = False
    denied: tuple[Network, ...] = ()
    """Networks that are never connected to, whatever the host's name resolves to."""

    @property
    def signer(self) -> str:
        """Whose signature its certificate must have, in words; empty for the system's CAs."""
        return str(self.ca_file) if self.ca_file else "the CA of its Secret" if self.ca else ""

    @property
    def account(self) -> Account:
        """What is locked where a wrong password is tried too often."""
        parts = urlsplit(self.url)
        return Account(f"{parts.hostname}:{parts.port or 443}", self.user)


def password_of(file: Path) -> Callable[[], str]:
    """A password that may be rotated in its file, without the newline that editors add."""

    def read() -> str:
        try:
            return file.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise VsphereUnreachable(f"password file {file}: {why}") from None

    return read


Attempt = Callable[[str], AbstractContextManager[None]]
"""Of a password: what may hold the login back, and hears how it went."""


class SoapCall:
    """A call on its way."""

    def __init__(self, address: VsphereAddress, connection: SoapConnection, idle: Idle) -> None:
        self._address, self._connection, self._idle = address, connection, idle

    def read(self, answer: SoapAnswer) -> Generator[Change, None, None]:
        """Feed what comes to `answer`, and yield its changes.

        Raises VsphereUnreachable (SessionEnded, SoapFault).
        """
        with explained(self._address.signer):
            try:
                yield from _read(self._connection, answer)
            except BaseException:  # a caller that lost interest, too: the rest is still on its way
                self.drop()
                raise
            self._idle.give_back(self._connection)

    def drop(self) -> None:
        """The answer isn't wanted any more."""
        self._connection.close()


class _Stub(SoapStubAdapter):  # type: ignore[misc]
    """pyVmomi's calls, over connections that `idle` has."""

    def __init__(self, idle: Idle, **named: Any) -> None:
        super().__init__(**named)
        self._idle = idle
        self._taken = threading.local()

    def InvokeMethod(self, *call: Any) -> Any:  # noqa: N802  these four are pyVmomi's names
        try:
            return super().InvokeMethod(*call)
        finally:  # pyVmomi closes what OSError and the like end, but not what a bad cookie does
            if (connection := self._taken.__dict__.pop("connection", None)) is not None:
                connection.close()

    def GetConnection(self) -> SoapConnection:  # noqa: N802
        connection = self._taken.connection = self._idle.take(QUICK)
        return connection

    def ReturnConnection(self, connection: SoapConnection) -> None:  # noqa: N802
        del self._taken.connection
        self._idle.give_back(connection)

    def DropConnections(self) -> None:  # noqa: N802
        self._idle.close()


class Session:
    """One login. Method calls go through pyVmomi, and answers that may be large through `asked`."""

    content: Any
    """The ServiceContent."""

    def __init__(self, address: VsphereAddress, attempt: Attempt | None = None) -> None:
        """Log in, with `attempt` around it. Raises VsphereUnreachable, or LoginRefused."""
        self._address = address
        parts = urlsplit(address.url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._logged_in = False
        """From then on what is asked changes nothing, and may be asked twice."""
        self._idle = Idle(partial(self._connection, QUICK))
        self._waiting: SoapConnection | None = None
        self._broken_off = False
        with explained(address.signer):
            self._tls = trust(address.ca_file, address.ca, address.insecure)
            version = self._negotiate()
            self._stub = _Stub(
                self._idle,
                host=self._host,
                port=self._port,
                path="/sdk",
                version=version,
                sslContext=self._tls,
                httpConnectionTimeout=QUICK,
            )
            self._action = f'"urn:{GetVersionNamespace(version)}"'
            try:
                service: Any = vim.ServiceInstance("ServiceInstance", self._stub)
                self.content = service.RetrieveContent()
                self._login(attempt or partial(REFUSALS.attempt, address.account))
            except BaseException:
                self._idle.end()
                raise
        self._logged_in = True

    def _login(self, attempt: Attempt) -> None:
        address, password = self._address, self._address.password()
        with attempt(password):
            try:
                self.content.sessionManager.Login(address.user, password, None)
            except vim.fault.PasswordExpired:
                raise LoginRefused("its password has expired") from None
            except vim.fault.InvalidLogin:
                raise LoginRefused("user or password is wrong") from None

    def close(self) -> None:
        """Log out: vCenter counts sessions. One out of reach is left to its own time-out."""
        with suppress(Exception):  # whatever it says, there is nothing left to do
            self.content.sessionManager.Logout()
        self._idle.end()
        if self._waiting is not None:
            self._waiting.close()

    def asked(self, call: str, timeout: float) -> "SoapCall":
        """Make the SOAP `call`; its answer is to be read later, or dropped.

        `timeout` is in seconds, for each piece of the answer. Raises VsphereUnreachable.
        """
        with explained(self._address.signer):
            connection = self._idle.take(timeout)
            try:
                self._send(connection, call)
            except BaseException:
                connection.close()
                raise
            return SoapCall(self._address, connection, self._idle)

    def wait(self, call: str, timeout: float, answer: SoapAnswer) -> Iterator[Change]:
        """Ask and read at once, over a connection that `break_off` ends."""
        with explained(self._address.signer):
            if self._waiting is None:
                self._waiting = self._connection(timeout, repeats=False)
            try:
                self._waiting.patience(timeout)
                self._send(self._waiting, call)
                if self._broken_off:  # before there was anything to break
                    raise SessionEnded
                yield from _read(self._waiting, answer)
            except BaseException:
                self._waiting.close()
                self._waiting = None
                if self._broken_off:
                    raise SessionEnded("its session has ended") from None
                raise

    def break_off(self) -> None:
        """End a wait that is blocked, from another thread: a lost session doesn't end it."""
        self._broken_off = True
        with suppress(OSError, AttributeError):
            self._waiting.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    def _send(self, connection: SoapConnection, call: str) -> None:
        headers = {
            "Content-Type": "text/xml; charset=utf-8",
            "SOAPAction": self._action,
            "Cookie": self._stub.cookie,
            "Accept-Encoding": "gzip",
        }
        connection.request("POST", "/sdk", _ENVELOPE.format(call).encode(), headers)

    def _connection(self, timeout: float, *, repeats: bool = True) -> SoapConnection:
        """One that connects when it is used."""
        return SoapConnection(
            self._host,
            self._port,
            timeout=timeout,
            context=self._tls,
            denied=self._address.denied,
            repeats=lambda: repeats and self._logged_in,
        )

    def _negotiate(self) -> str:
        """The newest version that pyVmomi and this vSphere both know."""
        connection = self._connection(CONNECT)
        try:
            connection.request("GET", "/sdk/vimServiceVersions.xml")
            with connection.getresponse() as response:
                text = response.read(_PIECE) if response.status == 200 else b""
        finally:
            connection.close()
        known = set(re.findall(rb"<version>([\w.]{1,32})</version>", text))
        for version in GetServiceVersions("vim25"):
            if GetVersionNamespace(version).rpartition("/")[2].encode() in known:
                return str(version)
        raise VsphereUnreachable(
            f"it is not a vSphere server (HTTP {response.status}): is the address right?"
        )


def _read(connection: SoapConnection, answer: SoapAnswer) -> Iterator[Change]:
    with connection.getresponse() as response:  # left open, it would keep the connection so
        if response.status not in (200, 500):  # a fault comes with 500
            raise VsphereUnreachable(f"it answers with HTTP {response.status}")
        turn = 0
        for piece in _pieces(response):
            yield from answer.feed(piece)
            turn += len(piece)
            if turn >= _TURN:
                turn = 0
                time.sleep(0)
        yield from answer.close()


def _pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body as it comes, inflated where it is gzip, up to the limit."""
    inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
    zipped = response.headers.get("Content-Encoding", "").lower() == "gzip"
    total = 0
    try:
        while piece := response.read1(_PIECE):
            if zipped:
                piece = inflate.decompress(piece, _PIECE)
            while piece:
                total += len(piece)
                if total > _ANSWER_LIMIT:
                    raise VsphereUnreachable(f"its answer is larger than {_ANSWER_LIMIT} bytes")
                yield piece
                piece = inflate.decompress(inflate.unconsumed_tail, _PIECE) if zipped else b""
    except zlib.error:
        raise VsphereUnreachable("its answer is marked as gzip, but is not") from None
