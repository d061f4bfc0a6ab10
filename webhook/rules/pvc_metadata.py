"""A PVC that is to be a VM's disk has all three keys.

Reads:   vmID, vmUUID, disk-source
Asks:    nothing; vSphere only for the values to write
Accepts: all three keys, or none; with a warning a lone vmID or vmUUID, labels still to come, and
         a disk-source that is taken away
Denies:  a new PVC with disk-source and a label missing; both labels without a disk-source, because
         Forklift counts such a PVC as a disk and then drops it
Forklift: counts a PVC without a disk-source and never looks at it again: a disk has none, and the
         VM is off
"""

from collections.abc import Callable, Iterator

from webhook.facts.facts import Owner, PvcFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import (
    DISK_SOURCE_FIELD,
    THREE_KEYS,
    VM_ID_FIELD,
    VM_UUID_FIELD,
    Action,
    either,
    is_blank,
    quoted,
)
from webhook.model.objects import released
from webhook.model.vms import Disk, VirtualMachine


def check(facts: PvcFacts) -> Iterator[Finding]:
    pvc = facts.pvc
    has_source = not is_blank(pvc.disk_source)
    if pvc.vm_id and pvc.vm_uuid:
        if not has_source:
            listed = _listed(facts)
            expected = listed[0].disk_source if len(listed) == 1 else None
            message = _no_source(facts, listed)
            yield Finding(DISK_SOURCE_FIELD, message, "FieldValueRequired", expected=expected)
        return
    if not (pvc.vm_id or pvc.vm_uuid or has_source):
        return
    at_most: Action = "deny" if has_source and facts.old is None else "warn"
    if not pvc.vm_id:
        yield _missing(VM_ID_FIELD, facts.same_uuid, lambda vm: vm.moref, _NO_MOREF, at_most)
    if not pvc.vm_uuid:
        yield _missing(VM_UUID_FIELD, facts.same_moref, lambda vm: vm.uuid, _NO_UUID, at_most)


_NO_MOREF = 'write the VM\'s moref, such as "vm-42"'
_NO_UUID = "write the VM's config.uuid"


def _missing(
    field: str,
    owners: tuple[Owner, ...],
    value: Callable[[VirtualMachine], str],
    otherwise: str,
    at_most: Action,
) -> Finding:
    """Every VM that the other key may mean, with its provider where there are several; or none."""
    values = {value(vm) for _, vm in owners} - {""}
    fix = otherwise
    if values:
        fix = "write " + " or ".join(_named(owner, value(owner[1]), owners) for owner in owners)
    expected = values.pop() if len(values) == 1 else None
    return Finding(field, f"is missing: {fix}", "FieldValueRequired", at_most, expected=expected)


def _named(owner: Owner, value: str, owners: tuple[Owner, ...]) -> str:
    """`"vm-178"`; of several each with its VM and provider."""
    provider, vm = owner
    return quoted(value) if len(owners) == 1 else f"{quoted(value)} ({vm} of {provider})"


def _listed(facts: PvcFacts) -> list[Disk]:
    disks = facts.vm.disks if facts.vm and facts.certain else ()
    return [disk for disk in disks if disk.listed]


def _no_source(facts: PvcFacts, listed: list[Disk]) -> str:
    if facts.old is not None and facts.pvc.disk_source is None and facts.old.disk_source:
        release = released(facts.pvc.namespace, facts.pvc.name)
        return f"is removed: to release the PVC, remove its labels, too: {release}"
    there = "is missing" if facts.pvc.disk_source is None else "is blank"
    files = either(quoted(disk.disk_source) for disk in facts.unclaimed(listed))
    fix = files or 'the full path, such as "[datastore] folder/disk.vmdk"'
    how = ", before the labels or in the same patch" if facts.old else ""
    return f"{there}: Forklift counts this PVC as a disk, then drops it; write {fix}{how}"


RULE = Rule(id="pvc-metadata", facts=PvcFacts, reads=THREE_KEYS, check=check, asks_vsphere=False)
