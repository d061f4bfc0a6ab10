"""`conversion-guard doctor`: what is wrong with this installation, each with its fix."""

import asyncio
import json
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from webhook import __version__
from webhook.cli.doctor import rights, webhooks
from webhook.cli.doctor.finding import APPLY, Finding
from webhook.cli.known import Where, cluster_of, settings_of
from webhook.cli.output import dump
from webhook.cluster import (
    ApiPath,
    Cluster,
    ClusterForbidden,
    ClusterMissing,
    FoundProvider,
    LiveReader,
    found_in,
    mislabelled,
    reach,
)
from webhook.engine.policy import LABELS
from webhook.errors import ClusterUnreachable, SettingsInvalid, VsphereUnreachable
from webhook.model.keys import ENFORCE
from webhook.runtime import sources
from webhook.settings import Settings

_OLDEST = 1, 30
"""Of Kubernetes: admission policies and matchConditions are there for good."""
_SHIPPED = Path(__file__).with_name("shipped.json")
_ADMISSION = "admissionregistration.k8s.io/v1"
_CRDS = "apiextensions.k8s.io/v1", "customresourcedefinitions"
_VERSION = "v1beta1"
_FIELDS = {
    "plans": (
        "spec.type", "spec.targetNamespace", "spec.provider.source", "spec.provider.destination",
        "spec.vms.id", "spec.vms.name", "spec.map.network", "status.conditions",
    ),
    "migrations": ("spec.plan", "status.completed"),
    "providers": ("spec.type", "spec.url", "spec.secret"),
    "conversions": ("spec.type", "spec.vm", "spec.disks"),
}  # fmt: skip
"""What the guard reads of Forklift's objects."""
_LATER = frozenset({"conversions"})  # an older Forklift has none

_SIGNS = {"good": "good   ", "wrong": "WRONG  ", "unknown": "unknown", "note": "note   "}


class Findings(msgspec.Struct, frozen=True):
    """As `--output json` has them."""

    findings: tuple[Finding, ...]


def run(where: Where, namespace: str, output: str) -> int:
    """The exit code: 1 if something is wrong or can't be looked at. Raises GuardError.

    `namespace` is the guard's own.
    """
    findings = asyncio.run(_looked(where, namespace))
    if output == "table":
        sys.stdout.write("".join(map(_line, findings)))
    else:
        dump(Findings(tuple(findings)), output)
    return 1 if any(one.state in ("wrong", "unknown") for one in findings) else 0


def _line(finding: Finding) -> str:
    head = f"{_SIGNS[finding.state]}  {finding.area:13} {finding.what}\n"
    # What is to be pasted into a shell keeps its margin.
    gap = "\n" if "\n" in finding.fix else " "
    return head + (f"  fix:{gap}{finding.fix}\n" if finding.fix else "")


async def _looked(where: Where, namespace: str) -> list[Finding]:
    async with cluster_of(where, settings_of(where.settings)) as cluster:
        look = _Look(cluster, where, namespace)
        findings = [finding async for finding in look.version()]  # unreachable: for good
        await look.settle(findings)
        for area, looks in (
            ("forklift", look.crds),
            ("deployment", look.deployment),
            ("webhooks", look.webhooks),
            ("certificates", look.certificates),
            ("rights", look.rights),
            ("namespaces", look.namespaces),
            ("vcenters", look.vcenters),
        ):
            try:
                findings += [finding async for finding in looks()]
            except ClusterForbidden as error:
                fix = "run doctor with more rights, such as those of cluster-admin"
                findings.append(Finding(area, "unknown", f"you may not read it: {error}", fix))
            except (ClusterUnreachable, msgspec.DecodeError) as error:
                findings.append(Finding(area, "unknown", str(error), "try again"))
        return findings


class _Look:
    """A cluster, and the guard in it."""

    def __init__(self, cluster: Cluster, where: Where, namespace: str) -> None:
        self._cluster, self._where, self._namespace = cluster, where, namespace
        self._shipped: dict[str, Any] = json.loads(_SHIPPED.read_text())
        self._settings = settings_of(where.settings)
        self._deployment: dict[str, Any] | None = None
        self._both: list[tuple[str, str, dict[str, Any] | None]] = []

    async def _get(self, path: ApiPath) -> dict[str, Any] | None:
        """None: there is no such object."""
        try:
            found: dict[str, Any] = msgspec.json.decode(await self._cluster.get(path))
        except ClusterMissing:
            return None
        return found

    def _own(self, api: str, plural: str, name: str) -> ApiPath:
        return ApiPath(api, plural, namespace=self._namespace, name=name)

    async def version(self) -> AsyncIterator[Finding]:
        told = msgspec.json.decode(await self._cluster.version(), type=dict[str, Any])
        numbers = [re.sub(r"\D", "", str(told.get(part, ""))) for part in ("major", "minor")]
        version = tuple(int(number or 0) for number in numbers)
        what = f"Kubernetes {told.get('gitVersion', 'of an unknown version')}"
        if version < _OLDEST:
            oldest = ".".join(map(str, _OLDEST))
            yield Finding("versions", "wrong", f"{what} is older than {oldest}", "upgrade it")
        else:
            yield Finding("versions", "good", what)

    async def settle(self, findings: list[Finding]) -> None:
        """The settings: a file that is given, or those that the guard itself runs with."""
        path = self._own("apps/v1", "deployments", rights.ACCOUNT)
        try:
            self._deployment = await self._get(path)
            if self._where.settings is not None or self._deployment is None:
                return
            for volume in _at(self._deployment, "spec", "template", "spec", "volumes") or ():
                name = _at(volume, "configMap", "name")
                if name:
                    path = self._own("v1", "configmaps", name)
                    text = _at(await self._get(path) or {}, "data", "settings.yaml")
                    self._settings = _settings_in(text or "", name)
                    findings.append(Finding("settings", "good", f"ConfigMap {name} can be read"))
        except SettingsInvalid as error:
            fix = "correct manifests/base/settings.yaml, and apply it"
            findings.append(Finding("settings", "wrong", str(error), fix))
        except ClusterForbidden as error:
            fix = "give --settings FILE"
            findings.append(
                Finding("settings", "unknown", f"the defaults are assumed: {error}", fix)
            )

    async def crds(self) -> AsyncIterator[Finding]:
        for plural, fields in _FIELDS.items():
            name = f"{plural}.forklift.konveyor.io"
            found = await self._get(ApiPath(*_CRDS, name=name))
            if found is None:
                state: Any = "note" if plural in _LATER else "wrong"
                fix = "" if plural in _LATER else "install Forklift, or a later version of it"
                yield Finding("forklift", state, f"there is no CRD {name}", fix)
                continue
            schemas = {
                version["name"]: _at(version, "schema", "openAPIV3Schema") or {}
                for version in _at(found, "spec", "versions") or ()
                if version.get("served")
            }
            schema = schemas.get(_VERSION)
            if schema is None:
                what = f"CRD {name} serves {', '.join(schemas) or 'nothing'}, not {_VERSION}"
                yield Finding("forklift", "wrong", what, "install a Forklift that does")
                continue
            lacks = [field for field in fields if not _has(schema, field.split("."))]
            types = _at(schema, "properties", "spec", "properties", "type", "enum")
            if plural == "plans" and types is not None and "conversion" not in types:
                lacks.append("spec.type: conversion")
            if lacks:
                what = f"CRD {name} has no {', '.join(lacks)}"
                fix = "install a Forklift that knows conversion migrations"
                yield Finding("forklift", "wrong", what, fix)
            else:
                yield Finding("forklift", "good", f"CRD {name} has every field that is read")

    async def deployment(self) -> AsyncIterator[Finding]:
        name = f"{self._namespace}/{rights.ACCOUNT}"
        if self._deployment is None:
            yield Finding("deployment", "wrong", f"there is no Deployment {name}", APPLY)
            return
        ready = _at(self._deployment, "status", "readyReplicas") or 0
        wanted = _at(self._deployment, "spec", "replicas")
        what = f"Deployment {name}: {ready} of {wanted} replicas are ready"
        if ready:
            yield Finding("deployment", "good", what)
        else:
            fix = f"kubectl logs -n {self._namespace} deployment/{rights.ACCOUNT}"
            yield Finding("deployment", "wrong", what, fix)
        for container in _at(self._deployment, "spec", "template", "spec", "containers") or ():
            image = str(container.get("image", ""))
            tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
            if tag and tag != __version__:
                what = f"it runs {image}, but this command is {__version__}: manifests may differ"
                yield Finding("versions", "note", what)

    async def _configurations(self) -> list[tuple[str, str, dict[str, Any] | None]]:
        if not self._both:
            names = self._settings.tls
            self._both = [
                (kind, name, await self._get(ApiPath(_ADMISSION, f"{kind.lower()}s", name=name)))
                for kind, name in (
                    ("MutatingWebhookConfiguration", names.mutating_webhook_configuration),
                    ("ValidatingWebhookConfiguration", names.validating_webhook_configuration),
                )
            ]
        return self._both

    async def webhooks(self) -> AsyncIterator[Finding]:
        for kind, name, there in await self._configurations():
            for finding in webhooks.compared(kind, name, there, self._shipped["webhooks"][kind]):
                yield finding
        listed = await self._get(ApiPath(_ADMISSION, "mutatingwebhookconfigurations")) or {}
        own = self._settings.tls.mutating_webhook_configuration
        for finding in webhooks.order(listed.get("items") or (), own):
            yield finding
        if self._settings.tls.source == "self-managed":
            name = "conversion-guard-ca-bundle"
            for plural in ("validatingadmissionpolicies", "validatingadmissionpolicybindings"):
                if await self._get(ApiPath(_ADMISSION, plural, name=name)) is None:
                    what = f"no {name} in {plural}: a stolen token of the guard could change more"
                    yield Finding("webhooks", "wrong", f"{what} than caBundle", APPLY)

    async def certificates(self) -> AsyncIterator[Finding]:
        chosen = self._settings.tls
        found = [there for _, _, there in await self._configurations() if there]
        place = chosen.namespace or self._namespace
        secret = await self._get(ApiPath("v1", "secrets", namespace=place, name=chosen.secret))
        for finding in webhooks.certificates(
            [hook for there in found for hook in there.get("webhooks") or ()],
            (secret or {}).get("data"),
            name=chosen.secret,
            host=f"{chosen.service}.{place}.svc",
            namespace=place,
            self_managed=chosen.source == "self-managed",
        ):
            yield finding

    async def rights(self) -> AsyncIterator[Finding]:
        reader = LiveReader()
        reader.cluster = self._cluster
        guard = rights.account(self._namespace)
        keeps = self._settings.tls.source == "self-managed"
        roles = self._shipped["cluster"] if keeps else self._shipped["cluster"][:2]
        places = [(roles, "", APPLY)]
        if keeps:
            places.append((self._shipped["own"], self._namespace, APPLY))
        if self._settings.api.enabled:
            places.append((self._shipped["api"], "", "kubectl apply -k manifests/overlays/api"))
        for place in self._settings.provider_namespaces:
            fix = rights.for_namespace(self._shipped["providers"], place, self._namespace)
            places.append((self._shipped["providers"], place, fix))
        for objects, place, fix in places:
            async for finding in rights.granted(reader, guard, objects, place, fix):
                yield finding

    async def namespaces(self) -> AsyncIterator[Finding]:
        async for page in self._cluster.pages(ApiPath("v1", "namespaces"), labelSelector=ENFORCE):
            for raw in page.items:
                metadata = msgspec.json.decode(raw)["metadata"]
                name, value = metadata["name"], metadata["labels"][ENFORCE]
                if value not in LABELS:
                    what = f"namespace {name}: {mislabelled(value)}"
                    fix = f"kubectl label namespace {name} --overwrite {ENFORCE}=deny"
                    yield Finding("namespaces", "wrong", what, fix)

    async def vcenters(self) -> AsyncIterator[Finding]:
        used = self._settings.provider_namespaces
        try:
            found = await found_in(self._cluster)
        except ClusterForbidden:
            found = {}
            for place in used:
                found |= await found_in(self._cluster, place)
        for place in sorted({p.namespace for p in found if p.type == "vsphere"} - set(used)):
            what = f"the vSphere Providers of namespace {place} are not used"
            role = rights.for_namespace(self._shipped["providers"], place, self._namespace)
            fix = f"to use them, add {place} to the setting providerNamespaces, and\n{role}"
            yield Finding("vcenters", "note", what, fix)
        mine = [p for p in found if p.type == "vsphere" and p.namespace in used]
        for provider in mine:
            try:
                there = await reach(self._cluster, provider.namespace, found[provider])
            except ClusterForbidden:
                raise
            except ClusterUnreachable as error:
                fix = (
                    f"kubectl edit provider {provider.name} -n {provider.namespace}, or its Secret"
                )
                yield Finding("vcenters", "wrong", f"Provider {provider}: {error}", fix)
                continue
            yield await asyncio.to_thread(_probed, str(provider), self._settings, there)
        for entry in self._settings.providers:
            if entry.type == "vsphere":
                what = f"provider {entry.namespace}/{entry.name} is from the settings"
                yield Finding("vcenters", "note", f"{what}: the guard's log shows its state")
        if not mine and not self._settings.providers:
            what = f"there is no vSphere Provider in {', '.join(used)}: every PVC is undecided"
            fix = "create a Provider there, or add its namespace to the setting providerNamespaces"
            yield Finding("vcenters", "wrong", what, fix)


def _probed(name: str, settings: Settings, found: FoundProvider) -> Finding:
    # Here, not above: pyVmomi is slow to import, and the rest is said without it.
    from webhook.vsphere import probe

    where = f"Provider {name}: {found.url}"
    try:
        seen = probe(sources.address(settings, found))
    except VsphereUnreachable as error:
        fix = "correct the Provider, its Secret or the network to it"
        return Finding("vcenters", "wrong", f"{where}: {error}", fix)
    if seen.missing:
        what = f"{where}: {found.user} has no {', '.join(seen.missing)} on the root folder"
        fix = "give it the role Read-only on the root folder, propagated to its children"
        return Finding("vcenters", "wrong", what, fix)
    if not seen.vms:
        what = f"{where}: {found.user} sees no VM at all"
        fix = "give it the role Read-only on the root folder, propagated to its children"
        return Finding("vcenters", "wrong", what, fix)
    if found.insecure:
        what = f"{where}: its certificate is not verified (insecureSkipVerify)"
        fix = "put its CA into the Secret's ca.crt, and remove insecureSkipVerify"
        return Finding("vcenters", "note", what, fix)
    return Finding("vcenters", "good", f"{where}: {seen.product}, {seen.vms} VMs can be read")


def _settings_in(text: str, name: str) -> Settings:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "settings.yaml"
        file.write_text(text)
        try:
            return settings_of(file)
        except SettingsInvalid as error:
            raise SettingsInvalid(str(error).replace(str(file), f"ConfigMap {name}")) from None


def _has(schema: Mapping[str, Any], path: Collection[str]) -> bool:
    """Whether the API server keeps that field: an array's items count as the array."""
    for part in path:
        while "items" in schema:
            schema = schema["items"]
        known = schema.get("properties") or {}
        if part not in known:
            return bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        schema = known[part]
    return True


def _at(obj: Any, *path: str) -> Any:
    for part in path:
        obj = obj.get(part) if isinstance(obj, dict) else None
    return obj
