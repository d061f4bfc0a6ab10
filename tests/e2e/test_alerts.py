"""Each shipped alert fires: what it asks about is brought about, and it is asked of real scrapes.

It is quiet before. What this doesn't show: `for`, and what a Prometheus makes of its scrapes
(tests/promql.py).
"""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import msgspec
import pytest
from httpx import ASGITransport

from tests.cases import BASE, NAMESPACE, review_of
from tests.e2e import test_gate as gate
from tests.e2e.bed import Bed, eventually, find_vm
from tests.e2e.parts import Parts
from tests.e2e.test_gate import migration
from tests.e2e.test_scenarios import claim
from tests.e2e.test_watching import made_ready, move
from tests.e2e.world import MANIFESTS, OWN_CRDS, TARGET, World
from tests.guard import Guard, running
from tests.promql import Moment, Scrape, scraped
from webhook import tls
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.inventory.provider import Inventory
from webhook.metrics import Metrics
from webhook.server.app import Admission

pytestmark = pytest.mark.e2e

ALERTS: dict[str, str] = {
    rule["alert"]: rule["expr"]
    for group in msgspec.yaml.decode(
        (MANIFESTS / "monitoring" / "prometheus-rule.yaml").read_bytes()
    )["spec"]["groups"]
    for rule in group["rules"]
}


def fires(name: str, before: Scrape, now: Scrape) -> bool:
    return bool(Moment(before, now).evaluated(ALERTS[name]))


def of(guard: Guard) -> Scrape:
    return scraped(guard.metrics())


@pytest.fixture(scope="module")
def world(programs: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Bed(vcsims=1, programs=programs) as bed:
        bed.install_crds(OWN_CRDS)
        for namespace in (NAMESPACE, TARGET):
            bed.kubectl("create", "namespace", namespace, check=True)
        yield World(bed, bed.vcsims[0], tmp_path_factory.mktemp("world"))


def test_a_dead_guard_and_an_open_gate(world: World) -> None:
    def api_server() -> Scrape:
        with world.bed.api.client() as client:
            return scraped(client.get("/metrics").text)

    vm = world.vm("DC0_H0_VM0")
    with world.guarded() as guard:
        alive, quiet = of(guard), api_server()
        assert not fires("ConversionGuardDown", alive, alive)
        assert guard.stop() == 0
    assert fires("ConversionGuardDown", alive, scraped())
    seen = [quiet]
    for _ in range(2):
        assert world.create(migration(), dry_run=True).returncode == 0
        assert "failed calling webhook" in world.create(claim("x", vm), dry_run=True).stderr
        seen.append(api_server())
    for name in ("ConversionGuardGateOpen", "ConversionGuardNotCalled"):
        assert not fires(name, quiet, quiet)
        assert fires(name, seen[0], seen[1]), "at the first"
        assert fires(name, seen[1], seen[2])
        assert not fires(name, seen[2], seen[2]), "it ends"


def test_a_certificate_near_its_end_and_past_it(tmp_path: Path) -> None:
    def certified(for_days: int) -> None:
        issued = datetime.now(UTC) - timedelta(days=30 - for_days, minutes=1)
        tls.write(tls.issue(["localhost"], issued, days=30), tmp_path)

    with running(tmp_path, {}) as guard:
        good = of(guard)
        for name in ("ConversionGuardCertificateExpiring", "ConversionGuardCertificateExpired"):
            assert not fires(name, good, good)
        certified(for_days=7)
        eventually(
            lambda: fires("ConversionGuardCertificateExpiring", good, of(guard)), "a week left"
        )
        assert not fires("ConversionGuardCertificateExpired", good, of(guard))
        certified(for_days=0)
        eventually(lambda: fires("ConversionGuardCertificateExpired", good, of(guard)), "none")


def test_a_vcenter_that_is_away(world: World) -> None:
    vcsim = world.bed.add_vcsim()
    away = "ConversionGuardVsphereUnreachable", "ConversionGuardInventoryStale"
    with world.guarded(vcsim, maxAge="10s") as guard:
        unknown = claim("unknown", world.vm("DC0_H0_VM0", vcsim), vmID="vm-99999")
        well = of(guard)
        assert not [name for name in (*away, "ConversionGuardUndecided") if fires(name, well, well)]
        vcsim.stop()
        for name in away:
            eventually(lambda: fires(name, well, of(guard)), name)  # noqa: B023
        for _ in range(6):
            assert "ServiceUnavailable" in world.create(unknown, dry_run=True).stderr
        assert fires("ConversionGuardUndecided", well, of(guard))


def test_more_than_half_refused(world: World) -> None:
    wrong = claim("wrong", world.vm("DC0_H0_VM0"), vmID="vm-99999")
    with world.guarded() as guard:
        before = of(guard)
        for _ in range(20):
            assert world.create(wrong, dry_run=True).returncode == 1
        assert not fires("ConversionGuardRejectsSpike", before, of(guard))
        assert world.create(wrong, dry_run=True).returncode == 1
        assert fires("ConversionGuardRejectsSpike", before, of(guard))


def test_settings_that_are_no_good(tmp_path: Path) -> None:
    with running(tmp_path, {}) as guard:
        before = of(guard)
        (tmp_path / "settings.yaml").write_text("maxAge: long\n")
        eventually(
            lambda: fires("ConversionGuardSettingsReloadFailed", before, of(guard)), "reloaded"
        )


def test_a_part_that_ends_again_and_again(tmp_path: Path) -> None:
    with running(tmp_path, {"kubeconfig": str(tmp_path / "missing")}) as guard:
        before = of(guard)
        assert not fires("ConversionGuardPartFails", before, before)
        eventually(lambda: fires("ConversionGuardPartFails", before, of(guard)), "it ends")


def test_a_plan_that_is_not_right_any_more_and_its_migration(world: World) -> None:
    vcsim = world.bed.add_vcsim()
    vm = world.vm("DC0_H0_VM0", vcsim)
    wrong = "ConversionGuardPlanTurnedWrong", "ConversionGuardMigrationWrong"
    for namespace in ("conversion-guard", gate.TARGET):  # another test may have made them
        named = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        world.bed.kubectl("apply", "-f", "-", stdin=json.dumps(named), check=True)
    with world.guarded(vcsim, kubeconfig=str(world.bed.kubeconfig())) as guard:
        gate.apply(world, gate.disk_of(vm, "disk"), gate.plan_of(vm))
        gate.bind(world, "disk")
        made_ready(world, gate.plan_of(vm))
        gate.apply(world, migration())
        known = re.compile(r'_objects{kind="Migration",state="(pass|warn)"} 1.0')
        eventually(lambda: known.search(guard.metrics()), "all of it is known")
        before = of(guard)
        assert not [name for name in wrong if fires(name, before, before)]
        with vcsim.connect() as instance:
            move(find_vm(instance, vm.name))
        for name in wrong:
            eventually(lambda: fires(name, before, of(guard)), name)  # noqa: B023


def test_a_fault_of_its_own() -> None:
    """In this process, with a clock that stops: nothing that can be set makes the real one fail."""
    metrics = Metrics()
    clock = iter([0.0])
    sources = Sources(Inventory([]), Policy(), lambda: next(clock))
    app = Admission(lambda: sources, metrics)

    async def judged() -> None:
        transport = ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="https://guard") as client:
            answer = await client.post("/validate", json=review_of(BASE["PersistentVolumeClaim"]))
            assert "failed to check this request" in answer.json()["response"]["status"]["message"]

    before = scraped(metrics.text("")[0].decode())
    assert not fires("ConversionGuardFault", before, before)
    asyncio.run(judged())
    assert fires("ConversionGuardFault", before, scraped(metrics.text("")[0].decode()))


def test_each_alert_is_tried_here() -> None:
    tried = set(re.findall(r"ConversionGuard[A-Z]\w+", Path(__file__).read_text()))
    assert tried == set(ALERTS)
