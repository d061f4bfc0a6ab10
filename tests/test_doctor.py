"""What doctor makes of webhook configurations and certificates, without a cluster."""

import asyncio
import base64
import copy
import json
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cases import READY_PLAN
from tests.check_project import SHIPPED
from tests.pages import ROOT
from tests.stand_in import standing_in
from webhook import tls
from webhook.cli.demo import merged
from webhook.cli.doctor import forklift, rights, webhooks
from webhook.cli.doctor.finding import APPLY, Observation
from webhook.cluster import Cluster, LiveReader

KIND = "ValidatingWebhookConfiguration"
HOOKS = json.loads(SHIPPED.read_text())["webhooks"][KIND]
HOST = "conversion-guard.conversion-guard.svc"


def compared(change: Callable[[list[dict[str, Any]]], object]) -> list[str]:
    there = copy.deepcopy(HOOKS)
    change(there)
    found = webhooks.compared(KIND, "conversion-guard", {"webhooks": there}, HOOKS)
    return [one.what for one in found if one.state != "good"]


def elsewhere(there: list[dict[str, Any]]) -> None:
    for hook in there:
        for condition in hook["matchConditions"]:
            text = condition["expression"]
            condition["expression"] = text.replace(":konveyor-forklift:", ":forklift-of-ours:")


@pytest.mark.parametrize(
    "change",
    [
        lambda there: None,
        lambda there: there[2].update(failurePolicy="Fail"),  # overlays/strict
        lambda there: there[0].update(objectSelector={}),
        lambda there: there[0]["clientConfig"]["service"].update(port=443),
        lambda there: there[0]["clientConfig"].update(caBundle="eA=="),
        elsewhere,
    ],
)
def test_what_an_operator_may_choose_is_no_fault(change: Callable[[Any], object]) -> None:
    assert compared(change) == []


def test_the_guards_own_namespace_is_its_operators_choice() -> None:
    there = json.loads(json.dumps(HOOKS).replace('"conversion-guard", "kube', '"mine", "kube'))
    for hook in there:
        hook["clientConfig"]["service"]["namespace"] = "mine"
    for namespace, states in (("mine", {"good"}), ("conversion-guard", {"wrong"})):
        shipped = webhooks.placed(HOOKS, namespace)
        found = webhooks.compared(KIND, "conversion-guard", {"webhooks": there}, shipped)
        assert {one.state for one in found} == states


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda there: there.append({"name": "x"}), "x is not one of the shipped webhooks"),
        (lambda there: there[0].update(rules=[]), "rules is []"),
        (lambda there: there[0].update(namespaceSelector={}), "namespaceSelector is {}"),
        (lambda there: there[0].pop("timeoutSeconds"), "timeoutSeconds is absent, shipped is 5"),
        (lambda there: there[0]["matchConditions"].append({"name": "y", "expression": "false"}),
         "the matchCondition y is not one of the shipped ones"),
        (lambda there: there[0]["matchConditions"][2].update(
            expression="!(request.userInfo.username in ['somebody'])"),
         "the matchCondition not-made-by-forklift is not the shipped one"),
    ],
)  # fmt: skip
def test_what_lets_objects_past_is(change: Callable[[Any], object], says: str) -> None:
    (fault,) = compared(change)
    assert says in fault


@pytest.mark.parametrize(
    ("age", "names", "says"),
    [
        (0, [HOST], ""),
        (360, [HOST], "expires in 5.0 days"),
        (370, [HOST], "has expired"),
        (0, ["other.svc"], f"is for other.svc, not for {HOST}"),
    ],
)
def test_a_certificate_is_told_with_its_days(age: int, names: list[str], says: str) -> None:
    issued = tls.issue(names, datetime.now(UTC) - timedelta(days=age), days=365)
    hooks = [{"name": "a", "clientConfig": {"caBundle": base64.b64encode(issued.ca).decode()}}]
    secret = {"tls.crt": base64.b64encode(issued.certificate).decode()}
    found = webhooks.certificates(
        hooks, secret, name="tls", host=HOST, namespace="conversion-guard", self_managed=True
    )
    wrong = [one.what for one in found if one.state != "good"]
    assert bool(wrong) == bool(says)
    assert all(says in what for what in wrong[:1]), wrong


def test_luks_secrets_that_may_not_be_looked_up_are_told_with_the_role(tmp_path: Path) -> None:
    guard = rights.account("guards")

    def plan(namespace: str, **spec: Any) -> Any:
        vms = [{"id": "vm-1", "luks": {"name": "keys"}}]
        return merged(
            READY_PLAN, {"metadata": {"namespace": namespace}, "spec": {"vms": vms, **spec}}
        )

    async def told(plans: list[Any]) -> list[Observation]:
        async with Cluster.open(api.kubeconfig) as cluster:
            reader = LiveReader()
            reader.cluster = cluster
            known = list(forklift.conversions(plans))
            return [finding async for finding in rights.luks(reader, guard, known, "guards")]

    with standing_in(tmp_path) as api:
        api.rights = {guard.username: ["get secrets known *"]}
        quiet = [plan("known"), plan("cold", type="cold"), plan("odd", vms="x"), READY_PLAN]
        assert asyncio.run(told(quiet)) == []
        (finding,) = asyncio.run(told([*quiet, plan("other"), plan("other")]))
    assert finding.state == "note"
    assert "namespace other" in finding.what
    printed = finding.fix.partition("<<'END'\n")[2].removesuffix("END")
    role, binding = yaml.safe_load_all(printed)
    assert role["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
    assert (role["metadata"]["namespace"], binding["subjects"][0]["namespace"]) == (
        "other",
        "guards",
    )
    for made in (role, binding):
        assert made["metadata"]["labels"] == {"app.kubernetes.io/part-of": "conversion-guard"}


def test_a_namespace_in_use_that_the_webhooks_leave_out_is_named() -> None:
    hooks = webhooks.placed(HOOKS, "openshift-mtv")

    def told(*used: str) -> list[str]:
        return [one.what for one in webhooks.exempt(hooks, used, "openshift-mtv")]

    assert told("team-a", "conversion-guard") == []
    cluster, own = told("team-a", "openshift-mtv", "kube-system")
    assert cluster.startswith("the webhooks leave out namespace kube-system")
    assert own.startswith("the webhooks leave out namespace openshift-mtv")
    (finding,) = webhooks.exempt(hooks, ["openshift-mtv"], "openshift-mtv")
    assert (finding.state, "a namespace of its own" in finding.fix) == ("wrong", True)


def test_what_applies_an_installation_can_be_pasted() -> None:
    assert shlex.split(APPLY, comments=True) == ["kubectl", "apply", "-k", "my-cluster"]
    _, _, helm = APPLY.partition("with Helm: ")
    assert f"\n{helm}\n" in (ROOT / "docs" / "helm.md").read_text()
