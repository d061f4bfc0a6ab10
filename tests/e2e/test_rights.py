"""What the manifests grant is what the code asks for: no less, and no more.

The guard does all that it ever does, by its own account; the API server's audit log says what it
asked for, and is compared with the Roles both ways.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.cases import NAMESPACE, VSPHERE
from tests.e2e import world as usual
from tests.e2e.bed import GUARD, Bed, eventually
from tests.e2e.parts import Parts
from tests.e2e.test_gate import TARGET, bind, disk_of, migration, plan_of
from tests.e2e.test_providers import provider, secret
from tests.e2e.world import OWN_CRDS, World
from tests.guard import running

pytestmark = pytest.mark.e2e

SHIPPED = Path(__file__).parent / "everything"
OWN = "conversion-guard"
TLS = "conversion-guard-tls"
ANY = "*"


class Right(NamedTuple):
    """One of the Roles' grants, or one request. `*` in a grant is any namespace, or any name."""

    verb: str
    resource: str
    namespace: str = ANY
    name: str = ANY

    def grants(self, asked: "Right") -> bool:
        return all(mine in (ANY, its) for mine, its in zip(self, asked, strict=True))


@pytest.fixture(scope="module")
def world(programs: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A bed of its own: an audit log with nothing of other tests in it."""
    with Bed(vcsims=1, programs=programs) as bed:
        bed.install_crds(OWN_CRDS)
        for namespace in (NAMESPACE, TARGET, usual.TARGET):
            bed.kubectl("create", "namespace", namespace, check=True)
        bed.kubectl("apply", "-k", str(SHIPPED), check=True)
        yield World(bed, bed.vcsims[0], tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def asked(world: World, tmp_path_factory: pytest.TempPathFactory) -> set[Right]:
    """All that a guard asks for while it does all that it can."""
    kubeconfig = str(world.bed.kubeconfig(GUARD))
    _judge(world, kubeconfig)
    _certify(world, kubeconfig, tmp_path_factory.mktemp("certified"))
    found = set()
    for line in world.bed.api.audit_log.read_text().splitlines():
        event = json.loads(line)
        if event["user"]["username"] != GUARD:
            continue
        code = event.get("responseStatus", {}).get("code")
        assert code != 403, f"refused: {event['verb']} {event['requestURI']}"
        if "objectRef" not in event:
            assert event["requestURI"].startswith("/openapi/v3/apis/forklift."), "all may read it"
            continue
        ref = event["objectRef"]
        assert "subresource" not in ref, event["requestURI"]
        group = ref.get("apiGroup", "")
        resource = f"{ref['resource']}.{group}" if group else ref["resource"]
        place = ref.get("namespace", ""), ref.get("name", "")
        found.add(Right(event["verb"], resource, *place))
        if code == 201:  # an apply of what isn't there: a patch, and one needs both rights
            found.add(Right("create", resource, *place))
    return found


@pytest.fixture(scope="module")
def granted(world: World) -> set[Right]:
    """Of the Roles and ClusterRoles that are shipped, all of them bound to the guard."""
    objects = world.bed.shipped(SHIPPED)
    bound = {
        (item["roleRef"]["kind"], item["metadata"].get("namespace"), item["roleRef"]["name"])
        for item in objects
        if item["kind"] in ("RoleBinding", "ClusterRoleBinding")
        and [(s["kind"], s["namespace"], s["name"]) for s in item["subjects"]]
        == [("ServiceAccount", OWN, "conversion-guard")]
    }
    roles = [item for item in objects if item["kind"] in ("Role", "ClusterRole")]
    places = {(r["kind"], r["metadata"].get("namespace"), r["metadata"]["name"]) for r in roles}
    assert places == bound
    return {right for role in roles for right in _rights(role)}


def _rights(role: dict[str, Any]) -> Iterator[Right]:
    namespace = role["metadata"].get("namespace", ANY)
    for rule in role["rules"]:
        assert rule.keys() <= {"apiGroups", "resources", "verbs", "resourceNames"}
        (group,) = rule["apiGroups"]
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames", [ANY]):
                    yield Right(verb, f"{resource}.{group}" if group else resource, namespace, name)


def _judge(world: World, kubeconfig: str) -> None:
    """Find a Provider; judge a Plan, PVCs and a Migration that is refused for a want of disks."""
    kubectl, vcsim = world.bed.kubectl, world.vcsim
    login = {"user": vcsim.user, "password": vcsim.password, "ca.crt": vcsim.ca_file.read_text()}
    for made in (secret(f"{VSPHERE}-credentials", login), provider(VSPHERE, vcsim.url)):
        kubectl("create", "-f", "-", stdin=json.dumps(made), check=True)
    api = {"enabled": True, "listen": "127.0.0.1:0"}
    with world.guarded(providers=[], kubeconfig=kubeconfig, trustNetwork=True, api=api) as guard:
        vm = world.vm("DC0_H0_VM0")
        wrong = disk_of(vm, "wrong", vmID="vm-99999")
        eventually(lambda: world.post(wrong)["code"] == 422, "the Provider is read")
        for right in (disk_of(vm, "right"), plan_of(vm)):
            done = world.create(right)
            assert done.returncode == 0, done.stderr
        assert world.create(migration()).returncode == 1, "it isn't bound yet"
        events = ["get", "events.events.k8s.io", "-n", NAMESPACE, "-o", "name"]
        eventually(lambda: world.bed.kubectl(*events).stdout, "its Plan's Event")
        bind(world, "right")
        done = world.create(migration())
        assert done.returncode == 0, done.stderr
        # Another Plan for the same VM: has a Migration of it been started?
        again = plan_of(vm)
        again["metadata"]["name"] = "again"
        again["spec"]["vms"][0] |= {"instanceType": "u1.large", "luks": {"name": "keys"}}
        assert world.create(again, dry_run=True).returncode == 0
        called = httpx.get(
            f"{guard.api_url}/api/v1/providers",
            headers={"Authorization": "Bearer nobodys"},
            verify=guard.tls(),
            timeout=60,
        )
        assert called.status_code == 401, "the API server has been asked whose token that is"
        _watch(world)


def _watch(world: World) -> None:
    """Report on what is there, in one kind of report and then in a better one, until nothing is."""
    kubectl = world.bed.kubectl
    name = ("conversion-guard-persistentvolumeclaim", "-n", TARGET)
    for better in ("policyreports.wgpolicyk8s.io", "reports.openreports.io"):
        plural, _, group = better.partition(".")
        file = str(OWN_CRDS.parent / "report-crds" / f"{group}_{plural}.yaml")
        kubectl("apply", "--server-side", "-f", file, check=True)
        asked = ("get", better, *name)
        eventually(lambda: kubectl(*asked).returncode == 0, better)  # noqa: B023
    worse = ("get", "policyreports.wgpolicyk8s.io", *name)
    eventually(lambda: kubectl(*worse).returncode, "the other is taken away")
    world.bed.empty(TARGET, "PersistentVolumeClaim")
    eventually(lambda: kubectl(*asked).returncode, "nothing is left to report on")


def _certify(world: World, kubeconfig: str, folder: Path) -> None:
    """Make a certificate, have it trusted, and mend what somebody has broken."""
    kubectl = world.bed.kubectl
    own = {"source": "self-managed", "namespace": OWN, "extraNames": ["127.0.0.1"]}
    settings = {"tls": own, "kubeconfig": kubeconfig, "providerNamespaces": [NAMESPACE]}

    def certificate() -> str:
        shown = kubectl("get", "secret", TLS, "-n", OWN, "-o", "json", check=True)
        data: dict[str, str] = json.loads(shown.stdout)["data"]
        return data["tls.crt"]

    def trusted() -> bool:
        kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations"
        shown = kubectl("get", kinds, "-o", "json", check=True).stdout
        hooks = [hook for item in json.loads(shown)["items"] for hook in item["webhooks"]]
        return len({hook["clientConfig"].get("caBundle") for hook in hooks}) == 1

    with running(folder, settings):
        eventually(certificate, "the Secret is made")
        eventually(trusted, "all webhooks trust one CA")
        empty = '{"data": {"tls.crt": "", "tls.key": ""}}'
        kubectl("patch", "secret", TLS, "-n", OWN, "-p", empty, check=True)
        eventually(certificate, "the Secret is mended")


def test_what_is_asked_for_is_granted(asked: set[Right], granted: set[Right]) -> None:
    assert not {a for a in asked if not any(right.grants(a) for right in granted)}


def test_what_is_granted_is_asked_for(asked: set[Right], granted: set[Right]) -> None:
    assert not {right for right in granted if not any(right.grants(a) for a in asked)}
