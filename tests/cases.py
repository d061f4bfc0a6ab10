"""The cases of tests/fixtures: one set, run at three heights (rule, HTTP, real API server).

A case is `why`, `object` (merged over its kind's base), `oldObject` for an UPDATE, `vsphere` (VMs
by moref, merged over the base), `providers` (further ones, name to type), `pvcs` (those that are
there already) and `plan` (a Migration's), both merged over the base, `settings`, and `expect`,
which `pytest --update-fixtures` rewrites and a person reviews. `simulator` or `cluster` say why a
case can't be had there. For a default, `pass` is left alone and `fail` is filled in.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from webhook.claims import Claim, Claims
from webhook.cli.demo import merged
from webhook.cluster.pvcs import decode
from webhook.decide import Policy, Sources
from webhook.inventory import Index, Inventory, ProviderInventory, SnapshotReader
from webhook.model import KubeObject, Provider, VirtualMachine
from webhook.rules import DEFAULTS, RULES
from webhook.settings import Settings

FIXTURES = Path(__file__).parent / "fixtures"
BASE: dict[str, dict[str, Any]] = msgspec.yaml.decode((FIXTURES / "base.yaml").read_bytes())
RULE_IDS = [rule.id for rule in RULES]
DEFAULT_IDS = [default.id for default in DEFAULTS]
NAMESPACE, VSPHERE = "openshift-mtv", "vsphere-production"

_RESOURCES = {
    "PersistentVolumeClaim": ("", "v1", "persistentvolumeclaims"),
    "Plan": ("forklift.konveyor.io", "v1beta1", "plans"),
    "Migration": ("forklift.konveyor.io", "v1beta1", "migrations"),
}


class Expect(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """What the two doors answer; `causes` are `field: message`."""

    verdict: str = "admitted"
    patch: list[dict[str, Any]] = []
    causes: list[str] = []
    warnings: list[str] = []
    message: str = ""


class _File(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    why: str
    object: dict[str, Any]
    expect: Expect
    old_object: dict[str, Any] | None = None
    vsphere: dict[str, dict[str, Any]] = {}
    providers: dict[str, str] = {}
    pvcs: list[dict[str, Any]] | None = None
    plan: dict[str, Any] | None = None
    settings: dict[str, Any] = {}
    simulator: str | None = None
    cluster: str | None = None


class FixedCluster:
    """A webhook.claims.ClusterReader of what a case says is there."""

    def __init__(self, pvcs: list[dict[str, Any]], plan: dict[str, Any] | None) -> None:
        self._pvcs = [decode(msgspec.json.encode(pvc)) for pvc in pvcs]
        self._plan: Any = plan

    def followed(self) -> Claims:
        claims = Claims()
        for key, claim in self._pvcs:
            claims.put(key, claim)
        return claims

    async def claims(self, namespace: str) -> tuple[Claim, ...]:
        both = [claim for _, claim in self._pvcs if claim.vm_id and claim.vm_uuid]
        return tuple(claim for claim in both if claim.namespace == namespace)

    async def plan(self, namespace: str, name: str) -> KubeObject | None:
        found: KubeObject | None = self._plan
        if found is None:
            return None
        metadata = found["metadata"]
        same = (metadata["namespace"], metadata["name"]) == (namespace, name)
        return found if same else None


class Case(msgspec.Struct):
    """One case, everything merged."""

    path: Path
    object: dict[str, Any]
    old: dict[str, Any] | None
    vms: dict[str, dict[str, Any]]
    providers: dict[str, str]
    cluster_has: FixedCluster | None
    settings: dict[str, Any]
    expect: Expect
    simulator: str | None
    cluster: str | None

    @property
    def id(self) -> str:
        return str(self.path.relative_to(FIXTURES).with_suffix(""))

    @property
    def rule(self) -> str:
        return self.path.parent.parent.name

    @property
    def fails(self) -> bool:
        return self.path.parent.name == "fail"

    @property
    def policy(self) -> Policy:
        settings = Settings.model_validate(self.settings)
        return Policy(
            actions=settings.rules,
            defaults=settings.defaults,
            trust_network=settings.trust_network,
        )

    def sources(self, now: Callable[[], float] = lambda: 0.0) -> Sources:
        """The case's vSphere as an inventory that is its own fresh read."""
        index = Index(
            msgspec.convert({"moref": moref, **vm}, VirtualMachine)
            for moref, vm in self.vms.items()
        )
        vsphere = ProviderInventory(Provider(NAMESPACE, VSPHERE), SnapshotReader(index))
        vsphere.vms = index
        vsphere.heard(None)
        others = (
            ProviderInventory(Provider(NAMESPACE, name, kind))
            for name, kind in self.providers.items()
        )
        inventory, there = Inventory([vsphere, *others]), self.cluster_has
        if there is None:
            return Sources(inventory, self.policy, now)
        return Sources(inventory, self.policy, now, there.followed(), there)

    def update(self, expect: Expect) -> None:
        """Rewrite the file's `expect`, and nothing before it."""
        text = self.path.read_text()
        inputs = text[: re.search(r"^expect:", text, re.MULTILINE).start()]  # type: ignore[union-attr]
        body = msgspec.to_builtins(expect) or {"verdict": "admitted"}
        self.path.write_text(inputs + msgspec.yaml.encode({"expect": body}).decode())


def load(path: Path) -> Case:
    file = msgspec.yaml.decode(path.read_bytes(), type=_File)
    base = BASE[file.object["kind"]]
    there = None
    if file.pvcs is not None or file.plan is not None:
        pvcs = [merged(BASE["PersistentVolumeClaim"], pvc) for pvc in file.pvcs or ()]
        plan = None if file.plan is None else merged(BASE["Plan"], file.plan)
        there = FixedCluster(pvcs, plan)
    elsewhere = "it needs PVCs that are there: tests/e2e/test_gate.py" if there else None
    return Case(
        path=path,
        object=merged(base, file.object),
        old=merged(base, file.old_object) if file.old_object else None,
        vms=merged(BASE["vsphere"], file.vsphere),
        providers=file.providers,
        cluster_has=there,
        settings=file.settings,
        expect=file.expect,
        simulator=file.simulator or elsewhere,
        cluster=file.cluster or elsewhere,
    )


def all_cases() -> list[Case]:
    return [load(path) for path in sorted(FIXTURES.glob("*/*/*.yaml"))]


def review_of(
    obj: Any, old: Any = None, *, uid: str = "u-1", operation: str | None = None, **more: Any
) -> dict[str, Any]:
    """An AdmissionReview as the API server writes it."""
    group, version, resource = _RESOURCES[obj["kind"]]
    request = {
        "uid": uid,
        "kind": {"group": group, "version": version, "kind": obj["kind"]},
        "resource": {"group": group, "version": version, "resource": resource},
        "requestKind": {"group": group, "version": version, "kind": obj["kind"]},
        "name": obj["metadata"].get("name", ""),
        "namespace": obj["metadata"].get("namespace", ""),
        "operation": operation or ("UPDATE" if old else "CREATE"),
        "userInfo": {"username": "vendor", "groups": ["system:authenticated"]},
        "object": obj,
        "oldObject": old,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        **more,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
