"""A guard's own API, asked for VMs, Plans and verdicts: for who has a token, and no vCenter."""

import http.client
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from webhook.cli.look_up import chosen, only
from webhook.engine.readiness import PlanName, Plans, Readiness
from webhook.engine.results import Candidate, Result, Results
from webhook.errors import ManifestInvalid, ServerUnreachable, SettingsInvalid
from webhook.manifests.render import DiskView, Rendered, RenderRequest

_PATIENCE = 90.0  # seconds: the server itself gives a check 60
_LIMIT = 2**26  # bytes
_BASE = "/api/v1"

T = TypeVar("T")


class RemoteGuard(msgspec.Struct, frozen=True):
    """Where the API is, who asks, and whom to trust."""

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None


class _Problem(msgspec.Struct):
    """RFC 9457, as far as a person needs it."""

    title: str = ""
    detail: str = ""


class RemoteProvider(msgspec.Struct, rename="camel"):
    """As the API lists it."""

    namespace: str
    name: str
    type: str
    age_seconds: float | None

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"


class _ProviderList(msgspec.Struct):
    providers: tuple[RemoteProvider, ...]


class _VmPage(msgspec.Struct):
    vms: tuple[dict[str, Any], ...]
    more: str = msgspec.field(default="", name="continue")


class RemoteDisks(msgspec.Struct):
    """A VM as the API shows it, and its disks."""

    vm: dict[str, Any]
    disks: tuple[DiskView, ...]


def providers(server: RemoteGuard, provider: str | None) -> list[RemoteProvider]:
    """Those that the caller may get; `provider`: see look_up.chosen. Raises ServerUnreachable,
    ProviderUnknown."""
    listed = _got(server, "/providers", _ProviderList).providers
    return chosen({one.full_name: one for one in listed}, provider)


def vms(server: RemoteGuard, provider: RemoteProvider, **query: str) -> Iterator[dict[str, Any]]:
    """A RemoteProvider's VMs, as the API lists them with that query. Raises ServerUnreachable."""
    if provider.type != "vsphere":
        return
    after = ""
    while True:
        asked = urlencode({**query, "limit": "500", **({"continue": after} if after else {})})
        page = _got(server, f"{_vms(provider)}?{asked}", _VmPage)
        yield from page.vms
        if not (after := page.more):
            return


def find(server: RemoteGuard, name: str, provider: str | None) -> tuple[RemoteProvider, str]:
    """The provider and the moref of the one VM of that moref, name or path. Raises
    ServerUnreachable, ProviderUnknown, VmUnknown."""
    asked = [one for one in providers(server, provider) if one.type == "vsphere"]
    found = [(one, vm["moref"]) for one in asked for vm in vms(server, one, name=name)]
    return only(name, [(one.full_name, moref, (one, moref)) for one, moref in found])


def disks(server: RemoteGuard, provider: RemoteProvider, moref: str) -> RemoteDisks:
    """Of one VM. Raises ServerUnreachable."""
    return _got(server, f"{_vms(provider)}/{quote(moref)}/disks", RemoteDisks)


def pvcs(
    server: RemoteGuard, provider: RemoteProvider, moref: str, wanted: RenderRequest
) -> Rendered:
    """Of one VM. Raises ServerUnreachable."""
    body = msgspec.json.encode(wanted)
    return _read(server, _call(server, f"{_vms(provider)}/{quote(moref)}/pvcs", body), Rendered)


def _vms(provider: RemoteProvider) -> str:
    return f"/providers/{quote(provider.namespace)}/{quote(provider.name)}/vms"


def check(
    server: RemoteGuard, candidates: Sequence[Candidate], namespace: str
) -> tuple[Result, ...]:
    """Its verdicts, with the files and lines that it doesn't know. Raises ServerUnreachable."""
    try:
        body = msgspec.json.encode([one.object for one in candidates])
    except RecursionError:
        raise ManifestInvalid("an object is nested too deeply") from None
    path = "/check" + (f"?{urlencode({'namespace': namespace})}" if namespace else "")
    results = _read(server, _call(server, path, body), Results).results
    if len(results) != len(candidates):
        raise ServerUnreachable(
            f"{server.url}: {len(results)} results for {len(candidates)} objects"
        )
    return tuple(
        msgspec.structs.replace(
            result, file=one.file or msgspec.UNSET, line=one.line or msgspec.UNSET
        )
        for result, one in zip(results, candidates, strict=True)
    )


def plans(server: RemoteGuard) -> tuple[PlanName, ...]:
    """The conversion Plans that the token's owner may get. Raises ServerUnreachable."""
    return _got(server, "/plans", Plans).plans


def readiness(server: RemoteGuard, namespace: str, name: str) -> Readiness:
    """A Plan's. Raises ServerUnreachable, also where there is no such Plan."""
    path = f"/plans/{quote(namespace, safe='')}/{quote(name, safe='')}/readiness"
    return _got(server, path, Readiness)


def _got(server: RemoteGuard, path: str, answer: type[T]) -> T:
    return _read(server, _call(server, path), answer)


def _read(server: RemoteGuard, answer: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(answer, type=shape)
    except msgspec.DecodeError as error:
        raise ServerUnreachable(f"{server.url}: its answer can't be read: {error}") from None


def _call(server: RemoteGuard, path: str, body: bytes | None = None) -> bytes:
    """The answer to a GET, or with a body to a POST."""
    host, port, base = _address(server.url)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {_token(server)}"}
    connection = http.client.HTTPSConnection(
        host, port, timeout=_PATIENCE, context=_tls(server.ca_file)
    )
    try:
        method = "GET" if body is None else "POST"
        connection.request(method, f"{base}{_BASE}{path}", body, headers)
        with connection.getresponse() as response:
            answer = response.read(_LIMIT + 1)
    except ssl.SSLCertVerificationError as error:
        fix = f"it is not signed by {server.ca_file}" if server.ca_file else "give its --ca-file"
        raise ServerUnreachable(
            f"{server.url}: its certificate is not trusted: {error.verify_message}; {fix}"
        ) from None
    except TimeoutError:
        raise ServerUnreachable(f"{server.url}: did not answer within {_PATIENCE:g} s") from None
    except http.client.HTTPException:
        why = "its answer is not HTTP: is this the guard's API?"
        raise ServerUnreachable(f"{server.url}: {why}") from None
    except OSError as error:
        why = (error.strerror or "the connection broke off").lower()
        raise ServerUnreachable(f"{server.url}: {why}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise ServerUnreachable(f"{server.url}: HTTP {response.status}: {_told(answer)}")
    if len(answer) > _LIMIT:
        raise ServerUnreachable(f"{server.url}: its answer is larger than {_LIMIT >> 20} MiB")
    return answer


def _address(url: str) -> tuple[str, int, str]:
    """Host, port and path."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    # Blanks and what can't be seen are refused by http.client, too, each in a way of its own.
    plain = url.isprintable() and " " not in url and not (parts.query or parts.username)
    if parts.scheme != "https" or not host or not plain:
        raise SettingsInvalid(f"--server {url}: write https://host or https://host:port")
    return host, 443 if port is None else port, parts.path.rstrip("/")


def _told(answer: bytes) -> str:
    """What the server says is wrong, on one line."""
    try:
        problem = msgspec.json.decode(answer, type=_Problem)
    except msgspec.DecodeError:
        return "without a reason: is this the guard's API?"
    said = problem.detail or problem.title
    return "".join(c if c.isprintable() else " " for c in said[:1000])


def _token(server: RemoteGuard) -> str:
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
