"""What the Helm chart is made of: the files of manifests/, and a schema of its values.

`make fix` writes them, and `make check` fails where they differ.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.pages import ROOT
from webhook import __version__
from webhook.rules import DEFAULTS, RULES
from webhook.settings import Settings

MANIFESTS = ROOT / "manifests"
CHART = MANIFESTS / "chart"
_FOLDERS = (
    *("base", "self-managed", "provider-namespace", "api", "surroundings", "serving-secret"),
    *("cert-manager", "cert-manager/certificate", "openshift", "monitoring"),
)
_ANNOTATING = "cert-manager", "openshift"  # their kustomizations hold nothing else
_NOT_SETTINGS = {
    "Settings": (
        *("forkliftNamespace", "providerNamespaces"),
        *("clientCAFile", "allowedClientNames", "trustNetwork", "trustPath"),
        *("listen", "metricsListen"),
    ),
    "ApiSettings": ("enabled", "listen"),
    "TlsSettings": (
        *("source", "certFile", "keyFile", "service", "namespace", "secret"),
        *("validatingWebhookConfiguration", "mutatingWebhookConfiguration"),
    ),
}
"""The fields that are none of the value `settings`: another value says them, so that nothing is
said twice, or the chart's objects rely on their defaults: ports, names, mounted files."""


def made() -> Iterator[tuple[Path, bytes]]:
    """Each file of the chart that is made of something else, with its content."""
    for source in sources():
        yield CHART / "files" / source.relative_to(MANIFESTS), source.read_bytes()
    schema = json.dumps(_schema(), indent=1)
    yield CHART / "values.schema.json", f"{schema}\n".encode()
    page = CHART / "Chart.yaml"
    versions = re.sub(r"(?m)^(version|appVersion): .*$", rf"\1: {__version__}", page.read_text())
    yield page, versions.encode()


def sources() -> list[Path]:
    """The files of manifests/ that the chart has, too."""
    found = [file for folder in _FOLDERS for file in sorted((MANIFESTS / folder).iterdir())]
    return [
        file
        for file in found
        if file.suffix in (".yaml", ".json")
        and file.name != "namespace.yaml"
        and (file.name != "kustomization.yaml" or file.parent.name in _ANNOTATING)
    ]


def _schema() -> dict[str, Any]:
    settings, shared = _settings()
    text, flag = {"type": "string"}, {"type": "boolean"}
    name = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
    secret = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"}
    anything: dict[str, Any] = {"type": "object"}
    objects = {"type": "array", "items": {"type": "object"}}
    sources = ["self-managed", "files", "cert-manager", "openshift"]
    digest = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}
    image = {
        "repository": {"type": "string", "pattern": "^[^:@\\s]+(:[0-9]+/[^:@\\s]+)?$"},
        "tag": {"type": "string", "pattern": "^[\\w.-]*$"},
        "digest": digest,
        "pullPolicy": {"enum": ["", "Always", "IfNotPresent", "Never"]},
        "pullSecrets": objects,
    }
    trust = _object(
        clientCA=text,
        allowedClientNames={"type": "array", "items": text},
        network=flag,
        path=flag,
    )
    given = {"minLength": 1}
    certificate = _object(source={"enum": sources}, secretName=secret, caBundle=text)
    certificate["if"] = {"properties": {"source": {"const": "files"}}}
    certificate["else"] = {"properties": {"caBundle": {"maxLength": 0}}}
    trust["if"] = {"properties": {"clientCA": given}}
    trust["then"] = {"properties": {"allowedClientNames": {"minItems": 1}}}
    trust["else"] = {"properties": {"allowedClientNames": {"maxItems": 0}}}
    schema = _object(
        image=_object(**image),
        forklift=_object(namespace=name),
        providerNamespaces={"type": "array", "items": name, "uniqueItems": True},
        certificate=certificate,
        api=flag,
        strict=flag,
        surroundings=flag,
        monitoring=flag,
        docs={"type": "string", "pattern": "^https?://[^\\s<>]*[^/\\s<>]$"},
        trust=trust,
        settings=settings,
        replicas={"type": "integer", "minimum": 1},
        resources=anything,
        networkPolicy=_object(enabled=flag, egress=objects),
        nodeSelector=anything,
        tolerations=objects,
        affinity=anything,
        env=objects,
        volumes=objects,
        volumeMounts=objects,
    )
    schema["properties"]["global"] = anything  # Helm's own
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, **schema, "$defs": shared}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _settings() -> tuple[dict[str, Any], dict[str, Any]]:
    """Each field of the settings, as it is read; and the shapes that they share."""
    schema = _without_prose(Settings.model_json_schema(by_alias=True))
    shared = schema.pop("$defs")
    for shape, fields in _NOT_SETTINGS.items():
        for field in fields:
            del {"Settings": schema, **shared}[shape]["properties"][field]
    rules = {"enum": sorted(rule.id for rule in RULES)}
    for place in (schema, shared["NamespaceSettings"]):
        place["properties"]["rules"]["propertyNames"] = rules
    defaults = {"enum": sorted(default.id for default in DEFAULTS)}
    schema["properties"]["defaults"]["propertyNames"] = defaults
    return schema, shared


def _without_prose(node: Any) -> Any:
    """Neither titles nor docstrings; and no defaults, which the guard has itself."""
    if isinstance(node, list):
        return [_without_prose(one) for one in node]
    if not isinstance(node, dict):
        return node
    prose = ("title", "description", "default")
    return {
        key: {name: _without_prose(one) for name, one in value.items()}
        if key in ("properties", "$defs")
        else _without_prose(value)
        for key, value in node.items()
        if key not in prose
    }
