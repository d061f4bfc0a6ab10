"""What the API server refuses, and what failed on the way to it: each a ClusterUnreachable."""

import os
import ssl

import aiohttp

from webhook.errors import ClusterUnreachable


class ClusterSilent(ClusterUnreachable):
    """No answer came: from where, only who looks after the guard may be told."""


class ClusterGone(ClusterUnreachable):
    """410: the resource version is too old, or a page has expired. List again."""


class ClusterMissing(ClusterUnreachable):
    """404: there is no such object, or no such kind."""


class ClusterForbidden(ClusterUnreachable):
    """403: this account has no right to do that."""


class ClusterBusy(ClusterUnreachable):
    """429: too many requests, or a kind whose first objects are still being read."""


class ClusterConflict(ClusterUnreachable):
    """409: somebody else was quicker, to create it or to change it. Read again."""


_ERRORS = {
    403: ClusterForbidden,
    404: ClusterMissing,
    409: ClusterConflict,
    410: ClusterGone,
    429: ClusterBusy,
}


def check(status: int, method: str, path: str) -> None:
    """Raises what an answer with this status means, unless it is a good one."""
    if status in (200, 201):
        return
    what = f"the API server answers {status} to {method} {path}"
    raise _ERRORS.get(status, ClusterUnreachable)(what)


def unreachable(error: Exception) -> ClusterUnreachable:
    """What is to be raised for one of aiohttp's, of ssl's or of the kubernetes package's."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return _ERRORS.get(status, ClusterUnreachable)(f"the API server answers {status}")
    return ClusterSilent(f"the API server can't be reached: {_cause(error)}")


def _cause(error: Exception) -> str:
    """In words, and without an address: who is told of it need not know any."""
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return "its address is no URL: write https://host:port"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name can't be resolved"
    if isinstance(error, ssl.CertificateError | aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted"
    if isinstance(error, ssl.SSLError | aiohttp.ClientSSLError):
        return "no TLS connection can be made with it"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    if isinstance(error, aiohttp.ClientConnectorError):
        return "it can't be connected to"
    if isinstance(error, aiohttp.ClientError):
        return "the connection broke off"
    return type(error).__name__
