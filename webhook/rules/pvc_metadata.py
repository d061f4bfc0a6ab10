"""A PVC that is to be a VM's disk carries all three keys.

Reads:   vmID, vmUUID, disk-source
Asks:    nothing; vSphere only for what to write
Accepts: all three keys, or none; with a warning a lone vmID or vmUUID, and labels still to come
Denies:  a new PVC with disk-source and a label missing; both labels without a disk-source, because
         Forklift counts such a PVC as a disk and then drops it
"""

from collections.abc import Iterator

from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import (
    DISK_SOURCE_FIELD,
    THREE_KEYS,
    VM_ID_FIELD,
    VM_UUID_FIELD,
    Action,
    is_blank,
    quoted,
)


def check(facts: PvcFacts) -> Iterator[Finding]:
    pvc, vm = facts.pvc, facts.visible_vm
    has_source = not is_blank(pvc.disk_source)
    if pvc.vm_id and pvc.vm_uuid:
        if not has_source:
            listed = _listed(facts)
            expected = listed[0] if len(listed) == 1 else None
            message = _no_source(facts, listed)
            yield Finding(DISK_SOURCE_FIELD, message, "FieldValueRequired", expected=expected)
        return
    if not (pvc.vm_id or pvc.vm_uuid or has_source):
        return
    at_most: Action = "deny" if has_source and facts.old is None else "warn"
    if not pvc.vm_id:
        owners = facts.same_uuid if facts.trusted else ()
        fix = " or ".join(quoted(other.moref) for other in owners) or '"vm-42"'
        hint = f"write {fix}" if owners else f"write the VM's moref, such as {fix}"
        expected = owners[0].moref if len(owners) == 1 else None
        message = f"is missing: {hint}"
        yield Finding(VM_ID_FIELD, message, "FieldValueRequired", at_most, expected=expected)
    if not pvc.vm_uuid:
        hint = f"write {quoted(vm.uuid)}" if vm and vm.uuid else "write the VM's config.uuid"
        expected = (vm.uuid if vm else "") or None
        message = f"is missing: {hint}"
        yield Finding(VM_UUID_FIELD, message, "FieldValueRequired", at_most, expected=expected)


def _listed(facts: PvcFacts) -> list[str]:
    disks = facts.visible_vm.disks if facts.visible_vm else ()
    return [disk.disk_source for disk in disks if disk.listed]


def _no_source(facts: PvcFacts, listed: list[str]) -> str:
    there = "is missing" if facts.pvc.disk_source is None else "is blank"
    named = [quoted(source, 255) for source in listed[:8]]
    fix = " or ".join(named) or '"[datastore] folder/disk.vmdk" in full'
    how = ", before the labels or in one patch with them" if facts.old else ""
    return f"{there}: Forklift counts this PVC as a disk, then drops it; write {fix}{how}"


RULE = Rule(id="pvc-metadata", facts=PvcFacts, reads=THREE_KEYS, check=check, asks_vsphere=False)
