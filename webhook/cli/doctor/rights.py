"""What the guard's own account may do, asked one by one, against what the manifests grant."""

import copy
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from webhook.cli.doctor.finding import Observation
from webhook.cluster import LiveReader
from webhook.manifests import files
from webhook.model.forklift import Plan
from webhook.model.objects import User

ACCOUNT = "conversion-guard"


class _Right(NamedTuple):
    verb: str
    resource: str
    name: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f' {self.name}' if self.name else ''}"


def account(namespace: str) -> User:
    """The guard's, as the API server knows it."""
    groups = "system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"
    return User(f"system:serviceaccount:{namespace}:{ACCOUNT}", groups=groups)


async def granted(
    reader: LiveReader, guard: User, objects: Sequence[Mapping[str, Any]], place: str, fix: str
) -> AsyncIterator[Observation]:
    """One finding: whether all rights of these Roles are there; `place` is a namespace, or none."""
    rights = list(_rights(objects))
    missing = [
        right
        for right in rights
        if not await reader.allowed(guard, right.verb, right.resource, place, right.name)
    ]
    where = f"in namespace {place}" if place else "in the whole cluster"
    if missing:
        what = f"{guard.username} may not {where}: {', '.join(map(str, missing))}"
        yield Observation("rights", "wrong", what, fix)
    else:
        what = f"{guard.username} has its {len(rights)} rights {where}"
        yield Observation("rights", "good", what)


def _rights(objects: Iterable[Mapping[str, Any]]) -> Iterator[_Right]:
    for item in objects:
        for rule in item.get("rules", ()):
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        for name in rule.get("resourceNames", [""]):
                            yield _Right(verb, f"{resource}.{group}" if group else resource, name)


async def luks(
    reader: LiveReader, guard: User, plans: Iterable[Plan], namespace: str
) -> AsyncIterator[Observation]:
    """One for each namespace of conversion Plans whose LUKS Secrets the guard may not look up;
    `namespace` is the guard's own."""
    for place in sorted({plan.namespace for plan in plans if any(vm.luks for vm in plan.vms)}):
        if not await reader.allowed(guard, "get", "secrets", place, ""):
            what = f"the LUKS Secrets that Plans of namespace {place} name are not looked up"
            fix = f"to have plan-luks-secret judge them:\n{_luks_role(place, namespace)}"
            yield Observation("rights", "note", what, fix)


def _luks_role(place: str, guards: str) -> str:
    name = {"name": "conversion-guard-luks", "namespace": place}
    rbac = "rbac.authorization.k8s.io"
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    account = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": guards}
    made = [
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": name, "rules": [rule]},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": name,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name["name"]},
            "subjects": [account],
        },
    ]
    return _applied(made)


def for_namespace(objects: Sequence[Mapping[str, Any]], place: str, guards: str) -> str:
    """The Role and RoleBinding that namespace `place` needs, ready for kubectl apply."""
    made = copy.deepcopy(list(objects))
    for item in made:
        item["metadata"]["namespace"] = place
        for subject in item.get("subjects", ()):
            subject["namespace"] = guards
    return _applied(made)


def _applied(made: Sequence[Any]) -> str:
    for item in made:  # by which docs/install.md finds what is left
        item["metadata"]["labels"] = {"app.kubernetes.io/part-of": ACCOUNT}
    return f"kubectl apply -f - <<'END'\n{files.write(made)}END"
