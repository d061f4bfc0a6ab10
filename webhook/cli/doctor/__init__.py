"""`conversion-guard doctor`: what is wrong with this installation, each with its fix."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from webhook.cli.doctor import deployment, enforcing, forklift, rights, vcenters, webhooks
from webhook.cli.doctor.finding import APPLY, Grade, Observation, unseen
from webhook.cli.doctor.forklift import at
from webhook.cli.known import Where, cluster_of, settings_of
from webhook.cli.output import dump
from webhook.cluster import (
    ApiPath,
    Cluster,
    ClusterForbidden,
    ClusterMissing,
    LiveReader,
    mislabelled,
)
from webhook.cluster.paths import FORKLIFT
from webhook.engine.policy import LABELS
from webhook.errors import ClusterUnreachable, SettingsInvalid
from webhook.model.forklift import Plan
from webhook.model.keys import ENFORCE
from webhook.runtime.settings_file import settings_in

_OLDEST = 1, 30
"""Of Kubernetes: admission policies and matchConditions are there for good."""
_SHIPPED = Path(__file__).with_name("shipped.json")
_ADMISSION = "admissionregistration.k8s.io/v1"

_SIGNS: dict[Grade, str] = {
    "good": "good   ",
    "wrong": "WRONG  ",
    "unknown": "unknown",
    "note": "note   ",
}


class Findings(msgspec.Struct, frozen=True):
    """As `--output json` has them."""

    findings: tuple[Observation, ...]
    summary: dict[Grade, int]
    """How many there are of each state."""


def main(where: Where, namespace: str, output: str) -> int:
    """The exit code: 1 if something is wrong, else 2 if something can't be seen. Raises GuardError.

    `namespace` is the guard's own.
    """
    findings = asyncio.run(_looked(where, namespace))
    summary: dict[Grade, int] = dict.fromkeys(_SIGNS, 0)
    for one in findings:
        summary[one.state] += 1
    if output == "table":
        sys.stdout.write("".join(map(_line, findings)))
        counts = ", ".join(f"{count} {state}" for state, count in summary.items())
        sys.stdout.write(f"summary: {counts}\n")
    else:
        dump(Findings(tuple(findings), summary), output)
    return 1 if summary["wrong"] else 2 if summary["unknown"] else 0


def _line(finding: Observation) -> str:
    head = f"{_SIGNS[finding.state]}  {finding.area:13} {finding.what}\n"
    # What is to be pasted into a shell keeps its margin.
    gap = "\n" if "\n" in finding.fix else " "
    return head + (f"  fix:{gap}{finding.fix}\n" if finding.fix else "")


async def _looked(where: Where, namespace: str) -> list[Observation]:
    async with cluster_of(where, settings_of(where.settings)) as cluster:
        look = _Look(cluster, where, namespace)
        findings = [finding async for finding in look.version()]  # unreachable: for good
        await look.settle(findings)
        for area, looks in (
            ("forklift", look.forklift),
            ("forklift", look.release),
            ("deployment", look.deployment),
            ("webhooks", look.webhooks),
            ("webhooks", look.callers),
            ("webhooks", look.exempt),
            ("certificates", look.certificates),
            ("rights", look.rights),
            ("namespaces", look.namespaces),
            ("vcenters", look.vcenters),
            ("enforcing", look.enforcing),
        ):
            try:
                async for finding in looks():
                    findings.append(finding)  # also what comes before something that fails
            except ClusterForbidden as error:
                findings.append(unseen(area, f"all of it: {error}"))
            except (ClusterUnreachable, msgspec.DecodeError) as error:
                findings.append(Observation(area, "unknown", str(error), "try again"))
        return findings


class _Look:
    """A cluster, and the guard in it."""

    def __init__(self, cluster: Cluster, where: Where, namespace: str) -> None:
        self._cluster, self._where, self._namespace = cluster, where, namespace
        self._shipped: dict[str, Any] = json.loads(_SHIPPED.read_text())
        self._settings = settings_of(where.settings)
        self._deployment: dict[str, Any] | None = None
        self._both: list[tuple[str, str, dict[str, Any] | None]] = []
        self._conversions: list[Plan] | None = None

    async def _get(self, path: ApiPath) -> dict[str, Any] | None:
        """None: there is no such object."""
        try:
            found: dict[str, Any] = msgspec.json.decode(await self._cluster.get(path))
        except ClusterMissing:
            return None
        return found

    def _own(self, api: str, plural: str, name: str) -> ApiPath:
        return ApiPath(api, plural, namespace=self._namespace, name=name)

    async def version(self) -> AsyncIterator[Observation]:
        told = msgspec.json.decode(await self._cluster.version(), type=dict[str, Any])
        numbers = [re.sub(r"\D", "", str(told.get(part, ""))) for part in ("major", "minor")]
        version = tuple(int(number or 0) for number in numbers)
        what = f"Kubernetes {told.get('gitVersion', 'of an unknown version')}"
        if version < _OLDEST:
            oldest = ".".join(map(str, _OLDEST))
            yield Observation("versions", "wrong", f"{what} is older than {oldest}", "upgrade it")
        else:
            yield Observation("versions", "good", what)

    async def settle(self, findings: list[Observation]) -> None:
        """The settings: a file that is given, or those that the guard itself runs with."""
        path = self._own("apps/v1", "deployments", rights.ACCOUNT)
        try:
            self._deployment = await self._get(path)
            if self._where.settings is not None or self._deployment is None:
                return
            for volume in at(self._deployment, "spec", "template", "spec", "volumes") or ():
                name = at(volume, "configMap", "name")
                if name:
                    path = self._own("v1", "configmaps", name)
                    text = at(await self._get(path) or {}, "data", "settings.yaml")
                    environment = deployment.environment(self._deployment)
                    self._settings = settings_in(f"ConfigMap {name}", text or "", environment)
                    findings.append(
                        Observation("settings", "good", f"ConfigMap {name} can be read")
                    )
        except SettingsInvalid as error:
            fix = f"correct it in my-cluster/settings.yaml, or in Helm's values.yaml, and\n{APPLY}"
            findings.append(Observation("settings", "wrong", str(error), fix))
        except ClusterForbidden as error:
            what = f"you may not see them, so the defaults are assumed: {error}"
            findings.append(Observation("settings", "unknown", what, "give --settings FILE"))

    def forklift(self) -> AsyncIterator[Observation]:
        return forklift.looked(self._get)

    def release(self) -> AsyncIterator[Observation]:
        return forklift.release(self._cluster, self._settings.release_namespaces)

    async def deployment(self) -> AsyncIterator[Observation]:
        path = self._own("apps/v1", "deployments", rights.ACCOUNT)
        self._deployment = self._deployment or await self._get(path)
        for finding in deployment.looked(self._deployment, self._namespace):
            yield finding

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

    async def _hooks(self) -> list[dict[str, Any]]:
        found = [there for _, _, there in await self._configurations() if there]
        return [hook for there in found for hook in there.get("webhooks") or ()]

    async def webhooks(self) -> AsyncIterator[Observation]:
        for kind, name, there in await self._configurations():
            shipped = webhooks.placed(self._shipped["webhooks"][kind], self._namespace)
            for finding in webhooks.compared(kind, name, there, shipped):
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
                    what = f"{what} than caBundle and path"
                    yield Observation("webhooks", "wrong", what, APPLY)

    async def callers(self) -> AsyncIterator[Observation]:
        hooks = await self._hooks()
        for finding in webhooks.callers(self._settings, hooks, self._namespace):
            yield finding

    async def exempt(self) -> AsyncIterator[Observation]:
        used = {*self._settings.release_namespaces, *(p.namespace for p in await self._plans())}
        for finding in webhooks.exempt(await self._hooks(), used, self._namespace):
            yield finding

    async def certificates(self) -> AsyncIterator[Observation]:
        chosen = self._settings.tls
        hooks = await self._hooks()
        place = chosen.namespace or self._namespace
        secret, seen = None, True
        try:
            secret = await self._get(ApiPath("v1", "secrets", namespace=place, name=chosen.secret))
        except ClusterForbidden as error:
            seen = False
            yield unseen("certificates", f"Secret {place}/{chosen.secret}: {error}")
        for finding in webhooks.certificates(
            hooks,
            (secret or {}).get("data"),
            seen=seen,
            name=chosen.secret,
            host=f"{chosen.service}.{place}.svc",
            namespace=place,
            self_managed=chosen.source == "self-managed",
        ):
            yield finding

    async def rights(self) -> AsyncIterator[Observation]:
        reader = LiveReader()
        reader.cluster = self._cluster
        guard = rights.account(self._namespace)
        keeps = self._settings.tls.source == "self-managed"
        roles = self._shipped["cluster"] if keeps else self._shipped["cluster"][:2]
        places = [(roles, "", APPLY), (self._shipped["logins"], self._namespace, APPLY)]
        if keeps:
            places.append((self._shipped["own"], self._namespace, APPLY))
        if self._settings.api.enabled:
            into = "into my-cluster/kustomization.yaml, or api: true into Helm's values.yaml"
            fix = f"write components: [../manifests/api] {into}, and\n{APPLY}"
            places.append((self._shipped["api"], "", fix))
        for place in sorted(self._settings.release_namespaces):
            all_of_it = place in self._settings.provider_namespaces
            objects = self._shipped["providers" if all_of_it else "release"]
            fix = rights.for_namespace(objects, place, self._namespace)
            places.append((objects, place, fix))
        for objects, place, fix in places:
            async for finding in rights.granted(reader, guard, objects, place, fix):
                yield finding
        async for finding in rights.luks(reader, guard, await self._plans(), self._namespace):
            yield finding

    async def _plans(self) -> list[Plan]:
        """Those of conversions."""
        if self._conversions is None:
            listed = await self._get(ApiPath(FORKLIFT, "plans")) or {}
            self._conversions = list(forklift.conversions(listed.get("items") or ()))
        return self._conversions

    async def namespaces(self) -> AsyncIterator[Observation]:
        async for page in self._cluster.pages(ApiPath("v1", "namespaces"), labelSelector=ENFORCE):
            for raw in page.items:
                metadata = msgspec.json.decode(raw)["metadata"]
                name, value = metadata["name"], metadata["labels"][ENFORCE]
                if value not in LABELS:
                    what = f"namespace {name}: {mislabelled(value)}"
                    fix = f"kubectl label namespace {name} --overwrite {ENFORCE}=deny"
                    yield Observation("namespaces", "wrong", what, fix)

    def vcenters(self) -> AsyncIterator[Observation]:
        return vcenters.looked(self._cluster, self._settings, self._shipped, self._namespace)

    def enforcing(self) -> AsyncIterator[Observation]:
        return enforcing.tried(self._cluster)
