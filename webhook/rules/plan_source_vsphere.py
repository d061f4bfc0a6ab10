"""A conversion Plan's source provider is a vSphere provider.

Reads:   spec.provider.source
Asks:    the known providers, for its type
Accepts: a provider of type vsphere
Denies:  any other type: Forklift converts in place only what comes from vSphere
Forklift: does not start the Plan (MigrationTypeNotValid)
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule, Unknown
from webhook.model.keys import PLAN_TYPE_FIELD, SOURCE_PROVIDER_FIELD, echoed


def check(facts: PlanFacts) -> Iterator[Finding | Unknown]:
    named, provider = facts.plan.source, facts.provider
    if not named.name or not named.namespace:
        missing = "name" if not named.name else "namespace"
        field = f"{SOURCE_PROVIDER_FIELD}.{missing}"
        message = f"is missing: write the {missing} of a vSphere provider"
        yield Finding(field, message, "FieldValueRequired")
    elif provider is None:
        yield Unknown(
            SOURCE_PROVIDER_FIELD,
            f"provider {echoed(named)} is not known: name one in a namespace that the setting "
            "providerNamespaces lists",
        )
    elif provider.type != "vsphere":
        fix = 'name a provider of type "vsphere", or choose another spec.type'
        message = f"{echoed(named)} is of type {echoed(provider.type)}: {fix}"
        yield Finding(SOURCE_PROVIDER_FIELD, message)


RULE = Rule(
    id="plan-source-vsphere",
    facts=PlanFacts,
    reads=frozenset({SOURCE_PROVIDER_FIELD, PLAN_TYPE_FIELD}),
    check=check,
    asks_vsphere=False,
)
