"""A power state that YAML made a boolean becomes the word again.

Reads:  spec.targetPowerState, spec.vms[].targetPowerState
Fills:  true with "on", false with "off": `on` and `off` are booleans in YAML 1.1, and the CRD
        wants words
"""

from collections.abc import Iterator

from webhook.model import PLAN_VMS_FIELD, POWER_STATE_FIELD
from webhook.rule import Default, PatchOp, PlanFacts

_WORDS = {True: "on", False: "off"}


def fill(facts: PlanFacts) -> Iterator[PatchOp]:
    spec = facts.plan.spec
    if isinstance(state := spec.get("targetPowerState"), bool):
        yield PatchOp("add", ("spec", "targetPowerState"), _WORDS[state])
    for index, vm in enumerate(spec.get("vms") or ()):
        if isinstance(state := vm.get("targetPowerState"), bool):
            yield PatchOp("add", ("spec", "vms", index, "targetPowerState"), _WORDS[state])


DEFAULT = Default(
    id="plan-target-power-state",
    facts=PlanFacts,
    reads=frozenset({POWER_STATE_FIELD, PLAN_VMS_FIELD}),
    fill=fill,
)
