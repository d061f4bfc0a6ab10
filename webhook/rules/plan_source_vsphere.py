"""A conversion Plan's source provider is a vSphere provider.

Reads:   spec.provider.source
Asks:    the known providers, for its type; the cluster, where it isn't one of them
Accepts: a provider of type vsphere
Denies:  any other type: Forklift converts in place only what comes from vSphere; one that isn't
         there, once all Providers are known
Forklift: does not start the Plan (MigrationTypeNotValid)
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule, Unknown
from webhook.model.keys import PLAN_TYPE_FIELD, SOURCE_PROVIDER_FIELD, echoed, scalar


def check(facts: PlanFacts) -> Iterator[Finding | Unknown]:
    named, provider = facts.plan.source, facts.provider
    if not named.name or not named.namespace:
        missing = "name" if not named.name else "namespace"
        field = f"{SOURCE_PROVIDER_FIELD}.{missing}"
        message = f"is missing: write the {missing} of a vSphere provider"
        yield Finding(field, message, "FieldValueRequired")
    elif provider is None:
        yield _unknown(facts)
    elif provider.type != "vsphere":
        fix = 'name a provider of type "vsphere", or choose another spec.type'
        message = f"{echoed(named)} is of type {echoed(provider.type)}: {fix}"
        yield Finding(SOURCE_PROVIDER_FIELD, message)


def _unknown(facts: PlanFacts) -> Finding | Unknown:
    there = f"provider {echoed(facts.plan.source)} is not known"
    if why := facts.may_be_there("its name"):
        return Unknown(SOURCE_PROVIDER_FIELD, f"{there}{why}")
    meant = [
        f"{{name: {scalar(one.name)}, namespace: {scalar(one.namespace)}}}" for one in facts.near
    ]
    hint = f"did you mean {' or '.join(meant)}?" if meant else _FIX
    return Finding(SOURCE_PROVIDER_FIELD, f"{there}: {hint}")


_FIX = "write name and namespace of a vSphere provider, as `kubectl get providers -A` lists them"


RULE = Rule(
    id="plan-source-vsphere",
    facts=PlanFacts,
    reads=frozenset({SOURCE_PROVIDER_FIELD, PLAN_TYPE_FIELD}),
    check=check,
    asks_vsphere=False,
)
