"""Every rule and every default, in the order in which they run and are reported.

A new one is a file beside this one, a line below, and its two fixtures.
"""

from webhook.rule import Default, MigrationFacts, PlanFacts, PvcFacts, Rule
from webhook.rules import (
    migration_disks,
    plan_disks,
    plan_source_vsphere,
    plan_storage_map,
    plan_target_power_state,
    plan_vm,
    pvc_capacity,
    pvc_disk_claimed,
    pvc_disk_source,
    pvc_disk_source_label,
    pvc_disk_source_path,
    pvc_identity,
    pvc_metadata,
    pvc_vm,
)

RULES: tuple[Rule[PvcFacts] | Rule[PlanFacts] | Rule[MigrationFacts], ...] = (
    pvc_metadata.RULE,
    pvc_vm.RULE,
    pvc_disk_source.RULE,
    pvc_disk_claimed.RULE,
    pvc_capacity.RULE,
    plan_source_vsphere.RULE,
    plan_vm.RULE,
    plan_disks.RULE,
    migration_disks.RULE,
)

DEFAULTS: tuple[Default[PvcFacts] | Default[PlanFacts], ...] = (
    plan_storage_map.DEFAULT,
    plan_target_power_state.DEFAULT,
    pvc_disk_source_label.DEFAULT,
    pvc_identity.DEFAULT,
    pvc_disk_source_path.DEFAULT,
)
