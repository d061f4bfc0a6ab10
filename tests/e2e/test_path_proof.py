"""The default install on a real API server: who is told more, by which path, and what is shown.

Two replicas behind a balancer that stands for the Service, the shipped manifests with their rights
and their policy, and failurePolicy Fail: so every lost call is seen.
"""

import base64
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.balancer import UNVERIFIED, Balancer, Probe, balancing
from tests.cases import NAMESPACE, review_of
from tests.command import COMMAND, run
from tests.e2e.bed import GUARD, PLAIN, Bed, eventually, path_of
from tests.e2e.parts import Parts
from tests.e2e.test_certificates import SNAPSHOT, Api
from tests.e2e.world import MANIFESTS, OWN_CRDS, TARGET, pvc
from tests.guard import Guard, running
from webhook.model import calls
from webhook.model.keys import DISK_SOURCE, VM_ID, VM_UUID
from webhook.tls.paths import LIFE

pytestmark = pytest.mark.e2e

RIGHT_UUID = (
    "42324a11-8a5e-2f0d-6b0c-1f2e3d4c5b6a"  # of the demo's vm-178, whose PVC doesn't prove it
)
WRONG = pvc(
    "called",
    {VM_ID: "vm-178", VM_UUID: "00000000-0000-4000-8000-000000000000"},
    {DISK_SOURCE: "[vendor-ds] production-database/vm-disk-001.vmdk"},
)
CLAIMS = path_of(WRONG)
FEW_FILES = ("bash", "-c", 'ulimit -n 192 && exec "$@"', "bash", *COMMAND)
"""So few that there is room for 64 connections."""
ADMIN = {"username": "admin", "groups": ["system:masters", "system:authenticated"]}


@dataclass
class Install:
    """The cluster, what the API server calls, and the replicas behind it."""

    api: Api
    folder: Path
    balancer: Balancer
    stack: ExitStack
    guards: list[Guard] = field(default_factory=list)
    wrote: list[str] = field(default_factory=list)
    """The logs of those that have ended."""
    ends: set[str] = field(default_factory=set)
    """Of all paths that the webhooks have had."""
    _started: Iterator[int] = field(default_factory=itertools.count)

    def start(self, *program: str) -> Guard:
        folder = self.folder / f"guard-{next(self._started)}"
        folder.mkdir()
        settings = {
            "tls": {"extraNames": ["127.0.0.1"], "namespace": "conversion-guard"},
            "kubeconfig": str(self.api.bed.kubeconfig(GUARD)),
            "providerNamespaces": [NAMESPACE],
            "snapshots": [str(SNAPSHOT)],
            "logLevel": "debug",
        }
        guard = self.stack.enter_context(running(folder, settings, program or COMMAND))
        self.balancer.add(guard.port)
        self.guards.append(guard)
        return guard

    def kill(self, guard: Guard) -> None:
        guard.process.kill()
        guard.process.wait(60)
        self.balancer.remove(guard.port)
        self.guards.remove(guard)
        self.wrote.append(guard.log)

    def called(self) -> str:
        """The end of the path that every webhook has. AssertionError while they have several."""
        urls = {hook["clientConfig"]["url"] for hook in self._hooks()}
        led = {calls.split(httpx.URL(url).path) for url in urls}
        ends = {end for _, end in filter(None, led)}
        self.ends |= {end for end in ends if calls.made(end)}
        (end,) = ends
        assert calls.made(end)
        return end

    def _hooks(self) -> list[dict[str, Any]]:
        group = "/apis/admissionregistration.k8s.io/v1"
        return [
            hook
            for kind in PLAIN
            for hook in self.api.get(f"{group}/{kind.lower()}s/conversion-guard")["webhooks"]
        ]

    def create(self, client: httpx.Client) -> str:
        """What the API server says of a wrong PVC; a dry run."""
        answer = client.post(CLAIMS, params={"dryRun": "All"}, json=WRONG)
        return str(answer.json()["message"])

    def forged(self, guard: Guard, path: str) -> str:
        """What somebody learns who says to be the administrator."""
        with guard_client(guard) as client:
            return client.post(path, json=review_of(WRONG, userInfo=ADMIN)).text

    def worthless(self, end: str) -> bool:
        """Whether nobody learns anything by this path any more, from any replica."""
        paths = [calls.path(webhook, end) for webhook in ("validate", "mutate")]
        return not any(RIGHT_UUID in self.forged(g, path) for g in self.guards for path in paths)

    def told(self) -> bool:
        return RIGHT_UUID in self.create(self.api.client)

    def rests(self) -> bool:
        """Whether no change of the path is under way."""
        secret = self.api.whole()
        return secret["path"].decode() == self.called() and not secret["path.old"]

    def outdate(self) -> None:
        """As if an hour had passed."""
        made = datetime.now(UTC) - LIFE - timedelta(seconds=1)
        value = base64.b64encode(made.isoformat().encode()).decode()
        patch = json.dumps({"data": {"path.made": value}})
        how = ["patch", "secret", "conversion-guard-tls", "-n", "conversion-guard"]
        self.api.bed.kubectl(*how, "--type=merge", "-p", patch, check=True)


def guard_client(guard: Guard) -> httpx.Client:
    """A pod that trusts anything."""
    return httpx.Client(base_url=guard.url, verify=False, trust_env=False, timeout=30)  # noqa: S501


@pytest.fixture(scope="module")
def bed(programs: Parts) -> Iterator[Bed]:
    with Bed(programs=programs) as bed:
        bed.install_crds(OWN_CRDS)
        for namespace in (NAMESPACE, TARGET):
            bed.kubectl("create", "namespace", namespace, check=True)
        yield bed


@pytest.fixture(scope="module")
def install(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    with ExitStack() as stack:
        balancer = stack.enter_context(balancing(Probe.shipped()))
        bed.apply_shipped_manifests(MANIFESTS, f"https://127.0.0.1:{balancer.port}")
        api = Api(bed, stack.enter_context(bed.api.client()))
        install = Install(api, tmp_path_factory.mktemp("install"), balancer, stack)
        for _ in range(2):
            install.start()
        eventually(lambda: balancer.ready == {g.port for g in install.guards}, "both ready")
        eventually(install.told, "the API server calls")
        yield install
        for guard in install.guards:
            assert "Traceback" not in guard.log, guard.log


@contextmanager
def creating(install: Install) -> Iterator[list[str]]:
    """Go on creating, as the administrator: every answer, and all of them told more."""
    answers: list[str] = []
    stop = threading.Event()

    def create() -> None:
        with install.api.bed.api.client() as client:
            while not stop.is_set():
                answers.append(install.create(client))
                stop.wait(0.02)

    thread = threading.Thread(target=create)
    thread.start()
    try:
        eventually(lambda: len(answers) > 2, "calls are answered")
        yield answers
        enough = len(answers) + 20
        eventually(lambda: len(answers) > enough, "calls go on")
    finally:
        stop.set()
        thread.join()


def test_who_may_see_the_provider_is_told_and_who_says_so_is_not(install: Install) -> None:
    """As in the demo, by kubectl."""
    bed = install.api.bed
    done = bed.kubectl("create", "-f", "-", stdin=json.dumps(WRONG))
    assert f'"{RIGHT_UUID}", the config.uuid of vm-178 ("production-database")' in done.stderr
    how = ["create", "role", "claims", "--verb=create", "--resource=persistentvolumeclaims"]
    bed.kubectl(*how, "-n", TARGET, check=True)
    binding = ["create", "rolebinding", "claims", "--role=claims", "--user=vendor", "-n", TARGET]
    bed.kubectl(*binding, check=True)
    done = bed.kubectl("create", "-f", "-", stdin=json.dumps(WRONG), user="vendor")
    assert "pvc-vm" in done.stderr
    assert RIGHT_UUID not in done.stderr
    for path in ("/validate", "/validate/", f"/validate/{'0' * 64}", "/validate/%2e", "/mutate"):
        for guard in install.guards:
            answer = install.forged(guard, path)
            assert RIGHT_UUID not in answer
            assert json.loads(answer)["response"]["uid"]
    assert not install.worthless(install.called()), "a forged one is told apart by nothing else"


def test_every_change_loses_no_call_and_tells_no_less(install: Install) -> None:
    eventually(install.rests, "the path is at rest")
    with creating(install) as answers:
        for _ in range(2):
            before = install.called()
            install.outdate()
            eventually(lambda: install.called() != before, "another is called")  # noqa: B023
            eventually(lambda: install.worthless(before), "the old one is worth nothing")  # noqa: B023
            eventually(install.rests, "it is at rest again")
    print(f"{len(answers)} calls while the path changed twice")
    assert [answer for answer in answers if RIGHT_UUID not in answer] == []


def test_a_call_that_its_client_gives_up_changes_the_path(install: Install) -> None:
    eventually(install.rests, "the path is at rest")
    before = install.called()
    with (
        socket.create_connection(("127.0.0.1", install.guards[0].port), 60) as plain,
        UNVERIFIED.wrap_socket(plain) as connection,
    ):
        head = f"POST /validate/{before} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: 100\r\n\r\n{{".encode())
    gone = time.monotonic()
    eventually(lambda: install.worthless(before), "it is worth nothing")
    print(f"worth nothing {time.monotonic() - gone:.1f} s after the call failed")
    eventually(install.told, "the API server is known again")
    assert install.called() != before


def test_a_connection_that_must_make_room_changes_the_path(install: Install) -> None:
    few = install.start(*FEW_FILES)
    eventually(install.rests, "the path is at rest")
    before = install.called()
    with ExitStack() as connections:
        first = connections.enter_context(guard_client(few))
        answer = first.post(f"/validate/{before}", json=review_of(WRONG, userInfo=ADMIN))
        assert RIGHT_UUID in answer.text
        for _ in range(70):
            # Another, where one that has not spoken yet had to go.
            eventually(
                lambda: (
                    connections.enter_context(guard_client(few)).get("/livez").status_code == 200
                ),
                "it is answered",
            )
        eventually(lambda: install.worthless(before), "it is worth nothing")
    eventually(install.told, "the API server is known again")
    assert install.called() != before
    install.kill(few)


def test_a_replica_that_was_killed_changes_it_when_it_starts(install: Install) -> None:
    eventually(install.rests, "the path is at rest")
    before = install.called()
    install.kill(install.guards[0])
    install.start()
    eventually(lambda: install.called() != before, "another is called")
    eventually(lambda: install.worthless(before), "the old one is worth nothing")
    eventually(install.told, "the API server is known")


def test_what_an_error_shows_is_worth_nothing_soon_after_the_start(install: Install) -> None:
    eventually(install.rests, "the path is at rest")
    for guard in tuple(install.guards):
        install.kill(guard)
    message = eventually(lambda: failed(install), "the API server can't call")
    shown = re.findall("/validate/([0-9a-f]{64})", message)
    assert shown == [install.called()], message
    done = run("doctor", "--kubeconfig", install.api.bed.kubeconfig())
    assert "can't call the guard" in done.stdout
    assert shown[0] not in done.stdout
    for _ in range(2):
        install.start()
    started = time.monotonic()
    eventually(lambda: install.worthless(shown[0]), "it is worth nothing")
    print(f"worth nothing {time.monotonic() - started:.1f} s after the start")
    eventually(install.told, "the API server is known")
    assert install.called() != shown[0]


def failed(install: Install) -> str:
    message = install.create(install.api.client)
    return message if "failed calling webhook" in message else ""


# Last in this file: it looks at what the others have left.
def test_no_path_was_written_anywhere_but_where_it_belongs(install: Install) -> None:
    install.called()
    assert len(install.ends) > 4
    client = install.api.client
    asked = [
        "/readyz",
        "/healthz",
        "/livez",
        *(calls.path("validate", end) for end in install.ends),
    ]
    written = {
        **{f"the log of a killed one ({at})": log for at, log in enumerate(install.wrote)},
        "Events": client.get("/apis/events.k8s.io/v1/events").text,
        "doctor": run("doctor", "--kubeconfig", install.api.bed.kubeconfig()).stdout,
        "what users are told": install.create(client),
        # Errors are in the audit of those who got them.
        "what the guard is audited for": "\n".join(
            line for line in install.api.bed.api.audit_log.read_text().splitlines() if GUARD in line
        ),
    }
    for guard in install.guards:
        written[f"the log of {guard.port}"] = guard.log
        written[f"the metrics of {guard.port}"] = guard.metrics()
        with guard_client(guard) as pod:
            written |= {f"{guard.port}{path}": pod.get(path).text for path in asked}
    for what, text in written.items():
        assert text, what
        assert not [end for end in install.ends if end in text], what
