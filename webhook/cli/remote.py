"""A guard's own API, asked for what it knows: for who has a token, and no vCenter."""

import http.client
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from webhook.engine.check import Candidate, Result, Results, items
from webhook.engine.readiness import PlanName, Plans, Readiness
from webhook.errors import ManifestInvalid, ServerUnreachable, SettingsInvalid

_PATIENCE = 90.0  # seconds: the server itself gives a check 60
_LIMIT = 2**26  # bytes

T = TypeVar("T")


class Server(msgspec.Struct, frozen=True):
    """Where the API is, who asks, and whom to trust."""

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None


class _Problem(msgspec.Struct):
    """RFC 9457, as far as a person needs it."""

    title: str = ""
    detail: str = ""


def check(server: Server, candidates: Sequence[Candidate], namespace: str) -> tuple[Result, ...]:
    """Its verdicts, with the files and lines that it doesn't know. Raises ServerUnreachable."""
    everything = [one for candidate in candidates for one in items(candidate)]
    try:
        body = msgspec.json.encode([one.object for one in everything])
    except RecursionError:
        raise ManifestInvalid("an object is nested too deeply") from None
    path = "/api/v1/check" + (f"?{urlencode({'namespace': namespace})}" if namespace else "")
    results = _answer(server, "POST", path, Results, body).results
    if len(results) != len(everything):
        raise ServerUnreachable(
            f"{server.url}: {len(results)} results for {len(everything)} objects"
        )
    return tuple(
        msgspec.structs.replace(
            result, file=one.file or msgspec.UNSET, line=one.line or msgspec.UNSET
        )
        for result, one in zip(results, everything, strict=True)
    )


def plans(server: Server) -> tuple[PlanName, ...]:
    """The conversion Plans that the token's owner may get. Raises ServerUnreachable."""
    return _answer(server, "GET", "/api/v1/plans", Plans).plans


def readiness(server: Server, namespace: str, name: str) -> Readiness:
    """A Plan's. Raises ServerUnreachable, also where there is no such Plan."""
    path = f"/api/v1/plans/{quote(namespace, safe='')}/{quote(name, safe='')}/readiness"
    return _answer(server, "GET", path, Readiness)


def _answer(server: Server, method: str, path: str, kind: type[T], body: bytes | None = None) -> T:
    """What it says, of that kind. Raises ServerUnreachable."""
    answer = _asked(server, method, path, body)
    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.DecodeError as error:
        what = kind.__name__.lower()
        raise ServerUnreachable(f"{server.url}: its answer is no {what}: {error}") from None


def _asked(server: Server, method: str, path: str, body: bytes | None) -> bytes:
    parts = urlsplit(server.url)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.username:
        raise SettingsInvalid(f"--server {server.url}: write https://host or https://host:port")
    try:
        port = parts.port or 443
    except ValueError:
        raise SettingsInvalid(f"--server {server.url}: the port is not a number") from None
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {_token(server)}"}
    connection = http.client.HTTPSConnection(
        parts.hostname, port, timeout=_PATIENCE, context=_tls(server.ca_file)
    )
    try:
        connection.request(method, parts.path.rstrip("/") + path, body, headers)
        with connection.getresponse() as response:
            answer = response.read(_LIMIT + 1)
    except ssl.SSLCertVerificationError as error:
        fix = f"it is not signed by {server.ca_file}" if server.ca_file else "give its --ca-file"
        raise ServerUnreachable(
            f"{server.url}: its certificate is not trusted: {error.verify_message}; {fix}"
        ) from None
    except TimeoutError:
        raise ServerUnreachable(f"{server.url}: did not answer within {_PATIENCE:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        why = (getattr(error, "strerror", None) or type(error).__name__).lower()
        raise ServerUnreachable(f"{server.url}: {why}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise ServerUnreachable(f"{server.url}: HTTP {response.status}: {_told(answer)}")
    if len(answer) > _LIMIT:
        raise ServerUnreachable(f"{server.url}: its answer is larger than {_LIMIT >> 20} MiB")
    return answer


def _told(answer: bytes) -> str:
    """What the server says is wrong, on one line."""
    try:
        problem = msgspec.json.decode(answer, type=_Problem)
    except msgspec.DecodeError:
        return "without a reason: is this the guard's API?"
    said = problem.detail or problem.title
    return "".join(c if c.isprintable() else " " for c in said[:1000])


def _token(server: Server) -> str:
    if server.token_file is None:
        raise SettingsInvalid(
            "--server needs --token-file: `kubectl create token ACCOUNT "
            "--audience conversion-guard > FILE` creates one"
        )
    try:
        token = server.token_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise SettingsInvalid(f"--token-file {server.token_file}: {why}") from None
    if not token.isascii() or not token.isprintable() or " " in token or not token:
        raise SettingsInvalid(f"--token-file {server.token_file}: contains no token")
    return token


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise SettingsInvalid(f"--ca-file {ca_file}: is not a PEM certificate") from None
    except OSError as error:
        raise SettingsInvalid(f"--ca-file {ca_file}: {error.strerror}") from None
