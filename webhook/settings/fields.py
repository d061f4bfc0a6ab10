"""All there is to set: its names, its shapes and its defaults."""

from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from webhook.model import marks
from webhook.settings.forms import (
    Address,
    Duration,
    FullName,
    HostName,
    Namespace,
    Network,
    ObjectName,
    SdkUrl,
    WrittenAction,
    lasting,
)


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


class TlsSettings(_Model):
    """Where the serving certificate comes from."""

    source: Literal["self-managed", "files"] = "self-managed"
    """A CA of the guard's own, kept in a Secret and written into the webhook configurations; or
    PEM files that somebody else keeps right, such as cert-manager or OpenShift's service CA."""
    cert_file: Path = Path("/etc/conversion-guard/tls/tls.crt")
    key_file: Path = Path("/etc/conversion-guard/tls/tls.key")
    service: ObjectName = "conversion-guard"
    namespace: Namespace | None = None
    """Of the Service and the Secret. Without one: the pod's own."""
    secret: ObjectName = "conversion-guard-tls"  # noqa: S105  a name
    validating_webhook_configuration: ObjectName = "conversion-guard"
    mutating_webhook_configuration: ObjectName = "conversion-guard"
    extra_names: tuple[HostName, ...] = ()
    """Further host names and IP addresses that the self-managed certificate is for."""

    @model_validator(mode="after")
    def _files_count(self) -> "TlsSettings":
        given = sorted({"cert_file", "key_file"} & self.model_fields_set)
        if given and self.source != "files":
            names = " and ".join(to_camel(name) for name in given)
            raise ValueError(f"{names} need source: files: add it, or remove them")
        return self


class ProviderSettings(_Model):
    """A Forklift Provider by its namespace and name: how its vSphere is read, or just its type."""

    namespace: Namespace
    name: ObjectName
    type: str = "vsphere"
    url: SdkUrl | None = None
    """https://<host>/sdk. Required for type vsphere; other types are only known by name."""
    user: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    """PEM; without it the system's own certificate authorities count."""
    insecure_skip_verify: bool = False

    @model_validator(mode="after")
    def _complete(self) -> "ProviderSettings":
        if self.type == "vsphere":
            needed = {"url": self.url, "user": self.user, "passwordFile": self.password_file}
            if missing := [name for name, value in needed.items() if value is None]:
                raise ValueError(f"a vSphere provider also needs {', '.join(missing)}")
        return self


def _each_once(providers: tuple[ProviderSettings, ...]) -> tuple[ProviderSettings, ...]:
    counted = Counter(f"{one.namespace}/{one.name}" for one in providers)
    if twice := [name for name, count in counted.items() if count > 1]:
        raise ValueError(f"{' and '.join(twice)} is there more than once: keep one entry of each")
    return providers


class ApiSettings(_Model):
    """The vendors' REST API: on a listener of its own, which trusts tokens only."""

    enabled: bool = False
    listen: Address = "0.0.0.0:8444"
    audience: Annotated[str, Field(min_length=1)] = "conversion-guard"
    """What a token must be made for: `kubectl create token NAME --audience conversion-guard`."""
    rate_per_user: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 100.0
    """Requests a second, as many at once; each object of a check counts as one."""


class AuditSettings(_Model):
    """Whether what is on the cluster is watched: one replica does it for all."""

    enabled: bool = True
    every: Annotated[Duration, Field(ge=60), lasting(60, "[6-9][0-9]|[1-9][0-9]{2,}")] = 600.0
    """How long until all that is watched is judged again, whatever the news."""


class NamespaceSettings(_Model):
    """What is done about findings in one namespace."""

    enforce: Literal["deny", "warn", "audit"] | None = None
    """The most that is done there, whatever the namespace's own label says."""
    rules: Mapping[str, WrittenAction] = {}


class PastConversionSettings(_Model):
    """The marks of a PVC whose conversion is over: findings only warn, so that it can be restored
    when its source VM and vCenter are long gone."""

    owner_kinds: frozenset[str] = marks.OWNER_KINDS
    annotations: frozenset[str] = marks.ANNOTATIONS
    labels: frozenset[str] = marks.LABELS


class Settings(_Model):
    """All there is to set. Each field's default is what a careful operator would choose."""

    listen: Address = "0.0.0.0:8443"
    metrics_listen: Address = "0.0.0.0:8080"
    api: ApiSettings = ApiSettings()
    audit: AuditSettings = AuditSettings()
    tls: TlsSettings = TlsSettings()
    client_ca_file: Path | None = Field(default=None, alias="clientCAFile")
    """PEM. With it, only who shows a certificate of this CA may send a review; probes need none."""
    allowed_client_names: frozenset[str] = frozenset()
    """The common names that such a certificate may have: the API server's."""
    shutdown_delay: Duration = 8.0
    """How long to serve on after SIGTERM, until nobody sends anything here any more."""
    cache_dir: Path | None = None
    """A folder for what is known of vSphere, so that a restart knows it, too, with its age."""
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    providers: Annotated[tuple[ProviderSettings, ...], AfterValidator(_each_once)] = ()
    forklift_namespace: Namespace = "openshift-mtv"
    """Where Forklift itself runs; the manifests say it in one place."""
    provider_namespaces: tuple[Namespace, ...] = Field(
        default_factory=lambda known: (known.get("forklift_namespace", ""),)
    )
    """Where Forklift's Providers are found and followed, inside a cluster or by `kubeconfig`.
    Without any: Forklift's own."""
    kubeconfig: Path | None = None
    denied_networks: tuple[Network, ...] = (
        IPv4Network("127.0.0.0/8"),
        IPv6Network("::1/128"),
        IPv4Network("169.254.0.0/16"),
        IPv6Network("fe80::/10"),
    )
    """Where no vSphere is ever looked for, whatever a Provider's address resolves to."""
    snapshots: tuple[Path, ...] = ()
    """Snapshot files (YAML or JSON), each with its own providers."""
    rules: Mapping[str, WrittenAction] = {}
    """Rule id to deny, warn, audit or off."""
    defaults: Mapping[str, bool] = {}
    """Default id to true or false."""
    undecided: Literal["deny", "warn"] = "deny"
    max_age: Duration = 3600.0
    silence: Annotated[Duration, Field(ge=5), lasting(5, "[5-9]|[1-9][0-9]+")] = 10.0
    """How long a vSphere may say nothing before an admission warns of it."""
    ignore_providers: frozenset[FullName] = frozenset()
    trust_network: bool = False
    """Only the API server can reach the port: whoever may see a Provider is told what it knows."""
    trust_path: bool = True
    """With a self-managed certificate: the webhook configurations get an unguessable path, and what
    comes by it is the API server's."""
    namespaces: Mapping[Namespace, NamespaceSettings] = {}
    """Namespace to what is done about findings there."""
    allow_namespace_opt_out: bool = False
    """Whether a namespace's label lowers the whole-disk-set proofs, too."""
    past_conversion: PastConversionSettings = PastConversionSettings()
    importers: frozenset[str] = frozenset(
        {
            "system:serviceaccount:cdi:cdi-sa",
            "system:serviceaccount:kubevirt-hyperconverged:cdi-sa",
            "system:serviceaccount:openshift-cnv:cdi-sa",
        }
    )
    """Accounts that make PVCs for Forklift: their `prime-*` are no vendor's."""

    @property
    def release_namespaces(self) -> frozenset[str]:
        """Where to ask which Forklift this is: where it runs, and where its Providers are."""
        return frozenset({self.forklift_namespace, *self.provider_namespaces})

    @property
    def keeps_path(self) -> bool:
        """Whether callers are proven by a path; a certificate proves more."""
        managed = self.tls.source == "self-managed"
        return self.trust_path and managed and self.client_ca_file is None

    @property
    def callers_proven_by(self) -> Literal["certificate", "network", "path", "nothing"]:
        """What a caller's userInfo is believed for."""
        if self.client_ca_file is not None:
            return "certificate"
        if self.trust_network:
            return "network"
        return "path" if self.keeps_path else "nothing"

    @model_validator(mode="after")
    def _names_of_clients(self) -> "Settings":
        if (self.client_ca_file is None) != (not self.allowed_client_names):
            raise ValueError(
                "set clientCAFile and allowedClientNames together: a CA signs for many clients, so"
                " write the common name of the API server"
            )
        return self


def spelled(field: str) -> str:
    """A field of Settings as the file spells it: `max_age` -> `maxAge`."""
    return Settings.model_fields[field].alias or field
