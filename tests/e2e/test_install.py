"""Installed and uninstalled on the real API server; what the guard's own token may do there."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.cases import NAMESPACE
from tests.e2e.bed import GUARD, PLAIN, Bed, Kubectl, eventually
from tests.e2e.parts import Parts
from tests.e2e.world import MANIFESTS, OWN_CRDS

pytestmark = pytest.mark.e2e

Change = Callable[[dict[str, Any]], object]
KINDS = ("validatingwebhookconfiguration", "mutatingwebhookconfiguration")
GUARDS_NAMESPACE = "conversion-guard"
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "conversion-guard-tls", "namespace": GUARDS_NAMESPACE},
}


@pytest.fixture(scope="module")
def bare(programs: Parts) -> Iterator[Bed]:
    """A cluster with Forklift, and no guard yet."""
    with Bed(programs=programs) as bed:
        bed.install_crds(OWN_CRDS)
        bed.kubectl("create", "namespace", NAMESPACE, check=True)
        yield bed


@pytest.fixture(scope="module")
def bed(bare: Bed) -> Bed:
    """The shipped manifests, as they are; the policy is in force."""
    done = bare.kubectl("apply", "-k", str(MANIFESTS), check=True)
    assert done.stderr == "", "no warning, neither of pod security nor of the policy's types"
    harmful = _change_url
    eventually(lambda: _patch(bare, KINDS[0], harmful).returncode, "the policy is in force")
    return bare


def _patch(bed: Bed, kind: str, change: Change) -> Kubectl:
    """The guard itself changes its configuration; a dry run goes the same way."""
    shown = bed.kubectl("get", kind, "conversion-guard", "-o", "json", user=GUARD, check=True)
    obj = json.loads(shown.stdout)
    change(obj)
    how = ["--type=merge", "--dry-run=server", "-p", json.dumps(obj)]
    return bed.kubectl("patch", kind, "conversion-guard", *how, user=GUARD)


def _apply(bed: Bed, kind: str, obj: dict[str, Any]) -> httpx.Response:
    """Server-side, by the guard. kubectl would first take over what its client side has applied."""
    with bed.api.client(GUARD) as client:
        return client.patch(
            f"/apis/admissionregistration.k8s.io/v1/{kind}s/conversion-guard",
            params={"fieldManager": "conversion-guard"},
            content=json.dumps(obj),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )


def _change_url(obj: dict[str, Any]) -> None:
    obj["webhooks"][0]["clientConfig"] = {"url": "https://elsewhere.example.com/"}


def _first(change: dict[str, Any]) -> Change:
    return lambda obj: obj["webhooks"][0].update(change)


def _service(obj: dict[str, Any]) -> dict[str, Any]:
    service: dict[str, Any] = obj["webhooks"][0]["clientConfig"]["service"]
    return service


def _plain(obj: dict[str, Any]) -> str:
    return PLAIN[obj["kind"]]


def _further(obj: dict[str, Any]) -> None:
    obj["webhooks"].append(obj["webhooks"][0] | {"name": "further.conversion-guard.io"})


def _labelled(obj: dict[str, Any]) -> None:
    obj["metadata"]["labels"]["further"] = "label"


HARMFUL: dict[str, Change] = {
    "url": _change_url,
    "service": lambda obj: obj["webhooks"][0]["clientConfig"]["service"].update(name="other"),
    "path": lambda obj: _service(obj).update(path="/other"),
    "path-of-the-other": lambda obj: _service(obj).update(
        path="/mutate" if obj["kind"].startswith("Validating") else "/validate"
    ),
    "path-with-a-short-end": lambda obj: _service(obj).update(path=f"{_plain(obj)}/{'a' * 63}"),
    "path-with-more": lambda obj: _service(obj).update(path=f"{_plain(obj)}/{'a' * 64}/more"),
    "path-and-port": lambda obj: _service(obj).update(path=f"{_plain(obj)}/{'a' * 64}", port=8444),
    "path-and-url": lambda obj: obj["webhooks"][0].update(
        clientConfig={"service": None, "url": f"https://elsewhere.example.com{_plain(obj)}"}
    ),
    "rules": lambda obj: obj["webhooks"][0]["rules"][0].update(resources=["secrets"]),
    "failure-policy": lambda obj: obj["webhooks"][-1].update(
        failurePolicy="Fail" if obj["webhooks"][-1]["failurePolicy"] == "Ignore" else "Ignore"
    ),
    "conditions": _first({"matchConditions": []}),
    "namespaces": _first({"namespaceSelector": {}}),
    "timeout": _first({"timeoutSeconds": 30}),
    "further-webhook": _further,
    "one-webhook-less": lambda obj: obj["webhooks"].pop(),
    "another-order": lambda obj: obj["webhooks"].reverse(),
    "labels": _labelled,
    "finalizers": lambda obj: obj["metadata"].update(finalizers=["example.com/for-ever"]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", HARMFUL.values(), ids=HARMFUL)
def test_a_stolen_token_changes_nothing_that_is_called(bed: Bed, kind: str, change: Change) -> None:
    done = _patch(bed, kind, change)
    assert done.returncode == 1
    assert "conversion-guard may change only caBundle and the path" in done.stderr, done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_the_guard_writes_its_ca_and_path(bed: Bed, kind: str) -> None:
    bundle = base64.b64encode(bed.api.ca_file.read_bytes()).decode()
    shown = json.loads(bed.kubectl("get", kind, "conversion-guard", "-o", "json").stdout)
    assert {hook["clientConfig"]["service"].get("path") for hook in shown["webhooks"]} == {None}
    path = f"{_plain(shown)}/{'0f' * 32}"

    def trusting(obj: dict[str, Any]) -> None:
        for webhook in obj["webhooks"]:
            webhook["clientConfig"]["caBundle"] = bundle
            webhook["clientConfig"]["service"]["path"] = path

    done = _patch(bed, kind, trusting)
    assert done.returncode == 0, done.stderr

    def applied(path: str) -> dict[str, Any]:
        """As the server does it: applied, each webhook by its name."""
        client = {"caBundle": bundle, "service": {"path": path}}
        return {
            "apiVersion": shown["apiVersion"],
            "kind": shown["kind"],
            "metadata": {"name": "conversion-guard"},
            "webhooks": [
                {"name": webhook["name"], "clientConfig": client} for webhook in shown["webhooks"]
            ],
        }

    def there() -> set[tuple[str, str]]:
        now = json.loads(bed.kubectl("get", kind, "conversion-guard", "-o", "json").stdout)
        clients = [hook["clientConfig"] for hook in now["webhooks"]]
        return {(client["caBundle"], client["service"]["path"]) for client in clients}

    for wanted in (_plain(shown), path, path):
        answer = _apply(bed, kind, applied(wanted))
        assert answer.status_code == httpx.codes.OK, answer.text
        assert there() == {(bundle, wanted)}
    # An upgrade must not take them away again.
    bed.kubectl("apply", "-k", str(MANIFESTS), check=True)
    assert there() == {(bundle, path)}


@pytest.mark.parametrize("kind", KINDS)
def test_of_an_address_only_the_path_is_the_guards_to_change(bed: Bed, kind: str) -> None:
    """Where the API server calls a guard outside of the cluster."""
    base = "https://guard.example.com:8443"
    shown = json.loads(bed.kubectl("get", kind, "conversion-guard", "-o", "json").stdout)
    plain, end = _plain(shown), "a" * 64
    for webhook in shown["webhooks"]:
        webhook["clientConfig"] = {"url": f"{base}{plain}"}
    bed.kubectl("replace", "-f", "-", stdin=json.dumps(shown), check=True)
    try:
        for url, refused in (
            (f"{base}{plain}/{end}", False),
            (f"{base}/other/{end}", True),
            (f"{base}0{plain}/{end}", True),
            (f"https://elsewhere.example.com{plain}/{end}", True),
            (f"https://elsewhere.example.com/{base}{plain}/{end}", True),
        ):
            change = _first({"clientConfig": {"url": url}})
            done = _patch(bed, kind, change)
            assert bool(done.returncode) is refused, (url, done.stderr)
    finally:
        bed.kubectl("delete", kind, "conversion-guard", check=True)
        bed.kubectl("apply", "-k", str(MANIFESTS), check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_guard_makes_and_deletes_no_configuration(bed: Bed, kind: str) -> None:
    obj = json.loads(bed.kubectl("get", kind, "conversion-guard", "-o", "json").stdout)
    obj["metadata"] = {"name": "another"}
    for refused in (
        bed.kubectl("create", "-f", "-", stdin=json.dumps(obj), user=GUARD),
        bed.kubectl("delete", kind, "conversion-guard", user=GUARD),
        bed.kubectl("get", kind, user=GUARD),
    ):
        assert refused.returncode == 1
        assert "forbidden" in refused.stderr, refused.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_holds_even_where_rights_are_too_wide(bed: Bed, kind: str) -> None:
    binding = ["clusterrolebinding", "too-wide"]
    bed.kubectl("create", *binding, "--clusterrole=cluster-admin", f"--user={GUARD}", check=True)
    try:
        obj = json.loads(bed.kubectl("get", kind, "conversion-guard", "-o", "json").stdout)
        obj["metadata"] = {"name": "another"}
        text = json.dumps(obj)
        for refused in (
            bed.kubectl("create", "--dry-run=server", "-f", "-", stdin=text, user=GUARD),
            bed.kubectl("delete", "--dry-run=server", kind, "conversion-guard", user=GUARD),
        ):
            assert refused.returncode == 1
            assert "may not create or delete a webhook configuration" in refused.stderr, (
                refused.stderr
            )
    finally:
        bed.kubectl("delete", *binding, check=True)


def test_the_operator_may_change_them(bed: Bed) -> None:
    patch = '{"metadata": {"annotations": {"example.com/note": "mine"}}}'
    for kind in KINDS:
        done = bed.kubectl("patch", kind, "conversion-guard", "--dry-run=server", "-p", patch)
        assert done.returncode == 0, done.stderr


def test_its_own_secret_and_no_other(bed: Bed) -> None:
    def can(verb: str, what: str, namespace: str) -> bool:
        asked = bed.kubectl("auth", "can-i", verb, what, "-n", namespace, user=GUARD)
        return asked.stdout.strip() == "yes"

    for verb in ("get", "update"):
        assert can(verb, "secrets/conversion-guard-tls", GUARDS_NAMESPACE)
        assert not can(verb, "secrets/another", GUARDS_NAMESPACE)
        assert not can(verb, "secrets/conversion-guard-tls", "default")
    assert can("create", "secrets", GUARDS_NAMESPACE)
    assert not can("create", "secrets", "default")
    for verb in ("list", "watch", "delete"):
        assert not can(verb, "secrets", GUARDS_NAMESPACE)
        assert not can(verb, "secrets/conversion-guard-tls", GUARDS_NAMESPACE)


# Last in this file: it takes away what the others use.
def test_nothing_is_left_behind_and_it_installs_again(bed: Bed) -> None:
    objects = bed.shipped(MANIFESTS)
    bed.kubectl("create", "-f", "-", stdin=json.dumps(SECRET), user=GUARD, check=True)
    for _ in ("first", "again"):
        # No controller empties a namespace in this bed: not awaited.
        bed.kubectl("delete", "-k", str(MANIFESTS), "--wait=false", check=True)
        for item in objects:
            place = item["metadata"].get("namespace")
            if item["kind"] == "Namespace" or place == GUARDS_NAMESPACE:
                continue  # goes as a whole
            named = [item["kind"], item["metadata"]["name"]]
            left = bed.kubectl("get", *named, *(["-n", place] if place else []))
            assert "NotFound" in left.stderr, (named, left.stdout)
        end_namespace(bed)
        bed.kubectl("apply", "-k", str(MANIFESTS), check=True)


def end_namespace(bed: Bed) -> None:
    """What the namespaces' controller does with the guard's, which this bed hasn't got."""
    shown = bed.kubectl("get", "namespace", GUARDS_NAMESPACE, "-o", "json", check=True).stdout
    namespace = json.loads(shown)
    assert namespace["status"]["phase"] == "Terminating"
    for kind in (
        *("secret", "deployment", "service", "serviceaccount", "configmap", "role"),
        *("rolebinding", "networkpolicy", "poddisruptionbudget"),
    ):
        bed.kubectl("delete", kind, "--all", "-n", GUARDS_NAMESPACE, check=True)
    namespace["spec"]["finalizers"] = []
    path = f"/api/v1/namespaces/{GUARDS_NAMESPACE}/finalize"
    bed.kubectl("replace", "--raw", path, "-f", "-", stdin=json.dumps(namespace), check=True)
    assert "NotFound" in bed.kubectl("get", "namespace", GUARDS_NAMESPACE).stderr
