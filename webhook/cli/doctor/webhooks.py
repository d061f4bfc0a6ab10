"""The two webhook configurations, held against those that are shipped, and their certificates."""

import base64
import binascii
import copy
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from webhook import tls
from webhook.cli.doctor.finding import APPLY, Observation
from webhook.errors import CertificateInvalid
from webhook.model import calls
from webhook.settings import Settings

# Where Forklift runs elsewhere, its accounts' namespace is another.
_ACCOUNTS = re.compile(
    r"(\s*'system:serviceaccount:[a-z0-9-]+:forklift-(populator-)?controller'\s*,?)+"
)
_FEW_DAYS = 7.0
_RESTART = "kubectl rollout restart deployment conversion-guard -n {}"


def placed(shipped: Sequence[Mapping[str, Any]], namespace: str) -> list[dict[str, Any]]:
    """As they are shipped, for a guard in that namespace."""
    made: list[dict[str, Any]] = copy.deepcopy(list(map(dict, shipped)))
    for hook in made:
        hook["clientConfig"]["service"]["namespace"] = namespace
        hook["namespaceSelector"]["matchExpressions"][0]["values"][0] = namespace
    return made


def compared(
    kind: str, name: str, there: Mapping[str, Any] | None, shipped: Sequence[Mapping[str, Any]]
) -> Iterator[Observation]:
    """A finding for each webhook that is missing, edited or somebody else's."""
    if there is None:
        what = f"there is no {kind} {name}: the API server does not call the guard"
        yield Observation("webhooks", "wrong", what, APPLY)
        return
    known = {hook["name"]: _unsecret(hook) for hook in there.get("webhooks") or ()}
    faults = []
    for hook in shipped:
        found = known.pop(hook["name"], None)
        if found is None:
            faults.append(f"{hook['name']} is missing")
        else:
            faults += [f"{hook['name']}: {fault}" for fault in _differences(hook, found)]
    faults += [f"{stranger} is not one of the shipped webhooks" for stranger in known]
    for fault in faults:
        yield Observation("webhooks", "wrong", f"{kind} {name}: {fault}", APPLY)
    if not faults:
        what = f"{kind} {name}: {len(shipped)} webhooks, all as shipped"
        yield Observation("webhooks", "good", what)


def _unsecret(hook: Mapping[str, Any]) -> dict[str, Any]:
    """Without the end of its path, which no report may show."""
    client = dict(hook.get("clientConfig") or {})
    led = calls.split((client.get("service") or {}).get("path") or "")
    if led is not None and calls.made(led[1]):
        client["service"] = client["service"] | {"path": calls.path(led[0])}
    return {**hook, "clientConfig": client}


def callers(
    settings: Settings, hooks: Sequence[Mapping[str, Any]], namespace: str
) -> Iterator[Observation]:
    """Whether a caller's userInfo is believed, and why."""
    match settings.callers_proven_by:
        case "certificate":
            what = "callers are proven by the API server's client certificate (clientCAFile)"
            yield Observation("webhooks", "good", what)
        case "network":
            what = "whoever reaches the port is believed (trustNetwork)"
            fix = "make sure that only the API server can reach it"
            yield Observation("webhooks", "note", what, fix)
        case "path":
            ends = [calls.split(_path(hook)) for hook in hooks]
            bare = sum(led is None or not calls.made(led[1]) for led in ends)
            if bare:
                what = f"{bare} of {len(ends)} webhooks have no path of the guard's: their callers"
                fix = _RESTART.format(namespace)
                yield Observation("webhooks", "wrong", f"{what} are not proven", fix)
            else:
                what = "callers are proven by the path that the guard keeps in its webhooks"
                yield Observation("webhooks", "good", f"{what} (trustPath)")
        case "nothing":
            what = "callers are not proven: each learns only what its own object proves"
            fix = "to change it, see docs/who-learns-what.md"
            yield Observation("webhooks", "note", what, fix)


def exempt(
    hooks: Sequence[Mapping[str, Any]], used: Collection[str], guards: str
) -> Iterator[Observation]:
    """One for each namespace of `used` that a webhook leaves out, such as the guard's own."""
    left_out = {
        name
        for hook in hooks
        for one in (hook.get("namespaceSelector") or {}).get("matchExpressions") or ()
        if (one["key"], one["operator"]) == ("kubernetes.io/metadata.name", "NotIn")
        for name in one["values"]
    }
    for place in sorted(left_out.intersection(used)):
        what = f"the webhooks leave out namespace {place}, but Forklift, its Providers or"
        what = f"{what} conversion Plans are there: nothing in it is checked"
        own = "give the guard a namespace of its own: docs/install.md#other-namespaces"
        other = f"move them to another namespace, or take {place} out of providerNamespaces"
        yield Observation("webhooks", "wrong", what, own if place == guards else other)


def _path(hook: Mapping[str, Any]) -> str:
    client = hook.get("clientConfig") or {}
    path = (client.get("service") or {}).get("path") or urlsplit(client.get("url") or "").path
    return str(path)


def _differences(shipped: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[str]:
    for field, wanted in shipped.items():
        found = there.get(field)
        if field == "failurePolicy" and found == "Fail":
            continue  # stricter is a choice: overlays/strict
        if field == "matchConditions":
            yield from _conditions(wanted, found or [])
        elif not _covers(found, wanted):
            yield f"{field} is {_short(found)}, shipped is {_short(wanted)}"
    if there.get("objectSelector"):
        yield f"objectSelector is {_short(there['objectSelector'])}, but the shipped one has none"


def _conditions(
    shipped: Sequence[Mapping[str, str]], there: Sequence[Mapping[str, str]]
) -> Iterator[str]:
    found = {one["name"]: _plain(one["expression"]) for one in there}
    for one in shipped:
        name = one["name"]
        if name not in found:
            yield f"the matchCondition {name} is missing"
        elif found.pop(name) != _plain(one["expression"]):
            yield f"the matchCondition {name} is not the shipped one"
    for name in found:
        yield f"the matchCondition {name} is not one of the shipped ones, and may hold back reviews"


def _plain(expression: str) -> str:
    return _ACCOUNTS.sub("FORKLIFT", " ".join(expression.split()))


def _covers(there: Any, wanted: Any) -> bool:
    """Whether all of `wanted` is there: the API server fills in more."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(_covers(there.get(k), v) for k, v in wanted.items())
    return bool(there == wanted)


def _short(value: Any) -> str:
    text = "absent" if value is None else calls.hidden(str(value))
    return text if len(text) <= 120 else f"{text[:119]}…"


def order(configurations: Sequence[Mapping[str, Any]], own: str) -> Iterator[Observation]:
    """The API server calls mutating webhooks by the order of their configurations' names."""
    early = sorted(
        one["metadata"]["name"]
        for one in configurations
        if one["metadata"]["name"] < own and any(map(_sees_plans, one.get("webhooks") or ()))
    )
    for name in early:
        what = f"{name} sees a Plan before {own} has repaired it, and may deny what {own} repairs"
        yield Observation("webhooks", "wrong", what, f"give {own} a name that sorts before {name}")
    if not early:
        yield Observation("webhooks", "good", f"no other mutating webhook sees a Plan before {own}")


def _sees_plans(hook: Mapping[str, Any]) -> bool:
    return any(
        "forklift.konveyor.io" in rule.get("apiGroups", ()) and "plans" in rule.get("resources", ())
        for rule in hook.get("rules") or ()
    )


def certificates(
    hooks: Sequence[Mapping[str, Any]],
    secret: Mapping[str, str] | None,
    *,
    seen: bool = True,
    name: str,
    host: str,
    namespace: str,
    self_managed: bool,
) -> Iterator[Observation]:
    """The caBundle of every webhook, and the serving certificate in Secret `name`, if it may be
    seen."""
    fix = _RESTART.format(namespace) if self_managed else "check what injects the caBundle"
    bundles = {hook.get("clientConfig", {}).get("caBundle") or "" for hook in hooks}
    if "" in bundles:
        empty = [h["name"] for h in hooks if not h.get("clientConfig", {}).get("caBundle")]
        what = f"the caBundle of {', '.join(sorted(set(empty)))} is empty: the API server trusts no"
        yield Observation("certificates", "wrong", f"{what} guard", fix)
        bundles.discard("")
    if len(bundles) > 1:
        what = "the webhooks have different caBundles: some of them trust another CA"
        yield Observation("certificates", "wrong", what, fix)
    now = datetime.now(UTC)
    cas = [ca for bundle in sorted(bundles) if (ca := _decoded(bundle)) is not None]
    for ca in cas:
        yield from _lasting("the CA in caBundle", ca, now, fix)
    if len(cas) < len(bundles):
        yield Observation("certificates", "wrong", "a caBundle is not PEM in base64", fix)
    if not seen:
        return
    served = _decoded((secret or {}).get("tls.crt", ""))
    if not served:
        what = f"there is no serving certificate in Secret {namespace}/{name}"
        made = f"kubectl logs -n {namespace} deployment/conversion-guard says why none was created"
        how = made if self_managed else "see docs/install.md for what creates it"
        yield Observation("certificates", "wrong", what, how)
        return
    yield from _lasting(f"the certificate in Secret {namespace}/{name}", served, now, fix, host)
    for ca in cas:
        try:
            if not tls.trusted(ca, served, now):
                what = "the serving certificate is not signed by a CA of a caBundle"
                yield Observation("certificates", "wrong", what, fix)
        except CertificateInvalid:
            pass  # said above


def _lasting(
    what: str, pem: bytes, now: datetime, fix: str, host: str | None = None
) -> Iterator[Observation]:
    try:
        shown = tls.shown(pem, now)
    except CertificateInvalid as error:
        yield Observation("certificates", "wrong", f"{what} {error}", fix)
        return
    if shown.days_left <= 0:
        yield Observation("certificates", "wrong", f"{what} has expired", fix)
    elif shown.days_left < _FEW_DAYS:
        what = f"{what} expires in {shown.days_left:.1f} days, and should have been renewed"
        yield Observation("certificates", "wrong", what, fix)
    else:
        yield Observation("certificates", "good", f"{what} is valid for {shown.days_left:.0f} days")
    if host is not None and host not in shown.names:
        what = f"{what} is for {', '.join(sorted(shown.names)) or 'no name'}, not for {host}"
        yield Observation("certificates", "wrong", what, fix)


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
