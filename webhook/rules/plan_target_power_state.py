"""A power state that YAML reads as a boolean becomes the word again.

Reads:  spec.targetPowerState, spec.vms[].targetPowerState
Fills:  true with "on", false with "off": `on` and `off` are booleans in YAML 1.1, and the CRD
        wants words
"""

from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Default
from webhook.model.keys import PLAN_VMS_FIELD, POWER_STATE_FIELD
from webhook.model.review import PatchOp

_WORDS = {True: "on", False: "off"}


def fill(facts: PlanFacts) -> Iterator[PatchOp]:
    spec = facts.plan.spec
    if isinstance(state := spec.get("targetPowerState"), bool):
        yield PatchOp("add", ("spec", "targetPowerState"), _WORDS[state])
    vms = spec.get("vms")
    for index, vm in enumerate(vms if isinstance(vms, list) else ()):
        if isinstance(vm, dict) and isinstance(state := vm.get("targetPowerState"), bool):
            yield PatchOp("add", ("spec", "vms", index, "targetPowerState"), _WORDS[state])


DEFAULT = Default(
    id="plan-target-power-state",
    facts=PlanFacts,
    reads=frozenset({POWER_STATE_FIELD, PLAN_VMS_FIELD}),
    fill=fill,
)
