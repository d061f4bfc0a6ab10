"""The cases of tests/fixtures: one set, run at three heights (rule, HTTP, real API server).

A case is `why`, `object` (merged over its kind's base), `oldObject` for an UPDATE, `vsphere` (VMs
by moref, merged over the base), `providers` (further ones, name to type), `settings`, and `expect`,
which `pytest --update-fixtures` rewrites and a person reviews. `simulator` or `cluster` say why a
case can't be had there. For a default, `pass` is left alone and `fail` is filled in.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from webhook.cli.demo import merged
from webhook.decide import Policy, Sources
from webhook.inventory import Index, Inventory, ProviderInventory, SnapshotReader
from webhook.model import Provider, VirtualMachine
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
    settings: dict[str, Any] = {}
    simulator: str | None = None
    cluster: str | None = None


class Case(msgspec.Struct):
    """One case, everything merged."""

    path: Path
    object: dict[str, Any]
    old: dict[str, Any] | None
    vms: dict[str, dict[str, Any]]
    providers: dict[str, str]
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
        return Sources(Inventory([vsphere, *others]), self.policy, now)

    def update(self, expect: Expect) -> None:
        """Rewrite the file's `expect`, and nothing before it."""
        text = self.path.read_text()
        inputs = text[: re.search(r"^expect:", text, re.MULTILINE).start()]  # type: ignore[union-attr]
        body = msgspec.to_builtins(expect) or {"verdict": "admitted"}
        self.path.write_text(inputs + msgspec.yaml.encode({"expect": body}).decode())


def load(path: Path) -> Case:
    file = msgspec.yaml.decode(path.read_bytes(), type=_File)
    base = BASE[file.object["kind"]]
    return Case(
        path=path,
        object=merged(base, file.object),
        old=merged(base, file.old_object) if file.old_object else None,
        vms=merged(BASE["vsphere"], file.vsphere),
        providers=file.providers,
        settings=file.settings,
        expect=file.expect,
        simulator=file.simulator,
        cluster=file.cluster,
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
