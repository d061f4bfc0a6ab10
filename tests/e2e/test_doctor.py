"""`conversion-guard doctor` on the real API server: all is well, and one fault after another."""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cases import NAMESPACE, READY_PLAN, VSPHERE
from tests.command import run
from tests.e2e.bed import GUARD, Bed, eventually
from tests.e2e.parts import Parts
from tests.e2e.test_providers import provider, secret
from tests.e2e.world import MANIFESTS, OWN_CRDS
from tests.guard import running
from webhook import tls
from webhook.cli.demo import merged
from webhook.manifests import files

pytestmark = pytest.mark.e2e

OWN, TLS, LOGIN = "conversion-guard", "conversion-guard-tls", f"{VSPHERE}-credentials"
VALIDATING, MUTATING = "validatingwebhookconfiguration", "mutatingwebhookconfiguration"


@pytest.fixture(scope="module")
def bed(programs: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """Installed as shipped, with a certificate that a guard has made, and one vCenter."""
    with Bed(vcsims=1, programs=programs) as bed:
        bed.install_crds(OWN_CRDS)
        for namespace in (NAMESPACE, "elsewhere"):
            bed.kubectl("create", "namespace", namespace, check=True)
        bed.kubectl("apply", "-k", str(MANIFESTS), check=True)
        vcsim = bed.vcsims[0]
        login = {
            "user": vcsim.user,
            "password": vcsim.password,
            "ca.crt": vcsim.ca_file.read_text(),
        }
        for made in (secret(LOGIN, login), provider(VSPHERE, vcsim.url)):
            bed.kubectl("create", "-f", "-", stdin=json.dumps(made), check=True)
        own = {"source": "self-managed", "namespace": OWN, "extraNames": ["127.0.0.1"]}
        settings = {"tls": own, "kubeconfig": str(bed.kubeconfig(GUARD)), "deniedNetworks": []}
        with running(tmp_path_factory.mktemp("guard"), settings):
            for kind in (VALIDATING, MUTATING):
                eventually(partial(trusted, bed, kind), "it is trusted")
        ready(bed)
        yield bed


def trusted(bed: Bed, kind: str) -> str:
    bundle = "jsonpath={.webhooks[*].clientConfig.caBundle}"
    return bed.kubectl("get", kind, OWN, "-o", bundle).stdout


def ready(bed: Bed) -> None:
    """What the controllers say of the Deployment, which this bed hasn't got."""
    status = '{"status": {"replicas": 2, "readyReplicas": 2}}'
    how = ["--subresource=status", "--type=merge", "-p", status]
    bed.kubectl("patch", "deployment", OWN, "-n", OWN, *how, check=True)


def doctor(bed: Bed, folder: Path, **settings: Any) -> tuple[int, list[dict[str, str]]]:
    file = folder / "settings.yaml"
    file.write_text(json.dumps({"deniedNetworks": [], **settings}))
    named = "--settings", file, "--kubeconfig", bed.kubeconfig()
    done = run("doctor", *named, "--output", "json")
    assert done.stderr == ""
    assert not re.search("[0-9a-f]{64}", done.stdout), "the path is nobody's to read"
    answer = json.loads(done.stdout)
    *findings, last = answer["findings"]
    # No guard runs behind the webhooks of this bed.
    assert (last["area"], last["state"]) == ("enforcing", "wrong")
    counts = Counter(one["state"] for one in answer["findings"])
    assert answer["summary"] == {state: counts[state] for state in answer["summary"]}
    return done.returncode, findings


@contextmanager
def changed(bed: Bed, kind: str, name: str, namespace: str, change: Any) -> Iterator[None]:
    """An object with a JSON patch, or (None) deleted; as it was, afterwards."""
    place = ["-n", namespace] if namespace else []
    shown = bed.kubectl("get", kind, name, *place, "-o", "json", check=True).stdout
    if change is None:
        bed.kubectl("delete", kind, name, *place, check=True)
    else:
        patch = ["--type=json", "-p", json.dumps(change)]
        bed.kubectl("patch", kind, name, *place, *patch, check=True)
    yield
    was = json.loads(shown)
    del was["metadata"]["resourceVersion"]
    how = "create" if change is None else "replace"
    bed.kubectl(how, "-f", "-", stdin=json.dumps(was), check=True)
    ready(bed)


def replaced(path: str, value: Any) -> list[dict[str, Any]]:
    return [{"op": "replace", "path": path, "value": value}]


def removed(path: str) -> list[dict[str, Any]]:
    return [{"op": "remove", "path": path}]


def test_all_is_well(bed: Bed, tmp_path: Path) -> None:
    code, findings = doctor(bed, tmp_path)
    assert (code, {one["state"] for one in findings}) == (1, {"good"}), findings
    assert {one["area"] for one in findings} == {
        "versions", "forklift", "deployment", "webhooks", "certificates", "rights", "vcenters",
    }  # fmt: skip
    assert "VMs can be read" in findings[-1]["what"]
    by_path = "callers are proven by the path that the guard keeps in its webhooks (trustPath)"
    assert by_path in [one["what"] for one in findings]
    told = {"trustPath": "callers are not proven", "trustNetwork": "whoever reaches the port"}
    for setting, says in told.items():
        _, findings = doctor(bed, tmp_path, **{setting: setting == "trustNetwork"})
        (note,) = [one for one in findings if one["state"] == "note"]
        assert says in note["what"]


def test_the_settings_are_those_of_the_installation(bed: Bed) -> None:
    done = run("doctor", "--kubeconfig", bed.kubeconfig())
    assert "good     settings      ConfigMap conversion-guard-settings-" in done.stdout
    # The shipped settings keep out of the loopback network, where this bed's vCenter is.
    assert "127.0.0.1 is in deniedNetworks" in done.stdout
    assert done.returncode == 1
    assert bed.vcsims[0].password not in done.stdout


FIRST = "/webhooks/0"
FAULTS: list[tuple[str, str, str, Any, str, str]] = [
    (VALIDATING, OWN, "", None, "webhooks", "there is no ValidatingWebhookConfiguration"),
    (VALIDATING, OWN, "", replaced(f"{FIRST}/failurePolicy", "Ignore"), "webhooks",
     "pvc.conversion-guard.io: failurePolicy is Ignore, shipped is Fail"),
    (VALIDATING, OWN, "", removed(f"{FIRST}/matchConditions/3"), "webhooks",
     "the matchCondition not-marked-by-forklift is missing"),
    (VALIDATING, OWN, "", replaced(f"{FIRST}/matchConditions/0/expression", "true"), "webhooks",
     "the matchCondition names-a-source-disk is not the shipped one"),
    (VALIDATING, OWN, "", [{"op": "add", "path": f"{FIRST}/objectSelector",
     "value": {"matchLabels": {"a": "b"}}}], "webhooks", "but the shipped one has none"),
    (VALIDATING, OWN, "", replaced(f"{FIRST}/clientConfig/service/path", "/"), "webhooks",
     "clientConfig is "),
    (MUTATING, OWN, "", removed("/webhooks/1"), "webhooks", "plan.conversion-guard.io is missing"),
    (MUTATING, OWN, "", removed(f"{FIRST}/clientConfig/caBundle"), "certificates",
     "the caBundle of pvc.conversion-guard.io is empty"),
    (MUTATING, OWN, "", replaced(f"{FIRST}/clientConfig/caBundle", "eA=="), "certificates",
     "is not a PEM certificate"),
    ("secret", TLS, OWN, None, "certificates", f"no serving certificate in Secret {OWN}/{TLS}"),
    ("secret", TLS, OWN, "another", "certificates", "is not signed by a CA of a caBundle"),
    ("validatingadmissionpolicybinding", "conversion-guard-ca-bundle", "", None, "webhooks",
     "a stolen token of the guard could change more"),
    ("clusterrolebinding", OWN, "", None, "rights", "may not in the whole cluster: list pers"),
    ("rolebinding", TLS, OWN, None, "rights",
     f"may not in namespace {OWN}: get secrets {TLS}, update secrets {TLS}, create secrets"),
    ("rolebinding", f"{OWN}-leases", OWN, None, "rights",
     f"may not in namespace {OWN}: get leases.coordination.k8s.io, create leases."),
    ("rolebinding", OWN, NAMESPACE, None, "rights",
     f"may not in namespace {NAMESPACE}: list providers.forklift.konveyor.io"),
    ("rolebinding", f"{OWN}-release", NAMESPACE, None, "rights",
     f"may not in namespace {NAMESPACE}: list clusterserviceversions.operators.coreos.com"),
    ("crd", "migrations.forklift.konveyor.io", "",
     removed("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/plan"),
     "forklift", "has no spec.plan"),
    ("crd", "plans.forklift.konveyor.io", "", replaced(
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/type/enum",
        ["cold", "warm"]), "forklift", "has no spec.type: conversion"),
    ("deployment", OWN, OWN, None, "deployment", f"there is no Deployment {OWN}/{OWN}"),
    ("secret", LOGIN, NAMESPACE, None, "vcenters", f"its Secret {LOGIN} does not exist"),
    ("secret", LOGIN, NAMESPACE, removed("/data/user"), "vcenters", "its Secret has no user"),
    ("secret", LOGIN, NAMESPACE, removed("/data/ca.crt"), "vcenters",
     "its certificate is not trusted"),
    ("secret", LOGIN, NAMESPACE, replaced("/data/password", "eA=="), "vcenters",
     "user or password is wrong"),
    ("provider", VSPHERE, NAMESPACE, replaced("/spec/url", "https://127.0.0.1:1/sdk"), "vcenters",
     "connection refused"),
    ("provider", VSPHERE, NAMESPACE, replaced("/spec/url", "http://h/sdk"), "vcenters",
     "its spec.url is not https://<host>/sdk"),
    ("provider", VSPHERE, NAMESPACE, None, "vcenters", "there is no vSphere Provider in"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "namespace", "change", "area", "says"),
    FAULTS,
    ids=[f"{kind}-{says[:40]}" for kind, *_, says in FAULTS],
)
def test_a_fault_is_named_with_its_fix(
    bed: Bed,
    tmp_path: Path,
    kind: str,
    name: str,
    namespace: str,
    change: Any,
    area: str,
    says: str,
) -> None:
    if change == "another":
        issued = tls.issue([f"{OWN}.{OWN}.svc"], datetime.now(UTC))
        change = replaced("/data/tls.crt", base64.b64encode(issued.certificate).decode())
    with changed(bed, kind, name, namespace, change):
        code, findings = doctor(bed, tmp_path)
    wrong = [one for one in findings if one["state"] == "wrong"]
    assert code == 1
    assert [one for one in wrong if one["area"] == area and says in one["what"]], wrong
    assert all(one["fix"] for one in wrong)
    for fix in (one["fix"] for one in wrong if one["fix"].startswith("kubectl ")):
        assert bed.shell(f"set -n\n{fix}", tmp_path).stderr == "", "it can be pasted"
    assert {one["area"] for one in wrong} == {area}


def test_the_role_that_it_prints_for_a_namespace_is_what_that_one_needs(
    bed: Bed, tmp_path: Path
) -> None:
    made = provider("other", "https://vcenter.example.com/sdk", "elsewhere")
    bed.kubectl("create", "-f", "-", stdin=json.dumps(made), check=True)
    code, findings = doctor(bed, tmp_path)
    (note,) = [one for one in findings if one["state"] == "note"]
    assert code == 1, "no guard runs"
    assert note["what"] == "the vSphere Providers of namespace elsewhere are not used"
    printed = note["fix"].partition("<<'END'\n")[2].removesuffix("END")
    both = {"providerNamespaces": [NAMESPACE, "elsewhere"]}
    _, before = doctor(bed, tmp_path, **both)
    assert [one["area"] for one in before if one["state"] == "wrong"] == ["rights", "vcenters"]
    assert [o["kind"] for o in yaml.safe_load_all(printed)] == ["Role", "RoleBinding"] * 2
    bed.kubectl("apply", "-f", "-", stdin=printed, check=True)
    _, after = doctor(bed, tmp_path, **both)
    assert [one["area"] for one in after if one["state"] == "wrong"] == ["vcenters"]
    bed.kubectl("delete", "-f", "-", stdin=printed, check=True)
    bed.kubectl("delete", "provider", "other", "-n", "elsewhere", check=True)


def test_a_plan_where_nothing_is_checked_is_named(bed: Bed, tmp_path: Path) -> None:
    plan = merged(READY_PLAN, {"metadata": {"namespace": OWN}})
    bed.kubectl("create", "-f", "-", stdin=json.dumps(plan), check=True)
    code, findings = doctor(bed, tmp_path)
    bed.kubectl("delete", "plan", "--all", "-n", OWN, check=True)
    left_out = [one for one in findings if "leave out" in one["what"]]
    assert (code, [one["state"] for one in left_out]) == (1, ["wrong"])
    assert left_out[0]["what"].startswith(f"the webhooks leave out namespace {OWN}, but")
    _, findings = doctor(bed, tmp_path)
    assert not [one for one in findings if "leave out" in one["what"]]


def test_an_account_that_sees_no_vm_and_a_certificate_that_is_not_verified(
    bed: Bed, tmp_path: Path
) -> None:
    vcsims = {"unverified": bed.vcsims[0], "empty": bed.add_vcsim(vms=0)}
    for name, vcsim in vcsims.items():
        login = {"user": vcsim.user, "password": vcsim.password, "insecureSkipVerify": "true"}
        for made in (secret(f"{name}-credentials", login), provider(name, vcsim.url)):
            bed.kubectl("create", "-f", "-", stdin=json.dumps(made), check=True)
    code, findings = doctor(bed, tmp_path)
    for name in vcsims:
        both = f"provider/{name}", f"secret/{name}-credentials"
        bed.kubectl("delete", *both, "-n", NAMESPACE, check=True)
    told = {one["state"]: one for one in findings if one["state"] != "good"}
    assert (code, set(told)) == (1, {"wrong", "note"})
    assert told["wrong"]["what"].endswith(f"{vcsims['empty'].user} sees no VM at all")
    assert "the role Read-only on the root folder" in told["wrong"]["fix"]
    assert "its certificate is not verified" in told["note"]["what"]


def test_a_webhook_that_sees_plans_first_is_named(bed: Bed, tmp_path: Path) -> None:
    shown = bed.kubectl("get", MUTATING, OWN, "-o", "json", check=True).stdout
    early = json.loads(shown)
    early["metadata"] = {"name": "a-forklift-api"}
    bed.kubectl("create", "-f", "-", stdin=files.write([early]), check=True)
    _, findings = doctor(bed, tmp_path)
    bed.kubectl("delete", MUTATING, "a-forklift-api", check=True)
    (wrong,) = [one for one in findings if one["state"] == "wrong"]
    assert wrong["what"].startswith(f"a-forklift-api sees a Plan before {OWN}")


def test_who_may_not_look_is_told_and_a_cluster_out_of_reach_is_2(bed: Bed, tmp_path: Path) -> None:
    done = run("doctor", "--kubeconfig", bed.kubeconfig("viewer"))
    assert done.returncode == 2, "nothing is known to be wrong"
    assert (
        "unknown  webhooks      you may not see all of it: the API server answers 403"
        in done.stdout
    )
    assert "unknown  deployment    you may not see all of it" in done.stdout
    assert "there is no " not in done.stdout, "nobody has said so"
    counts = Counter(line.split(" ")[0] for line in done.stdout.splitlines())
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"summary: {counts['good']} good, {counts['WRONG']} wrong, ")
    bad = json.loads(bed.kubeconfig().read_text())
    bad["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "kubeconfig").write_text(json.dumps(bad))
    done = run("doctor", "--kubeconfig", tmp_path / "kubeconfig")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the API server can't be reached" in done.stderr
