"""What rests on the cluster: asked live before it denies, and not believed when it is old."""

import asyncio
from typing import Any

import msgspec
import pytest

from tests.cases import BASE, NAMESPACE, PATIENCE, VSPHERE, Cluster, FixedCluster, review_of
from tests.test_audience import BOUND, SECOND
from tests.test_decide import DATABASE, NOW, PLAN, PVC, Vcenter
from webhook.cli.demo import merged
from webhook.engine.judge import decide
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.errors import ClusterUnreachable
from webhook.inventory.cluster import Followed
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.model.forklift import KeptPlan
from webhook.model.objects import Claim, KubeObject, Provider, Standing
from webhook.model.review import Admitted, Denied, Undecided, Verdict
from webhook.server.codec import read_review

MIGRATION = BASE["Migration"]
SECONDS = 4.5
"""What a review has of the 5 s that the shipped webhooks give it."""
AGAIN = merged(PVC, {"metadata": {"name": "again"}})


class Api(FixedCluster):
    """An API server that may be away, or swallow what it is asked for, and counts that."""

    def __init__(self, there: Cluster, *, away: bool = False, silent: bool = False) -> None:
        super().__init__(there)
        self.away = away
        self.silent = silent
        self.asked = 0

    def _ask(self) -> None:
        self.asked += 1
        if self.away:
            raise ClusterUnreachable("the API server can't be reached: refused")

    async def siblings(self, namespace: str, vm_id: str, vm_uuid: str) -> tuple[Claim, ...]:
        self._ask()
        return await super().siblings(namespace, vm_id, vm_uuid)

    async def plan(self, namespace: str, name: str) -> KubeObject | None:
        self._ask()
        if self.silent:
            await asyncio.Event().wait()
        return await super().plan(namespace, name)


def decided(
    obj: dict[str, Any],
    api: Api,
    followed: Followed,
    *,
    old: Any = None,
    others: tuple[ProviderInventory, ...] = (),
) -> Verdict:
    inventory = Inventory([Vcenter(VSPHERE, DATABASE).inventory, *others])
    sources = Sources(inventory, Policy(), lambda: NOW, followed, api)

    async def ask() -> Verdict:
        review = read_review(msgspec.json.encode(review_of(obj, old)))
        return await decide(review, sources, asyncio.get_running_loop().time() + SECONDS)

    return asyncio.run(ask())


def followed(*pvcs: dict[str, Any], age: float = 0.0) -> Followed:
    """As a reflector left it `age` seconds ago."""
    known = FixedCluster(Cluster(pvcs=list(pvcs))).followed()
    known.claims.heard(NOW - age)
    return known


class TestAClaimedDisk:
    """`pvc-disk-claimed` denies by what is followed; the PVC that claims the disk may be gone."""

    def test_one_that_is_gone_denies_nothing(self) -> None:
        api = Api(Cluster())
        assert isinstance(decided(PVC, api, followed(AGAIN)), Admitted)
        assert api.asked == 1

    def test_one_that_is_there_denies(self) -> None:
        verdict = decided(PVC, Api(Cluster(pvcs=[AGAIN])), followed(AGAIN))
        assert isinstance(verdict, Denied)
        assert [cause.rule for cause in verdict.causes] == ["pvc-disk-claimed"]

    def test_nobody_can_look_again(self) -> None:
        verdict = decided(PVC, Api(Cluster(), away=True), followed(AGAIN))
        assert isinstance(verdict, Undecided)
        assert verdict.doubt == "cluster"

    def test_an_admission_asks_nothing_while_the_watch_is_alive(self) -> None:
        api = Api(Cluster())
        assert isinstance(decided(PVC, api, followed()), Admitted)
        assert api.asked == 0

    def test_past_the_bound_what_is_followed_decides_nothing(self) -> None:
        old = followed(age=Policy().stale + 1)
        there = Api(Cluster(pvcs=[AGAIN]))
        assert isinstance(decided(PVC, there, old), Denied)
        assert isinstance(decided(PVC, Api(Cluster()), old), Admitted)
        assert isinstance(decided(PVC, Api(Cluster(), away=True), old), Undecided)


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize(
    ("known", "expected"),
    [("conversion", Undecided), ("cold", Admitted), ("warm", Admitted), (None, Admitted)],
)
def test_a_migration_while_the_api_server_is_away(
    known: str | None, expected: type, silent: bool
) -> None:
    """What was known of its Plan a moment ago decides whether it is waved through."""
    followed = Followed()
    if known is not None:
        followed.plans.put(f"{NAMESPACE}/conversion-plan", KeptPlan(known))
    verdict = decided(MIGRATION, Api(Cluster(), away=not silent, silent=silent), followed)
    assert isinstance(verdict, expected)
    if isinstance(verdict, Admitted):
        assert "not checked" in verdict.warnings[0]


def test_a_plan_that_comes_home_is_judged_by_the_pvcs_that_can_be_seen_now() -> None:
    elsewhere = ProviderInventory(Provider(NAMESPACE, "elsewhere", "openshift"))
    elsewhere.remote = True
    remote = {"spec": {"provider": {"destination": {"name": "elsewhere"}}}}
    wrong = merged(SECOND, {"metadata": {"annotations": {**_SOURCE, _KEY: "[x] y.vmdk"}}})
    api = Api(Cluster(pvcs=[merged(wrong, BOUND)]))
    away = decided(merged(PLAN, remote), api, Followed(), others=(elsewhere,))
    assert isinstance(away, Admitted)
    home = decided(PLAN, api, Followed(), old=merged(PLAN, remote), others=(elsewhere,))
    assert isinstance(home, Denied)
    assert {cause.rule for cause in home.causes} == {"plan-disks"}


_KEY = "forklift.konveyor.io/disk-source"
_SOURCE = SECOND["metadata"]["annotations"]


class _Made(Api):
    """An API server where a Provider was made a moment ago."""

    async def provider(self, namespace: str, name: str) -> Standing:
        self._ask()
        return "there" if name == "new" else "absent"


MISSPELT = merged(PLAN, {"spec": {"provider": {"source": {"name": "misspelt"}}}})


def test_a_provider_that_was_made_a_moment_ago_denies_no_plan() -> None:
    new = merged(PLAN, {"spec": {"provider": {"source": {"name": "new"}}}})
    verdict = decided(new, _Made(Cluster()), Followed())
    assert isinstance(verdict, Undecided)
    assert "is not known yet: try again" in verdict.message
    assert isinstance(decided(MISSPELT, _Made(Cluster()), Followed()), Denied)


def test_a_misspelt_provider_is_undecided_only_while_not_all_are_known() -> None:
    class Unlisted:
        passing = True

        def why(self) -> str:
            return "they are being listed"

    async def ask() -> list[Verdict]:
        inventory = Inventory([Vcenter(VSPHERE, DATABASE).inventory])
        inventory.unlisted["another"] = Unlisted()
        known = Sources(inventory, Policy(), lambda: NOW, Followed(), Api(Cluster()))
        review = read_review(msgspec.json.encode(review_of(MISSPELT)))
        deadline = asyncio.get_running_loop().time() + PATIENCE
        first = await decide(review, known, deadline)
        del inventory.unlisted["another"]
        return [first, await decide(review, known, deadline)]

    assert [type(verdict) for verdict in asyncio.run(ask())] == [Undecided, Denied]


def test_three_hundred_vms_without_pvcs_are_one_warning_that_counts_them() -> None:
    vms = [
        msgspec.structs.replace(
            DATABASE, moref=f"vm-{n}", name=f"vm-{n}", uuid=f"u-{n}", tools="guestToolsNotRunning"
        )
        for n in range(300)
    ]
    plan = merged(PLAN, {"spec": {"vms": [{"id": vm.moref} for vm in vms]}})
    inventory = Inventory([Vcenter(VSPHERE, *vms).inventory])
    policy = Policy(trust_network=True)
    api = FixedCluster(Cluster())

    async def ask() -> Verdict:
        known = Sources(inventory, policy, lambda: NOW, api.followed(), api)
        review = read_review(msgspec.json.encode(review_of(plan)))
        return await decide(review, known, asyncio.get_running_loop().time() + 60)

    verdict = asyncio.run(ask())
    assert isinstance(verdict, Admitted)
    disks, tools = verdict.warnings
    assert disks.startswith('spec.vms: 300 of the 300 VMs have disks without a PVC in "migrated-')
    assert "the Plan's readiness lists them (conversion-guard: plan-disks)" in disks
    assert tools.startswith("spec.vms[0] and 299 more: start VMware Tools in the guest")
    assert all(len(one) <= 256 for one in verdict.warnings)
