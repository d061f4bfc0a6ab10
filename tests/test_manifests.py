"""The shipped manifests against the code that they run."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from webhook import __version__
from webhook.engine.books import book_of
from webhook.engine.policy import PastConversion
from webhook.facts.rule import AnyRule, Default
from webhook.model import marks, review
from webhook.model.keys import (
    CONVERSION_FIELDS,
    DISK_SOURCE,
    MIGRATION_FIELDS,
    PLAN_FIELDS,
    PVC_FIELDS,
    VM_ID,
    VM_UUID,
)
from webhook.rules import DEFAULTS, RULES
from webhook.settings import Settings, TlsSettings, load

MANIFESTS = Path(__file__).parents[1] / "manifests"
SETTINGS = MANIFESTS / "base" / "settings.yaml"


def _yaml(name: str) -> Any:
    return msgspec.yaml.decode((MANIFESTS / name).read_bytes())


MUTATING = _yaml("base/mutating-webhook.yaml")
VALIDATING = _yaml("base/validating-webhook.yaml")
both = pytest.mark.parametrize("config", [MUTATING, VALIDATING], ids=["mutating", "validating"])


@both
def test_a_webhook_is_called_for_what_it_can_judge_and_for_nothing_else(config: Any) -> None:
    resources = {
        "pvc.conversion-guard.io": ("", "v1", "persistentvolumeclaims"),
        "plan.conversion-guard.io": ("forklift.konveyor.io", "v1beta1", "plans"),
        "migration.conversion-guard.io": ("forklift.konveyor.io", "v1beta1", "migrations"),
        "conversion.conversion-guard.io": ("forklift.konveyor.io", "v1beta1", "conversions"),
        "pvc-warn.conversion-guard.io": ("", "v1", "persistentvolumeclaims"),
    }
    names = [hook["name"] for hook in config["webhooks"]]
    wanted = list(resources)[: 2 if config is MUTATING else 5]
    assert names == wanted, "only PVCs and Plans have defaults"
    for hook in config["webhooks"]:
        group, version, resource = resources[hook["name"]]
        (rule,) = hook["rules"]
        assert (rule["apiGroups"], rule["apiVersions"]) == ([group], [version])
        assert rule["resources"] == [resource], "no subresource"
        assert rule["operations"] == ["CREATE", "UPDATE"], "never DELETE"
        assert rule["scope"] == "Namespaced"
        assert hook["sideEffects"] == "None"
        assert hook["admissionReviewVersions"] == ["v1"]
        assert hook["matchPolicy"] == "Equivalent"
        (exempt,) = hook["namespaceSelector"]["matchExpressions"]
        assert exempt["operator"] == "NotIn"
        assert set(exempt["values"]) == {"conversion-guard", "kube-system"}


def test_both_are_called_for_the_same_and_one_only_where_something_may_need_repair() -> None:
    for one, other in zip(MUTATING["webhooks"], VALIDATING["webhooks"][:2], strict=True):
        *same, repair = one["matchConditions"]
        assert same == other["matchConditions"]
        assert repair["name"] == "may-need-repair"


def test_validation_fails_closed_and_mutation_open() -> None:
    for hook in VALIDATING["webhooks"]:
        # Warm and cold Migrations can't be told from conversions: they must not be stopped. What is
        # only warned of must not, either.
        policies = {"migration": ("Ignore", 5), "pvc-warn": ("Ignore", 2)}
        expected = policies.get(hook["name"].partition(".")[0], ("Fail", 5))
        assert (hook["failurePolicy"], hook["timeoutSeconds"]) == expected
        assert hook["clientConfig"]["service"]["path"] == "/validate"
    for hook in MUTATING["webhooks"]:
        assert (hook["failurePolicy"], hook["timeoutSeconds"]) == ("Ignore", 3)
        assert hook["reinvocationPolicy"] == "IfNeeded"
        assert hook["clientConfig"]["service"]["path"] == "/mutate"


def test_the_repair_comes_before_forklifts_own_webhook() -> None:
    assert MUTATING["metadata"]["name"] < "forklift-api-plans"


@both
def test_the_conditions_name_the_keys_of_the_code(config: Any) -> None:
    conditions = config["webhooks"][0]["matchConditions"]
    for condition in conditions[:2]:
        for key in (VM_ID, VM_UUID, DISK_SOURCE):
            assert f"'{key}'" in condition["expression"], condition["name"]


FIELDS = {
    review.PVC: PVC_FIELDS,
    review.PLAN: PLAN_FIELDS,
    review.MIGRATION: MIGRATION_FIELDS,
    review.CONVERSION: CONVERSION_FIELDS,
}
"""Of each kind the fields whose change the engine judges."""


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.kind)
def test_a_change_of_what_a_rule_reads_reaches_the_webhook(kind: review.Kind) -> None:
    book, resource = book_of(kind), review.RESOURCES[kind].resource
    for config, read in ((VALIDATING, book.rules), (MUTATING, book.defaults)):
        reads = frozenset[str]().union(*(one.reads for one in read)) & FIELDS[kind]
        hooks = [hook for hook in config["webhooks"] if hook["rules"][0]["resources"] == [resource]]
        assert bool(hooks) == bool(reads)
        for hook in hooks[:1]:  # the second one for PVCs only warns, of what the first leaves out
            (changes,) = (
                one["expression"]
                for one in hook["matchConditions"]
                if one["expression"].startswith("oldObject == null ||")
            )
            compared = set(_compared(changes))
            paths = {path for field in reads for path in field.split(", ")}
            assert not {path for path in paths if compared.isdisjoint(_above(path))}


@pytest.mark.parametrize("one", [*RULES, *DEFAULTS], ids=lambda one: one.id)
def test_a_change_of_what_a_rule_reads_is_judged(one: AnyRule | Default[Any]) -> None:
    judged = frozenset[str]()
    for kind, fields in FIELDS.items():
        book = book_of(kind)
        if one.id in {*(rule.id for rule in book.rules), *(fill.id for fill in book.defaults)}:
            judged |= fields
    assert one.reads <= judged


def _compared(expression: str) -> Iterator[str]:
    """`spec.vm` of `object.?spec.?vm != oldObject.?spec.?vm`, and so on; with `key` in it once for
    each that the list before names."""
    keys = re.search(r"\[([^\[\]]+)\]\.exists\(key,", expression)
    for now, before in re.findall(r"\bobject\.(\S+) !=\s+oldObject\.([^\s)]+)", expression):
        assert now == before
        path = re.sub("[?']", "", now)
        if path.endswith("[key]"):
            assert keys is not None
            for key in re.findall("'([^']+)'", keys[1]):
                yield path.replace("[key]", f"[{key}]")
        else:
            yield path


def _above(path: str) -> Iterator[str]:
    """It, and whatever holds it: `spec.map.network`, `spec.map`, `spec`."""
    while path:
        yield path
        path = path.rpartition(".")[0] if "[" not in path else ""


@both
def test_the_conditions_have_the_marks_of_the_code(config: Any) -> None:
    """A copy is created also while the guard is down, whatever the engine takes for one."""
    past = PastConversion()
    wanted = {marks.BOUND, *past.owner_kinds, *past.annotations, *past.labels}
    expressions = [
        condition["expression"]
        for hook in config["webhooks"]
        for condition in hook["matchConditions"]
        if "past-its-conversion" in condition["name"]
    ]
    assert len(expressions) == (1 if config is MUTATING else 2)
    for expression in expressions:
        found = set(re.findall(r"'([^']+)'", expression)) - {VM_ID, VM_UUID, DISK_SOURCE}
        assert found == wanted


def test_the_deployment_runs_the_server_as_it_is_by_default() -> None:
    pod = _yaml("base/deployment.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    defaults = Settings()
    assert defaults.listen.endswith(f":{ports['webhook']}")
    assert defaults.metrics_listen.endswith(f":{ports['metrics']}")
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {"settings", "tmp", "cache"}
    assert {volume["name"] for volume in pod["volumes"]} == mounts.keys()
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    assert Path(variables.pop("CONVERSION_GUARD_SETTINGS")).parent == Path(mounts["settings"])
    assert variables == {"CONVERSION_GUARD_FORKLIFT_NAMESPACE": defaults.forklift_namespace}
    server = (MANIFESTS.parent / "webhook" / "server" / "health.py").read_text()
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        get = container[probe]["httpGet"]
        assert (get["port"], get["scheme"]) == ("webhook", "HTTPS")
        assert f'@rest.get("{get["path"]}")' in server
    security = pod["securityContext"] | container["securityContext"]
    assert security["runAsNonRoot"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}


def test_a_certificate_of_somebody_elses_is_mounted_where_the_server_looks() -> None:
    patch = _yaml("serving-secret/deployment.yaml")["spec"]["template"]["spec"]
    (mount,) = patch["containers"][0]["volumeMounts"]
    assert Path(mount["mountPath"]) == TlsSettings().cert_file.parent
    (volume,) = patch["volumes"]
    secret = volume["secret"]["secretName"]
    certificate = _yaml("cert-manager/certificate/certificate.yaml")
    assert certificate["spec"]["secretName"] == secret
    variables = {one["name"]: one["value"] for one in patch["containers"][0]["env"]}
    settings = load(SETTINGS, variables, rules=frozenset(), defaults=frozenset())
    assert settings.tls.source == "files"
    assert settings.cache_dir, "and the shipped file counts as well"


def test_the_shipped_settings_are_good_settings() -> None:
    rules = frozenset(rule.id for rule in RULES)
    defaults = frozenset(default.id for default in DEFAULTS)
    load(SETTINGS, {}, rules=rules, defaults=defaults)


def test_the_shipped_settings_are_good_and_their_namespaces_have_a_role() -> None:
    settings = load(SETTINGS, {}, rules=frozenset(), defaults=frozenset())
    (namespace,) = settings.provider_namespaces
    assert _yaml("provider-namespace/kustomization.yaml")["namespace"] == namespace


def test_the_image_is_of_this_version() -> None:
    (image,) = _yaml("base/kustomization.yaml")["images"]
    assert image["newTag"] == __version__
