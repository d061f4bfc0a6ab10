"""A Plan names its provider: no other's state matters to it, nor to its Migrations."""

import asyncio
from typing import Any

import msgspec
import pytest

from tests.cases import (
    BASE,
    NAMESPACE,
    PATIENCE,
    READY_PLAN,
    VSPHERE,
    Cluster,
    FixedCluster,
    review_of,
)
from tests.test_audience import SECOND
from tests.test_decide import DATABASE, NOW, PLAN, PVC, Vcenter
from webhook.cli.demo import merged
from webhook.engine.judge import decide
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.model.objects import Provider
from webhook.model.review import Admitted, Denied, Undecided, Verdict
from webhook.server.codec import read_review

MIGRATION, CONVERSION = BASE["Migration"], BASE["Conversion"]
WRONG = merged(PLAN, {"spec": {"vms": [{"id": "vm-9"}]}})


class Forbidden:
    """A webhook.inventory.cluster.Unlisted."""

    passing = False

    def why(self) -> str:
        return "403"


def judged(
    obj: dict[str, Any],
    *vcenters: Vcenter,
    old: dict[str, Any] | None = None,
    plan: dict[str, Any] = PLAN,
    unlisted: str = "",
    standing: Any = None,
    beside: ProviderInventory | None = None,
    **policy: Any,
) -> Verdict:
    """In a cluster that has both PVCs, bound, and `plan`."""
    bound = {"status": {"phase": "Bound"}}
    pvcs = [merged(one, bound) for one in (PVC, SECOND)]
    cluster = FixedCluster(Cluster(pvcs=pvcs, plan=plan, standing=standing or {}))
    inventory = Inventory(vcenter.inventory for vcenter in vcenters)
    if beside is not None:
        inventory.put(beside)
    if unlisted:
        inventory.unlisted[unlisted] = Forbidden()
    there = Sources(inventory, Policy(**policy), lambda: NOW, cluster.followed(), cluster)

    async def judge() -> Verdict:
        review = read_review(msgspec.json.encode(review_of(obj, old)))
        return await decide(review, there, asyncio.get_running_loop().time() + PATIENCE)

    return asyncio.run(judge())


def test_a_namespace_that_cant_be_listed_is_no_matter_to_a_provider_that_is_known() -> None:
    vcenter = Vcenter(VSPHERE, DATABASE)
    assert isinstance(judged(MIGRATION, vcenter, unlisted="elsewhere"), Admitted)
    assert isinstance(judged(WRONG, vcenter, unlisted="elsewhere"), Denied)
    unknown = judged(MIGRATION, Vcenter("b"), unlisted="openshift-mtv")
    assert isinstance(unknown, Undecided)
    assert "openshift-mtv are not known yet: 403" in unknown.message


def test_a_provider_that_isnt_known_is_named() -> None:
    verdict = judged(MIGRATION, Vcenter("b", DATABASE))
    assert isinstance(verdict, Denied), "every Provider is known: it can't be one that is to come"
    (cause,) = verdict.causes
    assert f"openshift-mtv/{VSPHERE}" in cause.message
    assert "openshift-mtv/b" not in cause.message


@pytest.mark.parametrize("role", ["source", "destination"])
def test_where_providers_may_not_be_listed_one_may_be_there(role: str) -> None:
    """Neither misspelt nor this cluster: nobody knows, and the setting is named."""
    plan = merged(PLAN, {"spec": {"provider": {role: {"name": "far", "namespace": "team-a"}}}})
    vcenter = Vcenter(VSPHERE, DATABASE)
    for standing in "unknown", "there":
        there = {"providers": {"far": standing}}
        verdict = judged(MIGRATION, vcenter, plan=plan, standing=there)
        assert isinstance(verdict, Undecided)
        assert 'provider "team-a/far" is not known' in verdict.message
        at_the_plan = judged(plan, vcenter, plan=plan, standing=there)
        assert isinstance(at_the_plan, Undecided if role == "source" else Admitted)
        if standing == "unknown":
            told = (verdict.message, str(at_the_plan))
            assert all('add "team-a" to providerNamespaces' in text for text in map(_plain, told))
        if role == "destination":
            remote = merged(CONVERSION, {"spec": {role: {"name": "far", "namespace": "team-a"}}})
            at_the_conversion = judged(remote, vcenter, standing=there, trust_network=True)
            assert isinstance(at_the_conversion, Undecided)
            assert at_the_conversion.message.startswith("spec.destination: provider")
    absent = judged(MIGRATION, vcenter, plan=plan)
    assert isinstance(absent, Denied if role == "source" else Admitted)


def _plain(text: str) -> str:
    return text.replace('\\"', '"')


@pytest.mark.parametrize("obj", [MIGRATION, WRONG])
def test_its_own_provider_is_never_ignored(obj: dict[str, Any]) -> None:
    own = Vcenter(VSPHERE, DATABASE).never_read()
    ignored = frozenset({own.inventory.name})
    verdict = judged(obj, own, Vcenter("b"), ignore_providers=ignored)
    assert isinstance(verdict, Undecided)
    assert verdict.message.startswith(f"provider {own.inventory.name} is not known yet")


@pytest.mark.parametrize("nowhere", [None, ""])
def test_a_migration_without_a_target_namespace_is_denied(nowhere: str | None) -> None:
    plan = merged(PLAN, {"spec": {"targetNamespace": nowhere}})
    verdict = judged(MIGRATION, Vcenter(VSPHERE, DATABASE), plan=plan)
    assert isinstance(verdict, Denied)
    assert "write spec.targetNamespace" in str(verdict.causes[0])


def test_a_conversion_whose_vm_is_known_needs_no_other_providers_word() -> None:
    vcenter, unread = Vcenter(VSPHERE, DATABASE), Vcenter("b").never_read()
    assert isinstance(judged(CONVERSION, vcenter, unread, trust_network=True), Admitted)
    assert vcenter.reads == 1, "it rests on a fresh read all the same"
    gone = Vcenter(VSPHERE, known=[DATABASE])
    assert isinstance(judged(CONVERSION, gone, unread, trust_network=True), Undecided)
    assert isinstance(judged(CONVERSION, unread, trust_network=True), Undecided)


FAR = {"spec": {"provider": {"destination": {"name": "far"}}}}


@pytest.mark.parametrize(
    ("plan", "vm", "says"),
    [
        ({"spec": {"convertorLabels": {"a": "b c"}}}, {}, "convertorLabels"),
        ({"spec": {"vms": [{"id": "vm-9"}]}}, {}, "is not one VM"),
        ({"status": {"conditions": []}}, {}, "not Ready"),
        ({}, {"connection_state": "disconnected"}, "disconnected"),
        ({}, {"template": True}, "template"),
        ({}, {}, ""),
    ],
)
def test_a_remote_destination_hides_its_pvcs_and_nothing_else(
    plan: dict[str, Any], vm: dict[str, Any], says: str
) -> None:
    vcenter = Vcenter(VSPHERE, msgspec.structs.replace(DATABASE, **vm))
    far = ProviderInventory(Provider(NAMESPACE, "far", "openshift"))
    far.remote = True
    there = merged(merged(READY_PLAN, FAR), plan)
    verdict = judged(MIGRATION, vcenter, plan=there, beside=far, trust_network=True)
    if says:
        assert isinstance(verdict, Denied)
        assert says in str(verdict.causes)
    else:
        assert isinstance(verdict, Admitted)
        assert verdict.unchecked
        assert 'not checked: the PVCs of "openshift-mtv/conversion-plan"' in str(verdict.warnings)


@pytest.mark.parametrize(
    "odd",
    [
        {"vms": [{"id": "vm-178", "instanceType": {"name": "big"}}]},
        {"vms": 7},
        {"provider": "prod"},
        {"targetNamespace": []},
    ],
)
@pytest.mark.parametrize("spec", [{"type": "cold"}, {"type": "warm"}, {"archived": True}, {}])
def test_only_a_conversion_plan_is_of_the_shape_that_a_conversion_needs(
    odd: dict[str, Any], spec: dict[str, Any]
) -> None:
    plan = merged(merged(READY_PLAN, {"spec": odd}), {"spec": spec})
    judge = Admitted if spec else Denied
    assert isinstance(judged(MIGRATION, Vcenter(VSPHERE, DATABASE), plan=plan), judge)
    assert isinstance(judged(plan, Vcenter(VSPHERE, DATABASE)), judge)


@pytest.mark.parametrize("name", ["Migrated_Workloads", "a.b", "..", "x" * 64])
def test_a_target_namespace_that_cant_be_one_is_denied(name: str) -> None:
    """Not undecided: to try again would not help."""
    plan = merged(READY_PLAN, {"spec": {"targetNamespace": name}})
    verdict = judged(MIGRATION, Vcenter(VSPHERE, DATABASE), plan=plan)
    assert isinstance(verdict, Denied)
    assert "can't be the name of a namespace: write" in verdict.causes[0].message


def test_a_migration_that_resumes_no_longer_is_judged() -> None:
    resumes = merged(MIGRATION, {"spec": {"resumeConversion": True}})
    vcenter = Vcenter(VSPHERE, msgspec.structs.replace(DATABASE, disks=DATABASE.disks[:1]))
    assert isinstance(judged(resumes, vcenter), Admitted)
    assert isinstance(judged(MIGRATION, vcenter, old=resumes), Denied)


def test_a_name_to_be_pasted_is_quoted_where_yaml_reads_a_number() -> None:
    plan = merged(PLAN, {"spec": {"provider": {"source": {"name": "01o1"}}}})
    verdict = judged(plan, Vcenter("0101", DATABASE), trust_network=True)
    assert isinstance(verdict, Denied)
    assert 'did you mean {name: "0101", namespace: openshift-mtv}?' in str(verdict.causes[0])
    other = "4232aaaa-0000-0000-0000-000000000001"
    twin = msgspec.structs.replace(DATABASE, moref="13", uuid=other)
    hosts = (msgspec.structs.replace(DATABASE, moref="12"), twin)  # an ESXi host's
    named = merged(PLAN, {"spec": {"vms": [{"name": DATABASE.name}]}})
    verdict = judged(named, Vcenter(VSPHERE, *hosts), trust_network=True)
    assert isinstance(verdict, Denied)
    assert '("12", "13"): write the id' in str(verdict.causes[0])
