"""What manifests/ offers, put together in every way: built by kustomize, and some of it applied."""

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.e2e.bed import Bed
from tests.e2e.parts import Parts
from tests.e2e.test_overlays import CLUSTER_WIDE, crds_of, crds_of_cert_manager
from tests.e2e.world import MANIFESTS, OWN_CRDS

pytestmark = pytest.mark.e2e

CERTIFICATES = "self-managed", "cert-manager", "openshift"
OPTIONAL = "api", "strict", "monitoring", "surroundings"
WEBHOOKS = "".join(file.read_text() for file in sorted((MANIFESTS / "base").glob("*-webhook.yaml")))
SHIPPED = "conversion-guard", "openshift-mtv"
NARROW = "examples/narrow-network-policy"
MOVED = "my-guard", "konveyor"
CROSSED = "openshift-mtv", "conversion-guard"
"""Each is called what the other one is as shipped."""


class Choice(NamedTuple):
    """A cluster's own kustomization."""

    certificate: str
    options: tuple[str, ...] = ()
    namespaces: tuple[str, str] = SHIPPED

    def __str__(self) -> str:
        return "-".join([self.certificate, *self.options, self.namespaces[0]])

    def write(self, folder: Path, manifests: str = "../manifests") -> Path:
        """As docs/install.md has it, beside a copy of manifests/."""
        own, forklifts = self.namespaces
        managed = self.certificate == "self-managed"
        components = [*([] if managed else [self.certificate]), *self.options]
        generated = {
            "name": "conversion-guard-settings",
            "namespace": "conversion-guard",
            "behavior": "merge",
            "literals": [f"forkliftNamespace={forklifts}"],
        }
        chosen = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": own,
            "resources": [manifests if managed else f"{manifests}/base"],
            "components": [f"{manifests}/{component}" for component in components],
            "configMapGenerator": [generated],
            "transformers": [f"{manifests}/namespaces"],
        }
        place = folder / "my-cluster"
        place.mkdir(exist_ok=True)
        (place / "kustomization.yaml").write_text(yaml.safe_dump(chosen))
        return place


OPTIONS = [
    chosen for many in range(len(OPTIONAL) + 1) for chosen in itertools.combinations(OPTIONAL, many)
]
CHOICES = [
    *(Choice(*parts) for parts in itertools.product(CERTIFICATES, OPTIONS, (SHIPPED, MOVED))),
    *(Choice(certificate, OPTIONAL, CROSSED) for certificate in CERTIFICATES),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With manifests/ alone in it: it needs nothing beside itself."""
    folder = tmp_path_factory.mktemp("copied")
    shutil.copytree(MANIFESTS, folder / "manifests")
    return folder


def built(programs: Parts, place: Path) -> tuple[str, list[dict[str, Any]]]:
    command = [str(programs.kubectl), "kustomize", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, [item for item in yaml.safe_load_all(done.stdout) if item]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_combination_is_built(programs: Parts, folder: Path, choice: Choice) -> None:
    text, objects = built(programs, choice.write(folder))
    kinds = {item["kind"] for item in objects}
    assert ("PrometheusRule" in kinds) is ("monitoring" in choice.options)
    assert ("Certificate" in kinds) is (choice.certificate == "cert-manager")
    assert ("ValidatingAdmissionPolicy" in kinds) is (choice.certificate == "self-managed")
    assert ("tokenreviews" in text) is ("api" in choice.options)
    assert ("failurePolicy: Fail" in _hook(objects, "migration")) is ("strict" in choice.options)
    own, forklifts = choice.namespaces
    assert {item["metadata"].get("namespace") for item in objects} == {None, own, forklifts}
    for item in objects:
        assert ("namespace" in item["metadata"]) is (item["kind"] not in CLUSTER_WIDE), item
    assert said(text) == {own, forklifts, "konveyor-forklift"}
    for account in ("forklift-controller'", "forklift-populator-controller'"):
        shipped = WEBHOOKS.count(f"'system:serviceaccount:openshift-mtv:{account}")
        assert text.count(f"system:serviceaccount:{forklifts}:{account}") == shipped > 0
    exempt = [own] * WEBHOOKS.count("[conversion-guard, kube-system]")
    assert re.findall(r"values:\n +- (\S+)\n +- kube-system", text) == exempt


@pytest.mark.parametrize("certificate", CERTIFICATES)
def test_single_addresses_go_with_all_the_rest(
    programs: Parts, folder: Path, certificate: str
) -> None:
    def policy(*options: str) -> dict[str, Any]:
        _, objects = built(programs, Choice(certificate, options, MOVED).write(folder))
        (found,) = [item for item in objects if item["kind"] == "NetworkPolicy"]
        return found

    usual, narrow = policy(*OPTIONAL), policy(*OPTIONAL, NARROW)
    dns, *others = narrow["spec"].pop("egress")
    assert all("ipBlock" in peer for rule in others for peer in rule["to"])
    assert dns in usual["spec"].pop("egress")
    assert narrow == usual, "and nothing else is another"


def said(text: str) -> set[str]:
    """The namespaces that are named at all: by objects, subjects, accounts, host names."""
    patterns = (
        r"\bnamespace: (\S+)",
        r"system:serviceaccount:([^:]+):",
        r"conversion-guard\.([a-z-]+)\.svc",
        r"inject-ca-from: ([^/]+)/",
        r"FORKLIFT_NAMESPACE\n +value: (\S+)",
        r"forkliftNamespace: (\S+)",
    )
    return {found for pattern in patterns for found in re.findall(pattern, text)}


def _hook(objects: list[dict[str, Any]], name: str) -> str:
    (config,) = [i for i in objects if i["kind"] == "ValidatingWebhookConfiguration"]
    (hook,) = [h for h in config["webhooks"] if h["name"] == f"{name}.conversion-guard.io"]
    return yaml.safe_dump(hook)


@pytest.fixture(scope="module")
def bed(programs: Parts) -> Iterator[Bed]:
    with Bed(programs=programs) as bed:
        bed.install_crds(OWN_CRDS)
        crds_of_cert_manager(bed)
        crds_of(bed, "monitoring.coreos.com", "PodMonitor", "PrometheusRule")
        for namespace in MOVED[1:]:
            bed.kubectl("create", "namespace", namespace, check=True)
        yield bed


@pytest.mark.parametrize("certificate", CERTIFICATES)
def test_all_of_it_elsewhere_is_taken_and_kept(bed: Bed, folder: Path, certificate: str) -> None:
    place = str(Choice(certificate, (*OPTIONAL, NARROW), MOVED).write(folder))
    done = bed.kubectl("apply", "-k", place)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    again = bed.kubectl("diff", "-k", place)
    assert (again.returncode, again.stdout) == (0, ""), "as it was written, so it is kept"


def test_its_rights_are_those_of_its_account_there(bed: Bed, folder: Path) -> None:
    place = Choice("self-managed", (), MOVED).write(folder)
    bed.kubectl("apply", "-k", str(place), check=True)
    account = ["--as", "system:serviceaccount:my-guard:conversion-guard"]

    def can(verb: str, what: str, namespace: str) -> bool:
        asked = bed.kubectl("auth", "can-i", verb, what, "-n", namespace, *account)
        return asked.stdout.strip() == "yes"

    assert can("get", "secrets/any", "konveyor")
    assert can("list", "providers.forklift.konveyor.io", "konveyor")
    assert can("get", "secrets/conversion-guard-tls", "my-guard")
    assert can("list", "persistentvolumeclaims", "default")
    assert not can("get", "secrets/any", "my-guard")
    # The policy knows the account by its namespace.
    change = '{"metadata": {"labels": {"further": "label"}}}'
    how = ["patch", "validatingwebhookconfiguration", "conversion-guard", "--dry-run=server"]
    refused = bed.kubectl(*how, "-p", change, *account)
    assert "conversion-guard may change only caBundle" in refused.stderr


def test_without_forklifts_namespace_only_what_is_in_it_fails(bed: Bed, folder: Path) -> None:
    place = Choice("self-managed", (), ("my-guard", "not-there")).write(folder)
    done = bed.kubectl("apply", "-k", str(place))
    assert done.returncode == 1
    faults = [line for line in done.stderr.splitlines() if line]
    assert len(faults) == 4, "two Roles and their bindings"
    assert all('namespaces "not-there" not found' in fault for fault in faults)
    made = [line.split()[0] for line in done.stdout.splitlines()]
    assert len(made) == len(built(bed.parts, place)[1]) - 4, "all the rest is there"


def test_a_namespace_of_forklift_that_comes_later(bed: Bed, folder: Path) -> None:
    place = Choice("self-managed", ("providers-later",), ("later-guard", "not-yet")).write(folder)
    done = bed.kubectl("apply", "-k", str(place))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    _, objects = built(bed.parts, place)
    assert {i["metadata"].get("namespace") for i in objects} == {None, "later-guard"}
    bed.kubectl("create", "namespace", "not-yet", check=True)
    providers = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "not-yet",
        "resources": ["../manifests/provider-namespace"],
        "patches": [
            {
                "target": {"kind": "RoleBinding"},
                "patch": json.dumps(
                    [{"op": "replace", "path": "/subjects/0/namespace", "value": "later-guard"}]
                ),
            }
        ],
    }
    (place / "kustomization.yaml").write_text(yaml.safe_dump(providers))
    bed.kubectl("apply", "-k", str(place), check=True)
    account = ["--as", "system:serviceaccount:later-guard:conversion-guard"]
    asked = bed.kubectl("auth", "can-i", "get", "secrets/any", "-n", "not-yet", *account)
    assert asked.stdout.strip() == "yes"
    ours = ["-l", "app.kubernetes.io/part-of=conversion-guard", "-o", "name"]
    found = bed.kubectl("get", "roles,rolebindings", "-n", "not-yet", *ours).stdout.split()
    assert len(found) == 4, "by its label all of it is found again"
