"""Sessions with a vCenter or an ESXi host: login, logout, and what a failure means to a person."""

import http.client
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyVim.connect import SmartStubAdapter
from pyVmomi import SoapStubAdapter, vim, vmodl

from webhook.errors import VsphereUnreachable

# A wait blocks on purpose, for WAIT_SECONDS; a fresh read must end before any review's deadline.
WAIT_SECONDS = 25
_WAIT_TIMEOUT = WAIT_SECONDS + 20
_READ_TIMEOUT = 5
_CONNECT_TIMEOUT = 10


@dataclass(frozen=True)
class VsphereAddress:
    """Where a vSphere is, and who asks."""

    url: str
    """https://<host>[:<port>]/sdk"""
    user: str
    password_file: Path
    """Read at each login, so that a rotated password needs no restart."""
    ca_file: Path | None = None
    insecure: bool = False

    def password(self) -> str:
        """What the file says, without the newline that editors add. Raises VsphereUnreachable."""
        try:
            return self.password_file.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise VsphereUnreachable(f"password file {self.password_file}: {why}") from None


class LoginRefused(VsphereUnreachable):
    """The user or the password is wrong: another try would only help to lock the account."""


class SessionEnded(VsphereUnreachable):
    """vSphere doesn't know this session any more: log in again."""


class Session:
    """One login, and two connections: one that may wait, and one for reads that must be quick."""

    content: Any

    def __init__(self, address: VsphereAddress) -> None:
        """Log in. Raises VsphereUnreachable, or LoginRefused."""
        parts = urlsplit(address.url)
        host, port = parts.hostname or "", parts.port or 443
        with told(address):
            context = _tls(address)
            _answers(host, port, context)
            self._waiting = SmartStubAdapter(
                host=host, port=port, sslContext=context, httpConnectionTimeout=_WAIT_TIMEOUT
            )
            self._quick = SoapStubAdapter(
                host=host,
                port=port,
                path="/sdk",
                version=self._waiting.version,
                sslContext=context,
                httpConnectionTimeout=_READ_TIMEOUT,
            )
            try:
                self.content = vim.ServiceInstance(
                    "ServiceInstance", self._waiting
                ).RetrieveContent()
                self.content.sessionManager.Login(address.user, address.password(), None)
            except BaseException:
                self._drop()
                raise
            self._quick.cookie = self._waiting.cookie

    def quick(self, managed_object: Any) -> Any:
        """The same managed object, asked over the connection for reads."""
        return type(managed_object)(managed_object._moId, self._quick)

    def vm(self, moref: str) -> Any:
        """The VM of that moref, which must have passed MOREF: pyVmomi escapes nothing."""
        return vim.VirtualMachine(moref, self._quick)

    def close(self) -> None:
        """Log out: vCenter counts sessions. One out of reach is left to its own time-out."""
        with suppress(Exception):  # whatever it says, there is nothing left to do
            self.quick(self.content.sessionManager).Logout()
        self._drop()

    def _drop(self) -> None:
        for stub in (self._quick, self._waiting):
            stub.DropConnections()


@contextmanager
def told(address: VsphereAddress) -> Iterator[None]:
    """Whatever fails inside is raised as VsphereUnreachable with a cause for a person to read."""
    try:
        yield
    except VsphereUnreachable:
        raise
    except vim.fault.InvalidLogin:
        raise LoginRefused(f"user or password is wrong (user {address.user})") from None
    except (vim.fault.NoPermission, vim.fault.PasswordExpired) as fault:
        raise LoginRefused(f"the login was refused: {_kind(fault)} (user {address.user})") from None
    except vim.fault.NotAuthenticated:
        raise SessionEnded("its session has ended") from None
    except ssl.SSLCertVerificationError as error:
        fix = f"not signed by {address.ca_file}" if address.ca_file else "set caFile"
        message = f"its certificate is not trusted: {error.verify_message}; {fix}"
        raise VsphereUnreachable(message) from None
    except TimeoutError:
        raise VsphereUnreachable("it did not answer in time") from None
    except OSError as error:
        raise VsphereUnreachable((error.strerror or _kind(error)).lower()) from None
    except http.client.HTTPException as error:
        raise VsphereUnreachable(f"it broke off its answer: {_kind(error)}") from None
    except vmodl.MethodFault as fault:
        raise VsphereUnreachable(f"it answered with a fault: {_kind(fault)}") from None


def _answers(host: str, port: int, context: ssl.SSLContext) -> None:
    """Ask what pyVmomi is about to ask, but with a time-out, which it doesn't set."""
    connection = http.client.HTTPSConnection(host, port, timeout=_CONNECT_TIMEOUT, context=context)
    try:
        connection.request("GET", "/sdk/vimServiceVersions.xml")
        status = connection.getresponse().status
    finally:
        connection.close()
    if status != 200:
        raise VsphereUnreachable(f"it is no vSphere: /sdk/vimServiceVersions.xml answers {status}")


def _tls(address: VsphereAddress) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=address.ca_file)
    if address.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _kind(error: BaseException) -> str:
    return type(error).__name__.rpartition(".")[2]
