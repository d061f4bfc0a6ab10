"""Two replicas behind a Service, under load, while all happens to them that happens to pods.

Short, as a part of `make test`; `make soak` gives the same tests their long forms. They are
installed by the shipped manifests, with a Provider in the cluster, certificates of their own and
their service account's rights. tests/balancer.py stands for the Service.
"""

import asyncio
import itertools
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.balancer import UNVERIFIED, Balancer, Probe, balancing
from tests.cases import NAMESPACE, VSPHERE
from tests.e2e.bed import GUARD, Bed, eventually
from tests.e2e.parts import Parts
from tests.e2e.test_certificates import Api, shown
from tests.e2e.test_install import end_namespace
from tests.e2e.test_providers import provider, secret
from tests.e2e.world import MANIFESTS, OWN_CRDS, Vm, pvc, vms_of
from tests.guard import Guard, running
from webhook.model.keys import DISK_SOURCE, VM_ID, VM_UUID
from webhook.server.connection import KEEP_ALIVE
from webhook.tls.authority import of_secret, rotated
from webhook.tls.issuing import KeyPair, leaf

pytestmark = pytest.mark.e2e

OWN = "conversion-guard"
NAMESPACES = 120
"""So many that the calls into one are long over when it is emptied, also on a busy machine."""
CLAIMS = "/api/v1/namespaces/{}/persistentvolumeclaims"
API_SERVERS_IDLE_SECONDS = 90
"""After which it closes a connection to a webhook."""
NAMES = [f"conversion-guard.{OWN}.svc", "127.0.0.1"]
AT_ONCE = 12
"""Calls that wait for their answer. Without a bound a slow machine would be asked more and more at
once, and the API server gives up on a webhook after its timeoutSeconds."""


class Form(NamedTuple):
    """How much of each."""

    seconds: float
    rate: int
    """Creations a second, at most: a machine that can't is asked slower, see AT_ONCE."""
    certificates: int
    restarts: int
    gaps: Sequence[float]
    """Seconds of silence between two bursts. The usual limits are 5 s (uvicorn's own) and 90 s (the
    API server's)."""


SHORT = Form(30, 30, 2, 1, (4, 4.5, 4.9, 5, 5.1, 5.5, 6))
LONG = Form(180, 100, 20, 5, (*SHORT.gaps, 85, 89, 89.9, 90, 90.1, 91, 95))


@pytest.fixture(scope="module")
def form(request: pytest.FixtureRequest) -> Form:
    return LONG if request.config.getoption("--soak") else SHORT


class Replica:
    """A pod: its container can be ended, killed and started again, and keeps its cache."""

    def __init__(self, folder: Path, settings: dict[str, Any], balancer: Balancer) -> None:
        self._folder = folder
        self._settings = {**settings, "cacheDir": str(folder / "cache")}
        self._balancer = balancer
        self._life = ExitStack()
        self.guard: Guard | None = None
        (folder / "cache").mkdir(parents=True)

    @property
    def running(self) -> Guard:
        assert self.guard is not None
        return self.guard

    def start(self) -> None:
        self.guard = self._life.enter_context(running(self._folder, self._settings))
        self._balancer.add(self.guard.port)

    def until_ready(self) -> None:
        eventually(lambda: self.running.port in self._balancer.ready, "it is ready")

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal, and wait for its end: the exit code."""
        guard = self.running
        guard.process.send_signal(how)
        code = guard.process.wait(60)
        self._balancer.remove(guard.port)
        eventually(lambda: not self._balancer.connections(guard.port), "no connection is left")
        self._life.close()
        self.guard = None
        assert "Traceback" not in guard.log, guard.log
        return code


@dataclass
class Cluster:
    """The installed guard: two replicas of it, and who asks the API server."""

    api: Api
    folder: Path
    settings: dict[str, Any]
    balancer: Balancer
    vms: list[Vm]
    replicas: list[Replica] = field(default_factory=list)
    slots: Iterator[int] = field(default_factory=itertools.count)
    """Namespaces, times VMs: where the next claim goes, for a disk is claimed but once in each."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def guards(self) -> list[Guard]:
        return [replica.guard for replica in self.replicas if replica.guard is not None]

    def new_replica(self) -> Replica:
        """A further pod, started."""
        made = Replica(self.folder / f"replica-{next(self._numbers)}", self.settings, self.balancer)
        made.start()
        return made

    def install(self) -> None:
        """The shipped manifests, applied: for the first time, or over what is there."""
        url = f"https://127.0.0.1:{self.balancer.port}"
        self.api.bed.apply_shipped_manifests(MANIFESTS, url)

    def counted(self, name: str) -> dict[str, float]:
        """A counter of the API server, by the guard's webhooks: as its administrator scrapes it."""
        text = self.api.client.get("/metrics").text
        found: dict[str, float] = {}
        for labels, value in re.findall(rf"^{name}\{{(.*)\}} (\S+)$", text, re.M):
            hook = re.search(r'name="([^"]*)"', labels)
            if hook and hook[1].endswith("conversion-guard.io"):
                found[hook[1]] = found.get(hook[1], 0) + float(value)
        return found

    def let_through(self) -> float:
        """Calls that failed, and passed for it: the mutating webhook's, and the Migrations'."""
        return sum(self.counted("apiserver_admission_webhook_fail_open_count").values())


@pytest.fixture(scope="module")
def cluster(programs: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("soak")
    with Bed(programs=programs) as bed, balancing(Probe.shipped()) as balancer:
        bed.install_crds(OWN_CRDS)
        vcsim = bed.add_vcsim(vms=20)
        namespaces = [NAMESPACE, *(f"soak-{number}" for number in range(NAMESPACES))]
        objects = [_namespace(name) for name in namespaces]
        login = {"user": vcsim.user, "password": vcsim.password}
        login["ca.crt"] = vcsim.ca_file.read_text()
        objects += [secret(f"{VSPHERE}-credentials", login), provider(VSPHERE, vcsim.url)]
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        bed.kubectl("create", "-f", "-", stdin=text, check=True)
        settings = {
            "tls": {"source": "self-managed", "namespace": OWN, "extraNames": ["127.0.0.1"]},
            "kubeconfig": str(bed.kubeconfig(GUARD)),
            "providerNamespaces": [NAMESPACE],
            "deniedNetworks": [],
            "trustNetwork": True,
            "shutdownDelay": 8,  # the default
        }
        with bed.api.client() as client:
            cluster = Cluster(Api(bed, client), folder, settings, balancer, vms_of(vcsim))
            cluster.install()
            try:
                cluster.replicas = [cluster.new_replica(), cluster.new_replica()]
                for replica in cluster.replicas:
                    replica.until_ready()
                _until_called(cluster)
                yield cluster
            finally:
                for replica in cluster.replicas:
                    if replica.guard is not None:
                        replica.end(signal.SIGINT)


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _until_called(cluster: Cluster) -> None:
    """Until the webhooks trust the guard and the API server has noticed."""
    wrong = claim("probe", replace(cluster.vms[0], moref="vm-99999"))
    path, dry = CLAIMS.format("soak-0"), {"dryRun": "All"}
    eventually(
        lambda: cluster.api.client.post(path, json=wrong, params=dry).status_code == 422,
        "the API server calls the guard",
    )


def claim(name: str, vm: Vm) -> dict[str, Any]:
    """A right PVC of the VM's first disk, for whichever namespace it is sent to."""
    made = pvc(name, {VM_ID: vm.moref, VM_UUID: vm.uuid}, {DISK_SOURCE: vm.files[0]})
    del made["metadata"]["namespace"]
    return made


class Call(NamedTuple):
    """One creation: when (monotonic seconds), and what is wrong with its answer."""

    kind: str
    begun: float
    ended: float
    fault: str | None


@dataclass
class Load:
    """PVCs created through the API server, each with a verdict that is known beforehand.

    Of ten, six are right, two name their disk by the bare name of its file, which the guard
    completes, and two are wrong. Each namespace is emptied before its turn comes again.
    """

    cluster: Cluster
    calls: list[Call] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def steady(
        self, client: httpx.AsyncClient, rate: int, least: float, stop: threading.Event
    ) -> None:
        """`rate` a second at most; `least` of them, also where a machine needs longer."""
        room = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            try:
                await self.create(client)
            finally:
                room.release()

        async with asyncio.TaskGroup() as calls:
            for number in itertools.count():
                if stop.is_set() and number >= least:
                    return
                await asyncio.gather(asyncio.sleep(1 / rate), room.acquire())
                calls.create_task(one())

    async def burst(self, client: httpx.AsyncClient, size: int) -> None:
        """So many at once."""
        async with asyncio.TaskGroup() as calls:
            for _ in range(size):
                calls.create_task(self.create(client))

    async def create(self, client: httpx.AsyncClient) -> None:
        number = next(self._numbers)
        kind = ("right", "right", "right", "bare", "wrong-uuid")[number % 5]
        if number % 10 == 9:
            kind = "unknown-vm"
        vms = self.cluster.vms
        if kind in ("right", "bare"):
            turn, index = divmod(next(self.cluster.slots), len(vms))
            namespace, vm = f"soak-{turn % NAMESPACES}", vms[index]
            if index == 0:
                await self._empty(client, f"soak-{(turn + NAMESPACES // 2) % NAMESPACES}")
        else:
            # Of a few only: each costs a fresh read now and then, and those are limited.
            namespace, vm = "soak-0", vms[number % 4]
        obj = claim("", vm)
        del obj["metadata"]["name"]
        obj["metadata"]["generateName"] = f"{kind}-"
        if kind == "bare":
            obj["metadata"]["annotations"][DISK_SOURCE] = vm.files[0].rpartition("/")[2]
        elif kind == "wrong-uuid":
            obj["metadata"]["labels"][VM_UUID] = vms[vms.index(vm) - 1].uuid
        elif kind == "unknown-vm":
            obj["metadata"]["labels"][VM_ID] = "vm-99999"
        begun = time.monotonic()
        try:
            answer = await client.post(CLAIMS.format(namespace), json=obj)
            fault = _fault(kind, vm, answer)
        except httpx.HTTPError as error:
            fault = repr(error)
        self.calls.append(Call(kind, begun, time.monotonic(), fault))

    async def _empty(self, client: httpx.AsyncClient, namespace: str) -> None:
        # They end without going: this bed has no controller that takes a finalizer away.
        answer = await client.delete(CLAIMS.format(namespace))
        answer.raise_for_status()

    def faults(self) -> list[str]:
        """What went wrong."""
        return [f"{call.kind}: {call.fault}" for call in self.calls if call.fault]

    def told(self) -> str:
        """Figures for a person."""
        took = sorted(call.ended - call.begun for call in self.calls)
        seconds = max(call.ended for call in self.calls) - min(call.begun for call in self.calls)
        median, p99, most = (
            f"{took[-max(1, len(took) // part)] * 1e3:.0f} ms" for part in (2, 100, len(took))
        )
        rate = f"{len(took)} creations in {seconds:.0f} s ({len(took) / seconds:.0f}/s)"
        return f"{rate}, median {median}, p99 {p99}, most {most}"


def _fault(kind: str, vm: Vm, answer: httpx.Response) -> str | None:
    """What is wrong with the API server's answer; None if it is the right one."""
    status: dict[str, Any] = answer.json()
    if kind in ("right", "bare"):
        if answer.status_code != 201:
            return f"{answer.status_code} {status.get('message')}"
        there = status["metadata"]["annotations"][DISK_SOURCE]
        return None if there == vm.files[0] else f"admitted with {there}"
    expected = {"wrong-uuid": VM_UUID, "unknown-vm": "vm-99999"}[kind]
    message = str(status.get("message"))
    if answer.status_code != 422 or expected not in message:
        return f"{answer.status_code} {message}"
    return None


@contextmanager
def under_load(cluster: Cluster, rate: int, seconds: float) -> Iterator[Load]:
    """Calls while the block runs, and for so long; each is awaited."""
    load, stop = Load(cluster), threading.Event()
    failed: list[BaseException] = []

    async def run() -> None:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(**cluster.api.bed.api.connecting(), limits=limits) as client:
            await load.steady(client, rate, rate * seconds, stop)

    def guarded() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - told by the test
            failed.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield load
    finally:
        stop.set()
        thread.join()
    assert not failed, failed


class Lifes:
    """Restarts of replicas, one after the other, in a thread of its own; one of them by SIGKILL."""

    def __init__(self, replicas: Sequence[Replica], restarts: int) -> None:
        self._replicas, self._restarts = replicas, restarts
        self.codes: list[int] = []
        self.killed = (0.0, 0.0)
        """From the signal until its end has been noticed, and its connections were gone."""
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Lifes":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        assert not self._failed, self._failed

    def _run(self) -> None:
        try:
            for number in range(self._restarts):
                for replica in self._replicas:
                    self.codes.append(replica.end())
                    replica.start()
                    replica.until_ready()
                if number == self._restarts // 2:
                    self._kill(self._replicas[0])
        except BaseException as error:  # noqa: BLE001 - told by the test
            self._failed.append(error)

    def _kill(self, replica: Replica) -> None:
        begun = time.monotonic()
        assert replica.end(signal.SIGKILL) == -signal.SIGKILL
        self.killed = begun, time.monotonic()
        replica.start()
        replica.until_ready()


def _renew(cluster: Cluster) -> None:
    """A new certificate of the same CA, as cert-manager or a person might put it there."""
    held = of_secret(cluster.api.data())
    new = replace(held, leaf=leaf(NAMES, KeyPair(held.cas[0], held.key), datetime.now(UTC)))
    cluster.api.put(new.data())
    _until_served(cluster, new.served[0])


def _until_served(cluster: Cluster, certificate: bytes) -> None:
    def served() -> bool:
        # One that is being restarted reads the Secret when it starts.
        return {shown(guard) for guard in cluster.guards} == {certificate}

    eventually(served, "the new certificate is served")


def _change_ca(cluster: Cluster) -> None:
    """The first step of a change, as a guard writes it when its CA is due; the guards go on."""
    old = of_secret(cluster.api.data())
    cluster.api.put(rotated(old, datetime.now(UTC)).data())

    def changed() -> bool:
        held = of_secret(cluster.api.data())
        return held.issuer == held.cas[0] != old.cas[0]

    eventually(changed, "a certificate of the new CA")
    _until_served(cluster, cluster.api.data()["tls.crt"])


def test_no_call_is_lost_while_certificates_and_replicas_change(
    cluster: Cluster, form: Form
) -> None:
    before = cluster.let_through()
    with (
        under_load(cluster, form.rate, form.seconds) as load,
        Lifes(cluster.replicas, form.restarts) as lifes,
    ):
        for number in range(form.certificates):
            if number == form.certificates // 2:
                _change_ca(cluster)
            _renew(cluster)
    begin, end = lifes.killed
    on_their_way = [call for call in load.calls if call.begun < end and call.ended > begin]
    failed = sum(call.fault is not None for call in on_their_way)
    print(f"\n{load.told()}; {len(on_their_way)} on their way at the SIGKILL: {failed} failed")
    memory = max(guard.peak_memory() for guard in cluster.guards)
    print(f"most memory of a replica: {memory / 2**20:.0f} MiB")
    assert [call.fault for call in load.calls if call.fault and call not in on_their_way] == []
    assert lifes.codes == [0] * 2 * form.restarts
    assert cluster.let_through() - before <= len(on_their_way)
    assert [call for call in on_their_way if not _lost(call)] == [], "none was judged wrongly"


def _lost(call: Call) -> bool:
    """Whether it has the right answer, or what becomes of one whose webhook is killed under it.

    The mutating webhook is passed by then (failurePolicy), so that nothing was filled in: the
    validating one denies what is left, and names what to write.
    """
    fault = call.fault or ""
    unfilled = call.kind == "bare" and fault.startswith("422 ") and DISK_SOURCE in fault
    return not fault or "failed calling webhook" in fault or unfilled


def test_an_upgrade_over_a_running_install_loses_no_call(cluster: Cluster, form: Form) -> None:
    """As the Deployment has it: a new one is ready before an old one is asked to end."""
    before, old = cluster.let_through(), cluster.replicas
    with under_load(cluster, form.rate, 5) as load, ThreadPoolExecutor() as ending:
        cluster.install()
        cluster.replicas, codes = [], []
        for replica in old:
            new = cluster.new_replica()
            new.until_ready()
            codes.append(ending.submit(replica.end))
            cluster.replicas.append(new)
    print(f"\n{load.told()}")
    assert load.faults() == []
    assert cluster.let_through() == before
    assert [code.result() for code in codes] == [0, 0]


def test_no_connection_is_found_closed_after_a_silence(cluster: Cluster, form: Form) -> None:
    """The API server's, and one of the test's own, which the API server's 90 s don't end."""
    assert KEEP_ALIVE > API_SERVERS_IDLE_SECONDS
    before = cluster.let_through()
    load, sizes = Load(cluster), itertools.cycle((1, 30, 4, 80, 12))

    async def bursts() -> None:
        async with httpx.AsyncClient(**cluster.api.bed.api.connecting()) as client:
            await load.burst(client, next(sizes))
            for gap in form.gaps:
                await asyncio.sleep(gap)
                await load.burst(client, next(sizes))
                alive()

    with _kept(cluster.guards[0]) as alive:
        asyncio.run(bursts())
    print(f"\n{load.told()}; silences of {', '.join(f'{gap:g}' for gap in form.gaps)} s")
    assert load.faults() == []
    assert cluster.let_through() == before


@contextmanager
def _kept(guard: Guard) -> Iterator[Callable[[], None]]:
    """A connection, and what proves that it is still there."""
    with closing(HTTPSConnection("127.0.0.1", guard.port, context=UNVERIFIED)) as one:

        def alive() -> None:
            one.request("GET", "/livez")  # on one that is closed: RemoteDisconnected
            assert one.getresponse().read() == b"ok\n"
            assert one.sock is first

        one.connect()
        first = one.sock
        yield alive


def test_when_all_are_dead_claims_wait_and_recovery_needs_no_hand(cluster: Cluster) -> None:
    for replica in cluster.replicas:
        assert replica.end(signal.SIGKILL) == -signal.SIGKILL
    load = Load(cluster)

    async def ten() -> None:
        async with httpx.AsyncClient(**cluster.api.bed.api.connecting()) as client:
            await load.burst(client, 10)

    asyncio.run(ten())
    assert len(load.faults()) == 10
    for fault in load.faults():
        assert 'failed calling webhook "pvc.conversion-guard.io"' in fault
    plain = pvc("plain", {"app": "shop"}, {})
    answer = cluster.api.client.post(
        CLAIMS.format("soak-0"), json=plain | {"metadata": {"name": "plain"}}
    )
    assert answer.status_code == 201
    # kubelet's part, and no other.
    begun = time.monotonic()
    for replica in cluster.replicas:
        replica.start()
    for replica in cluster.replicas:
        replica.until_ready()
    load.calls.clear()
    eventually(lambda: _all_right(load, ten), "every verdict is right again")
    print(f"\nright verdicts {time.monotonic() - begun:.1f} s after the first start")


def _all_right(load: Load, some: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    load.calls.clear()
    asyncio.run(some())
    return load.faults() == []


# Last in this file: it takes away what the others use.
def test_uninstalled_while_it_runs_it_makes_nothing_anew_and_comes_back(cluster: Cluster) -> None:
    bed = cluster.api.bed
    bed.kubectl("delete", "-k", str(MANIFESTS), "--wait=false", check=True)
    for guard in cluster.guards:
        refused = "certificate fails: the API server answers 403"
        eventually(lambda: refused in guard.log, "it has looked in vain")  # noqa: B023
    end_namespace(bed)
    wrong = claim("unchecked", replace(cluster.vms[0], moref="vm-99999"))
    path, dry = CLAIMS.format("soak-0"), {"dryRun": "All"}
    assert cluster.api.client.post(path, json=wrong, params=dry).status_code == 201
    cluster.install()
    _until_called(cluster)
