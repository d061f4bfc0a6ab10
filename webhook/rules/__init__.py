"""Every rule and every default, in the order in which they run and are reported.

A new one is a file beside this one, a line below, and its two fixtures.
"""

from webhook.facts.facts import PlanFacts, PvcFacts
from webhook.facts.rule import AnyRule, Default
from webhook.rules import (
    conversion_disks,
    migration_disks,
    migration_pvc_in_use,
    plan_disk_order,
    plan_disks,
    plan_guest_tools,
    plan_network_map,
    plan_remote_destination,
    plan_source_vsphere,
    plan_static_ips,
    plan_storage_map,
    plan_target_power_state,
    plan_unseen_disk,
    plan_vm,
    plan_vm_name,
    plan_warm,
    pvc_access_mode,
    pvc_capacity,
    pvc_disk_bus,
    pvc_disk_claimed,
    pvc_disk_source,
    pvc_disk_source_label,
    pvc_disk_source_path,
    pvc_identity,
    pvc_instance_uuid,
    pvc_metadata,
    pvc_shared_disk,
    pvc_storage_class,
    pvc_uuid_unique,
    pvc_vm,
    pvc_vm_running,
    pvc_volume_mode,
)

RULES: tuple[AnyRule, ...] = (
    pvc_metadata.RULE,
    pvc_vm.RULE,
    pvc_disk_source.RULE,
    pvc_disk_claimed.RULE,
    pvc_capacity.RULE,
    pvc_disk_bus.RULE,
    pvc_volume_mode.RULE,
    pvc_shared_disk.RULE,
    pvc_uuid_unique.RULE,
    pvc_storage_class.RULE,
    pvc_access_mode.RULE,
    pvc_vm_running.RULE,
    plan_source_vsphere.RULE,
    plan_vm.RULE,
    plan_warm.RULE,
    plan_disks.RULE,
    plan_network_map.RULE,
    plan_guest_tools.RULE,
    plan_static_ips.RULE,
    plan_unseen_disk.RULE,
    plan_remote_destination.RULE,
    plan_disk_order.RULE,
    plan_vm_name.RULE,
    migration_disks.RULE,
    migration_pvc_in_use.RULE,
    conversion_disks.RULE,
)

DEFAULTS: tuple[Default[PvcFacts] | Default[PlanFacts], ...] = (
    plan_storage_map.DEFAULT,
    plan_target_power_state.DEFAULT,
    pvc_disk_source_label.DEFAULT,
    pvc_identity.DEFAULT,
    pvc_instance_uuid.DEFAULT,
    pvc_disk_source_path.DEFAULT,
)
