"""The guard's own certificate on a real API server: made, shared, trusted, renewed, mended.

Two replicas, of which the API server calls one for validation and the other for mutation, both with
failurePolicy Fail: so every lost call is seen. They have the rights of `ROLE`, and no more.
"""

import base64
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from tests.e2e.bed import GUARD, PLAIN, Bed, eventually
from tests.e2e.parts import Parts
from tests.e2e.world import MANIFESTS, TARGET, pvc
from tests.guard import Guard, running
from webhook import tls
from webhook.model.keys import DISK_SOURCE, VM_ID, VM_UUID
from webhook.tls.authority import fresh, of_secret
from webhook.tls.issuing import CA_LIFE, KeyPair, leaf

pytestmark = pytest.mark.e2e

NAMESPACE = "conversion-guard"
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/conversion-guard-tls"
CONFIGURATIONS = {
    kind: f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/conversion-guard"
    for kind in ("validating", "mutating")
}
NAMES = [f"conversion-guard.{NAMESPACE}.svc", "127.0.0.1"]
SNAPSHOT = Path(tls.__file__).parents[1] / "cli" / "demo" / "inventory.yaml"

ROLE = [
    {
        "kind": "Role",
        "metadata": {"name": "conversion-guard-tls", "namespace": NAMESPACE},
        "rules": [
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
            {
                "apiGroups": [""],
                "resources": ["secrets"],
                "resourceNames": ["conversion-guard-tls"],
                "verbs": ["get", "update"],
            },
        ],
    },
    {
        "kind": "ClusterRole",
        "metadata": {"name": "conversion-guard-tls"},
        "rules": [
            {
                "apiGroups": ["admissionregistration.k8s.io"],
                "resources": [f"{kind}webhookconfigurations" for kind in CONFIGURATIONS],
                "resourceNames": ["conversion-guard"],
                "verbs": ["get", "patch"],
            }
        ],
    },
]


@dataclass
class Api:
    """The API server, as its administrator asks it."""

    bed: Bed
    client: httpx.Client

    def get(self, path: str) -> dict[str, Any]:
        answer = self.client.get(path)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def data(self) -> dict[str, bytes]:
        """The Secret's, as far as certificates go."""
        return {key: value for key, value in self.whole().items() if not key.startswith("path")}

    def whole(self) -> dict[str, bytes]:
        """The Secret's."""
        found = self.get(SECRET)["data"]
        return {key: base64.b64decode(value) for key, value in found.items()}

    def put(self, data: dict[str, bytes]) -> None:
        """Write the Secret, whether or not there is one."""
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        named = {"name": "conversion-guard-tls"}
        body = {"metadata": named, "type": "kubernetes.io/tls", "data": encoded}
        answer = self.client.put(SECRET, json=body)
        if answer.status_code == 404:
            answer = self.client.post(SECRET.rpartition("/")[0], json=body)
        answer.raise_for_status()

    def bundles(self) -> list[bytes]:
        """The caBundle of every webhook."""
        return [
            base64.b64decode(webhook["clientConfig"].get("caBundle", ""))
            for path in CONFIGURATIONS.values()
            for webhook in self.get(path)["webhooks"]
        ]

    def overwrite(self, kind: str, bundle: bytes) -> None:
        """Give the first webhook of a configuration another caBundle, as somebody might."""
        value = base64.b64encode(bundle).decode()
        patch = [{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": value}]
        headers = {"Content-Type": "application/json-patch+json"}
        self.client.patch(
            CONFIGURATIONS[kind], content=json.dumps(patch), headers=headers
        ).raise_for_status()

    def trusts(self, data: dict[str, bytes]) -> bool:
        """Whether every webhook has the bundle of this Secret."""
        return set(self.bundles()) == {data["ca.crt"]}

    def register(self, ports: dict[str, int]) -> None:
        """The shipped webhook configurations, without a caBundle, each with a server of its own."""
        for item in self.bed.shipped(MANIFESTS):
            kind = item["kind"].removesuffix("WebhookConfiguration").lower()
            if kind not in ports or not item["kind"].endswith("WebhookConfiguration"):
                continue
            for webhook in item["webhooks"]:
                url = f"https://127.0.0.1:{ports[kind]}{PLAIN[item['kind']]}"
                webhook["clientConfig"] = {"url": url}
                webhook["failurePolicy"] = "Fail"
            self.bed.kubectl(
                *("apply", "--server-side", "--force-conflicts", "-f", "-"),
                stdin=json.dumps(item),
                check=True,
            )

    def reset(self) -> None:
        for path in (SECRET, *CONFIGURATIONS.values()):
            self.client.delete(path)


@pytest.fixture(scope="module")
def bed(programs: Parts) -> Iterator[Bed]:
    with Bed(programs=programs) as bed:
        for namespace in (NAMESPACE, TARGET):
            bed.kubectl("create", "namespace", namespace, check=True)
        yield bed


@pytest.fixture
def api(bed: Bed) -> Iterator[Api]:
    """Without Secret and webhooks, and with the guard's rights as they should be."""
    for role in ROLE:
        kind, metadata = str(role["kind"]), role["metadata"]
        assert isinstance(metadata, dict)
        binding = {
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": kind,
                "name": metadata["name"],
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": GUARD}],
        }
        for item in (role, binding):
            whole = {"apiVersion": "rbac.authorization.k8s.io/v1", **item}
            bed.kubectl("apply", "-f", "-", stdin=json.dumps(whole), check=True)
    with bed.api.client() as client:
        api = Api(bed, client)
        api.reset()
        yield api
        api.reset()


def settings_of(api: Api) -> dict[str, Any]:
    """A replica's."""
    return {
        "tls": {"extraNames": ["127.0.0.1"], "namespace": NAMESPACE},
        "kubeconfig": str(api.bed.kubeconfig(GUARD)),
        "providerNamespaces": [],
        "snapshots": [str(SNAPSHOT)],
    }


@contextmanager
def replicas(api: Api, folder: Path, **chosen: Any) -> Iterator[list[Guard]]:
    """Two, started at once, and the webhooks that call them."""
    settings = {**settings_of(api), **chosen}
    folders = [folder / "one", folder / "other"]
    for each in folders:
        each.mkdir()
    with ExitStack() as stack, ThreadPoolExecutor(2) as threads:
        starting = [
            threads.submit(stack.enter_context, running(each, settings)) for each in folders
        ]
        guards = [one.result() for one in starting]
        api.register(dict(zip(CONFIGURATIONS, (guard.port for guard in guards), strict=True)))
        yield guards
        for guard in guards:
            assert "Traceback" not in guard.log, guard.log


def shown(guard: Guard) -> bytes:
    """The certificate that a new connection is shown, PEM."""
    return ssl.get_server_certificate(("127.0.0.1", guard.port)).encode()


def all_serve(guards: Sequence[Guard], data: dict[str, bytes]) -> bool:
    return {shown(guard) for guard in guards} == {data["tls.crt"]}


def failures(guard: Guard) -> float:
    text = guard.metrics()
    name = 'conversion_guard_certificate_loads_total{result="failed"}'
    return float(re.findall(rf"^{re.escape(name)} (\S+)$", text, re.M)[0])


@dataclass
class Calls:
    """What came of PVC creations, one after the other, and of handshakes beside them."""

    answered: int = 0
    lost: list[str] = field(default_factory=list)


@contextmanager
def calling(api: Api, guards: Sequence[Guard]) -> Iterator[Calls]:
    """Go on creating PVCs (dry) that both webhooks see. At the end some were, and none was lost.

    The API server keeps its connections, so each round shakes hands afresh, too, trusting just what
    the configurations say at that moment, as the API server would.
    """
    calls, stop = Calls(), threading.Event()

    def call() -> None:
        while not stop.is_set():
            try:
                if reason := refused(api):
                    calls.lost.append(reason)
                for guard in tuple(guards):
                    for bundle in set(api.bundles()):
                        handshake(guard.port, bundle)
            except (OSError, httpx.HTTPError) as error:
                calls.lost.append(repr(error))
            calls.answered += 1
            stop.wait(0.05)  # as fast as can be, they would only keep the replicas from their work

    thread = threading.Thread(target=call)
    thread.start()
    try:
        eventually(lambda: calls.answered > 2, "calls are answered")
        yield calls
        enough = calls.answered + 5
        eventually(lambda: calls.answered > enough, "calls go on")
    finally:
        stop.set()
        thread.join()
    assert calls.lost == []


def refused(api: Api) -> str | None:
    """Create a PVC (dry): what the API server says where it couldn't call a webhook."""
    labels = {VM_ID: "vm-178", VM_UUID: "nonsense"}
    body = pvc("called", labels, {DISK_SOURCE: "[none] no.vmdk"})
    path = f"/api/v1/namespaces/{TARGET}/persistentvolumeclaims?dryRun=All"
    answer = api.client.post(path, json=body)
    message = str(answer.json().get("message"))
    assert answer.status_code != 201, "no webhook was called"
    return message if "failed calling webhook" in message else None


def handshake(port: int, bundle: bytes) -> None:
    trusting = ssl.create_default_context(cadata=bundle.decode())
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
        trusting.wrap_socket(plain, server_hostname=NAMES[0]),
    ):
        pass


def cas(bundle: bytes) -> int:
    return len(x509.load_pem_x509_certificates(bundle))


def test_two_replicas_make_one_secret_and_mend_what_others_spoil(api: Api, tmp_path: Path) -> None:
    # Without a path, which changes when a replica starts.
    with replicas(api, tmp_path, trustPath=False) as guards:
        data = api.whole()
        assert all_serve(guards, data), "one was first, and the other has read"
        assert set(data) == {"ca.crt", "ca.key", "tls.crt", "tls.key"}
        eventually(lambda: api.trusts(data), "every webhook trusts the CA")
        eventually(lambda: refused(api) is None, "the API server calls both")
        with calling(api, guards):
            # Somebody takes the CA away: that webhook is mended, and nothing else written.
            others = [api.get(path)["metadata"] for path in (SECRET, CONFIGURATIONS["validating"])]
            started = time.monotonic()
            # Beside the good one, for a call between the two would be lost indeed.
            api.overwrite("mutating", data["ca.crt"] + fresh(NAMES, datetime.now(UTC)).bundle)
            eventually(lambda: api.trusts(data), "the caBundle is as it was")
            print(f"caBundle mended after {time.monotonic() - started:.1f} s")
            for path, before in zip((SECRET, CONFIGURATIONS["validating"]), others, strict=True):
                assert api.get(path)["metadata"]["resourceVersion"] == before["resourceVersion"]
            # Garbage in the Secret.
            for garbage in ({"tls.crt": b"junk", "tls.key": b"\xff"}, dict.fromkeys(data, b"")):
                started = time.monotonic()
                api.put(garbage)
                eventually(lambda: api.data() == data, "the Secret is as it was")
                print(f"Secret mended after {time.monotonic() - started:.1f} s")
        assert all_serve(guards, data)
        api.overwrite("validating", b"")
        assert "x509" in str(refused(api))
        eventually(lambda: refused(api) is None, "an emptied caBundle is filled")
        # A configuration that is gone is told once, and found again when it is back.
        told = "there is no MutatingWebhookConfiguration"
        before = [guard.log.count(told) for guard in guards]
        api.client.delete(CONFIGURATIONS["mutating"]).raise_for_status()
        wanted = [count + 1 for count in before]
        eventually(lambda: [g.log.count(told) for g in guards] == wanted, "it is told")
        api.register(dict(zip(CONFIGURATIONS, (guard.port for guard in guards), strict=True)))
        eventually(lambda: api.trusts(data), "it is found again")
        assert [guard.log.count(told) for guard in guards] == wanted
        assert [failures(guard) for guard in guards] == [0, 0]


def test_a_leaf_is_renewed_and_a_ca_replaced_while_calls_go_on(api: Api, tmp_path: Path) -> None:
    with replicas(api, tmp_path) as guards:
        data = api.data()
        eventually(lambda: api.trusts(data) and refused(api) is None, "calls are answered")
        with calling(api, guards) as calls:
            for days in (21, 31):  # past two thirds of its life; past its end
                held, before = of_secret(api.data()), shown(guards[0])
                issued = datetime.now(UTC) - timedelta(days=days)
                aged = leaf(NAMES, KeyPair(held.cas[0], held.key), issued)
                api.put(replace(held, leaf=aged).data())
                eventually(lambda: shown(guards[0]) != before, "a new leaf is served")  # noqa: B023
                eventually(lambda: all_serve(guards, api.data()), "by both")
                assert api.trusts(data), "the CA is the same"
            # Who deletes the Secret gets a new CA.
            old = data["ca.crt"]
            started = time.monotonic()
            api.client.delete(SECRET).raise_for_status()
            eventually(lambda: all(cas(bundle) == 2 for bundle in api.bundles()), "both CAs")
            assert all(bundle.endswith(old) for bundle in api.bundles())
            print(f"both CAs in every caBundle after {time.monotonic() - started:.1f} s")
            eventually(lambda: _newest(api) and all_serve(guards, api.data()), "its leaf")
            print(f"leaf of the new CA served by both after {time.monotonic() - started:.1f} s")
        print(f"{calls.answered} rounds of calls, none lost")
        assert [failures(guard) for guard in guards] == [0, 0]


def test_a_secret_lost_ten_times_while_a_replica_starts_loses_no_call(
    api: Api, tmp_path: Path
) -> None:
    with replicas(api, tmp_path) as guards:
        eventually(lambda: api.trusts(api.data()), "every webhook trusts the CA")
        eventually(lambda: refused(api) is None, "calls are answered")
        called, folder = list(guards), tmp_path / "third"
        folder.mkdir()
        with calling(api, called) as calls:
            for _ in range(10):
                api.client.delete(SECRET).raise_for_status()
                with running(folder, settings_of(api)) as third:
                    called.append(third)
                    enough = calls.answered + 3
                    eventually(lambda: calls.answered > enough, "calls go on")  # noqa: B023
                    called.remove(third)
                    # One that is under way is not to find it gone.
                    enough = calls.answered + 1
                    eventually(lambda: calls.answered > enough, "calls go on")  # noqa: B023
                assert "Traceback" not in third.log, third.log

            def settled() -> bool:
                data = api.data()
                few = all(cas(bundle) <= 3 for bundle in api.bundles())
                return few and api.trusts(data) and all_serve(guards, data)

            eventually(settled, "few CAs are left, and one certificate")
        print(f"{calls.answered} rounds of calls, none lost")


def test_a_ca_close_to_its_end_is_replaced_without_a_lost_call(api: Api, tmp_path: Path) -> None:
    made = datetime.now(UTC) - CA_LIFE * 0.9
    old = fresh(NAMES, made)
    served = leaf(NAMES, KeyPair(old.cas[0], old.key), datetime.now(UTC))
    api.put(replace(old, leaf=served).data())
    with replicas(api, tmp_path) as guards:
        assert all_serve(guards, api.data())
        assert of_secret(api.data()).issuer == old.cas[0], "its leaf is served on"
        eventually(lambda: refused(api) is None, "calls are answered")
        with calling(api, guards):
            eventually(lambda: _newest(api) and all_serve(guards, api.data()), "a new leaf")
        held = of_secret(api.data())
        assert held.cas[1:] == old.cas, "a replica that was cut off might serve it still"
        assert held.cas[0].not_valid_after_utc > datetime.now(UTC) + CA_LIFE * 0.99


def test_what_may_not_be_mended_is_counted_and_told(api: Api, tmp_path: Path) -> None:
    with replicas(api, tmp_path) as guards:
        data = api.data()
        eventually(lambda: api.trusts(data), "every webhook trusts the CA")
        api.bed.kubectl("delete", "clusterrole", "conversion-guard-tls", check=True)
        api.overwrite("mutating", b"")
        eventually(lambda: all(failures(guard) > 2 for guard in guards), "it is counted")
        for guard in guards:
            told = (
                "certificate fails: the API server answers 403 to GET /apis/admissionregistration"
            )
            # The right may go amid a look: that one has fewer causes than the next.
            lines = [line[line.index(told) :] for line in guard.log.splitlines() if told in line]
            assert lines
            assert len(lines) == len(set(lines)), "not at every look"
        theirs = tls.issue(NAMES, datetime.now(UTC))
        api.put({"tls.crt": theirs.certificate, "tls.key": theirs.key})
        told = "set tls.source: files"
        eventually(lambda: all(told in guard.log for guard in guards), "it is told")
        assert api.data()["tls.crt"] == theirs.certificate, "not the guard's to overwrite"
        assert all_serve(guards, data)


def _newest(api: Api) -> bool:
    """Whether the leaf is of the newest of several CAs."""
    held = of_secret(api.data())
    return len(held.cas) > 1 and held.issuer == held.cas[0]
