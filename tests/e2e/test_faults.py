"""Random faults under load: no verdict is wrong, whatever fails.

Two vCenters and the API server behind proxies that cut, swallow and delay; disks come and go;
rights are taken away; replicas are killed. Short, as a part of `make test`; `make soak` gives it
its long form, and `--seeds 1,2` gives one again. Only a wrong verdict fails it: a slow machine is
asked slower, and what it has no time for is undecided.
"""

import asyncio
import json
import secrets
import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx
import pytest

from tests.balancer import Probe, balancing
from tests.cases import NAMESPACE
from tests.e2e.bed import LONGEST_WAIT, Bed, find_vm, path_of, set_status, set_uuid
from tests.e2e.faults.chaos import LONG, SHORT, Chaos, Form
from tests.e2e.faults.load import CLAIMS, DISKS, PLANS, Load, claim_of, conversion
from tests.e2e.faults.oracle import GATES, OTHERS, fault
from tests.e2e.faults.truth import Vcenter
from tests.e2e.parts import Parts
from tests.e2e.test_certificates import Api
from tests.e2e.test_following import by
from tests.e2e.test_providers import provider, secret
from tests.e2e.test_soak import OWN, Cluster
from tests.e2e.world import MANIFESTS, OWN_CRDS, find_ready, vms_of
from tests.proxy import Proxy, proxy

pytestmark = pytest.mark.e2e

SILENCE = 5.0
"""Seconds: the least that may be chosen, so that the faults are longer."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        given = metafunc.config.getoption("--seeds")
        times = 5 if metafunc.config.getoption("--soak") else 1
        seeds = given.split(",") if given else [f"random-{number}" for number in range(times)]
        metafunc.parametrize("seed", seeds, indirect=True)


@pytest.fixture(scope="module")
def form(request: pytest.FixtureRequest) -> Form:
    return LONG if request.config.getoption("--soak") else SHORT


@dataclass
class Place:
    """Two replicas of the guard between an API server and two vCenters."""

    cluster: Cluster
    vcenters: list[Vcenter]
    api: Proxy


@pytest.fixture(scope="module")
def place(programs: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("faults")
    with ExitStack() as running:
        bed = running.enter_context(Bed(programs=programs))
        bed.install_crds(OWN_CRDS)
        balancer = running.enter_context(balancing(Probe.shipped()))
        # Other shapes: some ids are of both, some of one; each VM has a uuid of its own.
        vcenters = [_vcenter(running, bed, f"vcenter-{number}", number + 1) for number in range(2)]
        api = running.enter_context(proxy(int(bed.api.url.rpartition(":")[2])))
        settings = {
            "tls": {"source": "self-managed", "namespace": OWN, "extraNames": ["127.0.0.1"]},
            "kubeconfig": str(by(api, bed, folder)),
            "providerNamespaces": [NAMESPACE],
            "deniedNetworks": [],
            "trustNetwork": True,
            "silence": SILENCE,
            "shutdownDelay": 8,
        }
        client = running.enter_context(bed.api.client())
        cluster = Cluster(Api(bed, client), folder, settings, balancer, [])
        _furnish(client, vcenters)
        find_ready(bed)
        cluster.install()
        try:
            cluster.replicas = [cluster.new_replica(), cluster.new_replica()]
            for replica in cluster.replicas:
                replica.until_ready()
            yield Place(cluster, vcenters, api)
        finally:
            for replica in cluster.replicas:
                if replica.guard is not None:
                    replica.end(signal.SIGINT)


def _vcenter(running: ExitStack, bed: Bed, name: str, size: int) -> Vcenter:
    vcsim = bed.add_vcsim(vms=size)
    between = running.enter_context(proxy(vcsim.port))
    instance = running.enter_context(vcsim.connect())
    for vm in vms_of(vcsim):
        set_uuid(find_vm(instance, vm.name), str(uuid.uuid5(uuid.NAMESPACE_DNS, name + vm.name)))
    return Vcenter(name, vcsim, between, vms_of(vcsim), instance)


def _furnish(client: httpx.Client, vcenters: list[Vcenter]) -> None:
    """What is there before any guard is: Providers, and a Plan of each VM with the PVCs of its
    disks."""
    for name in (NAMESPACE, CLAIMS, DISKS, PLANS):
        _create(client, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for one in vcenters:
        login = {"user": one.vcsim.user, "password": one.vcsim.password}
        login["ca.crt"] = one.vcsim.ca_file.read_text()
        _create(client, secret(f"{one.provider}-credentials", login))
        url = f"https://127.0.0.1:{one.proxy.port}/sdk"
        _create(client, provider(one.provider, url))
        for vm in one.vms:
            for file in vm.files:
                made = _create(client, claim_of(PLANS, vm.moref, vm.uuid, file))
                set_status(client, made, {"phase": "Bound", "capacity": {"storage": "100Gi"}})
            whole = conversion(one.provider, vm, f"conversion-{vm.uuid}", targetNamespace=PLANS)
            _create(client, whole)
            _create(client, conversion(one.provider, vm, f"cold-{vm.uuid}", type="cold"))


def _create(client: httpx.Client, obj: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(path_of(obj), json=obj)
    assert answer.is_success, answer.text
    made: dict[str, Any] = answer.json()
    return made


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    given: str = request.param
    return given.replace("random", secrets.token_hex(4))


def test_no_verdict_is_wrong_whatever_fails(place: Place, seed: str, form: Form) -> None:
    print(f"\nseed {seed}: again with --seeds {seed}")
    for replica in place.cluster.replicas:
        if replica.guard is None:  # another seed has ended with it
            replica.start()
            replica.until_ready()
    load, chaos = asyncio.run(_asked(place, seed, form))
    passed = _let_through(place.cluster.api.bed)
    load.asked = asked = [
        one._replace(verdict="lost") if one.number in passed and one.kind not in OTHERS else one
        for one in load.asked
    ]
    lost = [one for one in asked if one.verdict == "lost" and not chaos.excuses(one)]
    print(f"{load.told()}\nwithout the guard's answer, beside those of a SIGKILL: {len(lost)}")
    assert [wrong for one in asked if (wrong := fault(one, SILENCE))] == [], "\n".join(chaos.did)
    assert form is SHORT or not [one for one in lost if one.kind in GATES], "none starts unproved"


async def _asked(place: Place, seed: str, form: Form) -> tuple[Load, Chaos]:
    """All requests of a run, and then those of each kind until one is decided again."""
    bed = place.cluster.api.bed
    connecting = bed.api.connecting() | {"timeout": LONGEST_WAIT}
    async with httpx.AsyncClient(**connecting) as client:
        load = Load(place.vcenters, client, Random(f"{seed} load"))
        rights = [(path_of(one), one) for one in _bindings(bed)]
        replicas = place.cluster.replicas
        chaos = Chaos(seed, form, place.vcenters, place.api, client, replicas, rights)
        async with asyncio.TaskGroup() as both:
            asking = both.create_task(load.steady(chaos.over))
            await chaos.run()
            await asking
        for ask in load.kinds.values():
            async with asyncio.timeout(LONGEST_WAIT):
                while (await load.one(ask)).verdict not in ("allowed", "denied"):
                    pass
    return load, chaos


def _bindings(bed: Bed) -> list[dict[str, Any]]:
    """By which the guard may read the cluster, and Forklift's Providers."""
    shipped = bed.shipped(MANIFESTS)
    kinds = "ClusterRoleBinding", "RoleBinding"
    return [one for one in shipped if one["kind"] in kinds and one["metadata"]["name"] == OWN]


def _let_through(bed: Bed) -> set[str]:
    """Requests that went without a webhook's answer, by its failurePolicy."""
    with bed.api.audit_log.open() as lines:
        return {json.loads(line)["auditID"] for line in lines if '"failed-open.valid' in line}
