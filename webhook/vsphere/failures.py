"""What a failure of vSphere's, of the network or of TLS means, in words for a person."""

import http.client
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from pyVmomi import vim, vmodl

from webhook.errors import VsphereUnreachable
from webhook.vsphere.answers import SoapFault

_NO_PERMISSION = (
    "its account lacks a right: grant System.View and System.Read on the root folder, for all below"
)


class SessionEnded(VsphereUnreachable):
    """vSphere doesn't know this session any more: log in again."""


@contextmanager
def explained(ca: str) -> Iterator[None]:
    """Whatever fails inside is raised as VsphereUnreachable, with a cause for a person to read.

    `ca`: whose signature is asked for, in words; empty where that is the system's.
    """
    try:
        yield
    except SoapFault as fault:
        if fault.kind == "NotAuthenticated":
            raise SessionEnded("its session has ended") from None
        if fault.kind == "NoPermission":
            raise VsphereUnreachable(_NO_PERMISSION) from None
        raise
    except VsphereUnreachable:
        raise
    except vim.fault.NotAuthenticated:  # first: it is a NoPermission, too
        raise SessionEnded("its session has ended") from None
    except vim.fault.NoPermission:
        raise VsphereUnreachable(_NO_PERMISSION) from None
    except ssl.SSLCertVerificationError as error:
        fix = f"not signed by {ca}" if ca else "set its CA"
        message = f"its certificate is not trusted: {error.verify_message}; {fix}"
        raise VsphereUnreachable(message) from None
    except TimeoutError:
        raise VsphereUnreachable("it did not answer in time") from None
    except (http.client.HTTPException, ssl.SSLEOFError, ConnectionResetError, BrokenPipeError):
        raise VsphereUnreachable("its answer was cut off") from None
    except ssl.SSLError as error:
        raise VsphereUnreachable(f"TLS failed: {error.reason}") from None
    except OSError as error:
        raise VsphereUnreachable((error.strerror or _kind(error)).lower()) from None
    except vmodl.MethodFault as fault:
        raise VsphereUnreachable(f"it answered with a fault: {_kind(fault)}") from None


def _kind(error: BaseException) -> str:
    return type(error).__name__.rpartition(".")[2]
