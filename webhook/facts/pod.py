"""The conversion pod, as Forklift makes it unless it is configured otherwise, against what a
namespace allows (Forklift: settings, migration.go; kubevirt.go, conversionLabels)."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from webhook import quantity
from webhook.model.keys import echoed
from webhook.model.objects import KubeObject
from webhook.model.shape import mapping

PROGRESS, VCENTER = 8080, 443
"""The ports where the pod tells Forklift how far it is, and where it asks vCenter."""

_REQUESTS = {"cpu": "1", "memory": "1Gi"}
_LIMITS = {"cpu": "4", "memory": "8Gi"}
_TAKES = {
    "pods": "1",
    "count/pods": "1",
    **_REQUESTS,
    **{f"requests.{name}": amount for name, amount in _REQUESTS.items()},
    **{f"limits.{name}": amount for name, amount in _LIMITS.items()},
}
_LABELS = {"forklift.app": "virt-v2v"}


MOST = 20
"""Conversions at once, unless Forklift is configured otherwise."""


def short(quotas: tuple[KubeObject, ...], pods: int = 1) -> Iterator[str]:
    """What a ResourceQuota has too little of for so many conversion pods, each in words."""
    pods = max(1, min(pods, MOST))
    for quota in quotas:
        spec, status = mapping(quota.get("spec")), mapping(quota.get("status"))
        if spec.get("scopes") or spec.get("scopeSelector"):
            continue  # it may not count this pod
        used = mapping(status.get("used"))
        for name, most in sorted(mapping(status.get("hard") or spec.get("hard")).items()):
            free = _number(most) - _number(used.get(name, 0))
            if name in _TAKES and free < pods * _number(_TAKES[name]):
                there = f"ResourceQuota {_name(quota)}: {echoed(used.get(name, 0))} of"
                takes = "the conversion pod takes" if pods == 1 else f"each of {pods} pods takes"
                yield f"{there} {echoed(most)} {name} are used, and {takes} {_TAKES[name]}"


def refused(limits: tuple[KubeObject, ...]) -> Iterator[str]:
    """What a LimitRange refuses of the pod, each in words."""
    for limit in limits:
        items = mapping(limit.get("spec")).get("limits")
        for item in map(mapping, items if isinstance(items, list) else ()):
            if item.get("type") in ("Container", "Pod"):
                for fault in _beyond(item):
                    yield f"LimitRange {_name(limit)}: {fault}"


def _beyond(item: Mapping[str, Any]) -> Iterator[str]:
    most, least = mapping(item.get("max")), mapping(item.get("min"))
    ratios = mapping(item.get("maxLimitRequestRatio"))
    for name, limit in _LIMITS.items():
        request = _REQUESTS[name]
        if name in most and _number(most[name]) < _number(limit):
            yield f"max {name} is {echoed(most[name])}, and the conversion pod's limit is {limit}"
        if name in least and _number(least[name]) > _number(request):
            yield f"min {name} is {echoed(least[name])}, and the conversion pod requests {request}"
        if name in ratios and _number(ratios[name]) < _number(limit) / _number(request):
            there = f"maxLimitRequestRatio of {name} is {echoed(ratios[name])}"
            yield f"{there}, and the conversion pod has {request} to {limit}"


def shut(policies: tuple[KubeObject, ...], labels: Mapping[str, Any]) -> Iterator[str]:
    """Of `ingress` and `egress` each that NetworkPolicies close for the pod: with `labels` of the
    Plan's own. A policy that may or may not select the pod closes nothing."""
    known = {**_LABELS, **labels}
    specs = [spec for policy in policies if _selects(spec := mapping(policy.get("spec")), known)]
    for way, port in (("ingress", PROGRESS), ("egress", VCENTER)):
        closing = [spec for spec in specs if way in _ways(spec)]
        if closing and not any(
            _opens(mapping(rule), way, port) for spec in closing for rule in spec.get(way) or ()
        ):
            yield way


def _selects(spec: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    selector = mapping(spec.get("podSelector"))
    wanted = mapping(selector.get("matchLabels"))
    return not selector.get("matchExpressions") and wanted.items() <= labels.items()


def _ways(spec: Mapping[str, Any]) -> list[str]:
    usual = ["Ingress", *(["Egress"] if spec.get("egress") else ())]
    return [str(kind).lower() for kind in spec.get("policyTypes") or usual]


def _opens(rule: Mapping[str, Any], way: str, port: int) -> bool:
    peers = rule.get("to") if way == "egress" else None  # who asks is Forklift, by whatever label
    outside = not peers or any("ipBlock" in mapping(peer) for peer in peers)
    ports = rule.get("ports")
    return outside and (not ports or any(_covers(mapping(one), port) for one in ports))


def _covers(one: Mapping[str, Any], port: int) -> bool:
    if one.get("protocol", "TCP") != "TCP":
        return False
    first = one.get("port")
    if not isinstance(first, int):
        return True  # any, or one by a name
    return first <= port <= int(one.get("endPort", first))


def _number(amount: object) -> Decimal:
    return quantity.parse(str(amount)) or Decimal(0)


def _name(obj: KubeObject) -> str:
    return echoed(mapping(obj.get("metadata")).get("name"))
