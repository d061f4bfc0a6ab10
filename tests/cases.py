"""The cases of tests/fixtures: one set, run at three heights (rule, HTTP, real API server).

A case is `why`, `object` (merged over its kind's base), `oldObject` for an UPDATE, `vsphere` (VMs
by moref, merged over the base), `providers` (further ones, name to type), `cluster` (what is there
already: Cluster below), `settings`, and `expect`, which `pytest --update-fixtures` rewrites and a
person reviews. `simulator` or `apiServer` say why a case can't be had there. For a default, `pass`
is left alone and `fail` is filled in.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from webhook.cli.demo import merged
from webhook.cluster import objects
from webhook.engine.policy import Policy
from webhook.engine.repair import repair
from webhook.engine.sources import Sources
from webhook.inventory.cluster import Followed
from webhook.inventory.index import Index
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.inventory.snapshot import SnapshotReader
from webhook.model.forklift import Release
from webhook.model.objects import Claim, KubeObject, Provider, Standing, Surroundings, User
from webhook.model.review import Admitted, Review
from webhook.model.vms import Folder, VirtualMachine
from webhook.rules import DEFAULTS, RULES
from webhook.runtime.sources import policy
from webhook.settings import Settings

FIXTURES = Path(__file__).parent / "fixtures"
BASE: dict[str, dict[str, Any]] = msgspec.yaml.decode((FIXTURES / "base.yaml").read_bytes())
RULE_IDS = [rule.id for rule in RULES]
DEFAULT_IDS = [default.id for default in DEFAULTS]
READY_PLAN = merged(BASE["Plan"], BASE["Ready"])
"""The Plan of a Migration: Forklift has looked at it."""
NAMESPACE, VSPHERE = "openshift-mtv", "vsphere-production"

_RESOURCES = {
    "PersistentVolumeClaim": ("", "v1", "persistentvolumeclaims"),
    "Plan": ("forklift.konveyor.io", "v1beta1", "plans"),
    "Migration": ("forklift.konveyor.io", "v1beta1", "migrations"),
    "Conversion": ("forklift.konveyor.io", "v1beta1", "conversions"),
}

PATIENCE = 60.0
"""Seconds that a request has in a test: how busy the machine is, is no test's subject."""


class Expect(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """What the two webhooks answer; `causes` are `field: message`."""

    verdict: str = "admitted"
    patch: list[dict[str, Any]] = []
    causes: list[str] = []
    warnings: list[str] = []
    message: str = ""
    recorded: list[str] = []
    """Ids of rules that only the audit log has."""


class Cluster(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """What is there already; PVCs and the Plan are merged over the base."""

    pvcs: list[dict[str, Any]] = []
    plan: dict[str, Any] | None = None
    classes: list[dict[str, Any]] = []
    pods: dict[str, str] = {}
    """Running ones: the PVC that each mounts, to the pod's name."""
    started: bool = False
    """A Migration that hasn't ended names the Plan."""
    started_plans: list[dict[str, Any]] = []
    """Others that a Migration which hasn't ended names; merged over the base."""
    enforce: str = ""
    """The target namespace's label."""
    rights: tuple[str, ...] = ("get providers", "list persistentvolumeclaims")
    """What the caller may do."""
    standing: dict[str, dict[str, Standing]] = {}
    """What a Plan names, by the plural of its kind and its name: `absent` where it isn't here, but
    a namespace is there."""
    surroundings: list[dict[str, Any]] = []
    """ResourceQuotas, LimitRanges and NetworkPolicies of the target namespace."""
    forklift: str = "2.12.1"
    """Its version; empty where that isn't known."""
    remote: list[str] = []
    """Names of openshift Providers with an address of their own."""


def base_settings(folder: Path) -> dict[str, Any]:
    """Settings of a server that knows the vSphere of `base.yaml`, by a snapshot in `folder`."""
    vms = [{"moref": moref, **vm} for moref, vm in BASE["vsphere"].items()]
    provider = {"namespace": NAMESPACE, "name": VSPHERE, "vms": vms}
    file = folder / "snapshot.yaml"
    file.write_bytes(msgspec.yaml.encode({"providers": [provider]}))
    return {"snapshots": [str(file)]}


class File(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """One case as it is written."""

    why: str
    object: dict[str, Any]
    expect: Expect
    old_object: dict[str, Any] | None = None
    vsphere: dict[str, dict[str, Any]] = {}
    folders: tuple[Folder, ...] = ()
    providers: dict[str, str] = {}
    cluster: Cluster | None = None
    settings: dict[str, Any] = {}
    simulator: str | None = None
    api_server: str | None = None


class FixedCluster:
    """A webhook.inventory.cluster.ClusterReader of what a case says is there."""

    def __init__(self, there: Cluster) -> None:
        self._there = there
        self._pvcs = [objects.claim(msgspec.json.encode(pvc)) for pvc in there.pvcs]
        self._plan: Any = there.plan
        self._others: dict[str, Any] = {_key(plan): plan for plan in there.started_plans}

    def followed(self) -> Followed:
        followed = Followed()
        for key, claim in self._pvcs:
            followed.claims.put(key, claim)
        for found in self._there.classes:
            followed.classes.put(*objects.storage_class(msgspec.json.encode(found)))
        if self._there.classes:
            followed.classes.heard(None)
        for plan in filter(None, (self._there.plan, *self._there.started_plans)):
            followed.plans.put(*objects.kept_plan(msgspec.json.encode(plan)))
        for table in (followed.claims, followed.enforced, followed.plans):
            table.heard(None)
        followed.release = Release.named(self._there.forklift) or Release()
        if self._there.enforce:
            followed.enforced.put("migrated-workloads", self._there.enforce)
        return followed

    async def claims(self, namespace: str) -> tuple[Claim, ...]:
        both = [claim for _, claim in self._pvcs if claim.vm_id and claim.vm_uuid]
        return tuple(claim for claim in both if claim.namespace == namespace)

    async def siblings(self, namespace: str, vm_id: str, vm_uuid: str) -> tuple[Claim, ...]:
        both = await self.claims(namespace)
        return tuple(claim for claim in both if claim.vm == (namespace, vm_id, vm_uuid))

    async def plan(self, namespace: str, name: str) -> KubeObject | None:
        return {**self._others, _key(self._plan): self._plan}.get(f"{namespace}/{name}")

    async def provider(self, namespace: str, name: str) -> Standing:
        return self._there.standing.get("providers", {}).get(name, "absent")

    async def started(self) -> frozenset[str]:
        own = {f"{NAMESPACE}/{BASE['Plan']['metadata']['name']}"} if self._there.started else set()
        return frozenset(own | self._others.keys())

    async def standing(self, kind: str, namespace: str, name: str) -> Standing:
        usual: Standing = "there" if kind == "namespaces" else "absent"
        return self._there.standing.get(kind, {}).get(name, usual)

    async def surroundings(self, namespace: str) -> Surroundings:
        kinds = "ResourceQuota", "LimitRange", "NetworkPolicy"
        there: Any = self._there.surroundings
        return Surroundings(*(tuple(obj for obj in there if obj["kind"] == kind) for kind in kinds))

    async def mounted(self, namespace: str) -> dict[str, str]:
        return self._there.pods

    async def may(self, user: User, verb: str, resource: str, namespace: str, name: str) -> bool:
        return f"{verb} {resource.partition('.')[0]}" in self._there.rights


def _key(plan: dict[str, Any] | None) -> str:
    return "{namespace}/{name}".format(**plan["metadata"]) if plan else ""


class Case(msgspec.Struct):
    """One case, everything merged."""

    path: Path
    object: dict[str, Any]
    old: dict[str, Any] | None
    vms: dict[str, dict[str, Any]]
    providers: dict[str, str]
    there: Cluster | None
    settings: dict[str, Any]
    expect: Expect
    simulator: str | None
    api_server: str | None
    folders: tuple[Folder, ...] = ()

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
        return policy(Settings.model_validate(self.settings))

    def sources(self, now: Callable[[], float] = lambda: 0.0) -> Sources:
        """The case's vSphere as an inventory that is its own fresh read."""
        vms = (
            msgspec.convert({"moref": moref, **vm}, VirtualMachine)
            for moref, vm in self.vms.items()
        )
        index = Index(vms, self.folders)
        vsphere = ProviderInventory(Provider(NAMESPACE, VSPHERE), SnapshotReader(index))
        vsphere.vms = index
        vsphere.heard(None)
        others = (
            ProviderInventory(Provider(NAMESPACE, name, kind))
            for name, kind in self.providers.items()
        )
        inventory = Inventory([vsphere, *others])
        if self.there is None:
            return Sources(inventory, self.policy, now)
        for name in self.there.remote:
            remote = ProviderInventory(Provider(NAMESPACE, name, "openshift"))
            remote.remote = True
            inventory.put(remote)
        cluster = FixedCluster(self.there)
        return Sources(inventory, self.policy, now, cluster.followed(), cluster)

    def update(self, expect: Expect) -> None:
        """Rewrite the file's `expect`, and nothing before it."""
        text = self.path.read_text()
        inputs = text[: re.search(r"^expect:", text, re.MULTILINE).start()]  # type: ignore[union-attr]
        body = msgspec.to_builtins(expect) or {"verdict": "admitted"}
        self.path.write_text(inputs + msgspec.yaml.encode({"expect": body}).decode())


def load(path: Path) -> Case:
    return case_of(msgspec.yaml.decode(path.read_bytes(), type=File), path)


def case_of(file: File, path: Path) -> Case:
    """`file`, which stands in `path`, merged over what every case starts from."""
    base = BASE[file.object["kind"]]
    there = file.cluster
    if there is not None:
        there.pvcs = [merged(BASE["PersistentVolumeClaim"], pvc) for pvc in there.pvcs]
        there.plan = None if there.plan is None else merged(READY_PLAN, there.plan)
        there.started_plans = [merged(READY_PLAN, plan) for plan in there.started_plans]
    return Case(
        path=path,
        object=merged(base, file.object),
        old=merged(base, file.old_object) if file.old_object else None,
        vms=merged(BASE["vsphere"], file.vsphere),
        folders=file.folders,
        providers=file.providers,
        there=there,
        settings=file.settings,
        expect=file.expect,
        simulator=file.simulator,
        api_server=file.api_server,
    )


def recorded(expect: Expect, audit: Mapping[str, str]) -> list[str]:
    """What the audit annotation `rules` has beyond what the user is told."""
    told = " ".join((*expect.causes, *expect.warnings, expect.message))
    rules = audit.get("rules", "")
    return [rule for rule in rules.split(",") if rule and f": {rule})" not in told]


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


def repaired(review: Review, sources: Sources) -> Admitted:
    """What /mutate would answer."""

    async def answer() -> Admitted:
        return await repair(review, sources, asyncio.get_running_loop().time() + PATIENCE)

    return asyncio.run(answer())
