"""The disks of a VM keep their order through the conversion.

Reads:   spec.vms, and only entries that this request adds or changes
Asks:    vSphere, for the VM's disks and their controllers
Accepts: up to ten disks on one kind of controller; several kinds with a rootDisk whose letter means
         the same disk to virt-v2v and to the new VM
Warns:   of a VM where no rootDisk is right, or the one that is written isn't: virt-v2v counts SCSI
         before SATA and IDE, and the new VM's boot order SATA and IDE before SCSI; of several kinds
         of controllers without a rootDisk; of a letter that no disk has, with which virt-v2v fails.
         More than ten disks are only recorded: the conversion sorts them by name, disk10 before
         disk2. Both were read and not yet seen
Forklift: boots the new VM from another disk than virt-v2v has converted as the root
"""

import re
from collections.abc import Iterator

from webhook.facts.facts import PlanFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import PLAN_VM_FIELDS, quoted
from webhook.model.vms import Disk, VirtualMachine

_ORDERED = 10
_SHOWN = 2
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Forklift: plan/util/utils.go, GetBootDiskNumber, which reads the letter only.
_LETTER = re.compile(r"/dev/sd([a-z])\d*", re.ASCII)


def check(facts: PlanFacts) -> Iterator[Finding]:
    for vm_facts, vm in facts.known:
        entry = vm_facts.entry
        if len(vm.as_converted) > _ORDERED:
            message = f"check the order of the disks after the conversion: {quoted(vm.moref)} has"
            yield Finding(entry.field, f"{message} more than {_ORDERED} disks", at_most="audit")
        several = len({disk.bus for disk in vm.as_converted}) > 1
        if (several or _LETTER.fullmatch(entry.root_disk)) and not _is_right(vm, entry.root_disk):
            yield Finding(f"{entry.field}.rootDisk", _fix(vm))


def _is_right(vm: VirtualMachine, root_disk: str) -> bool:
    """Whether it means one disk in both orders."""
    letter = _LETTER.fullmatch(root_disk)
    at = _LETTERS.index(letter[1]) if letter else len(vm.as_converted)
    return at < len(vm.as_converted) and vm.as_converted[at] is vm.as_booted[at]


def _fix(vm: VirtualMachine) -> str:
    if vm.as_converted == vm.as_booted:
        fix = "write the boot disk's letter, with a partition if it has several systems (/dev/sdX2)"
        return f"{fix}: of {quoted(vm.moref)}, {_lettered(vm)}"
    fix = "put all disks on one kind of controller"
    differ = next(one for one in _letters(vm) if one[1] is not one[2])
    letter, converted, booted = differ[0], quoted(differ[1].file), quoted(differ[2].file)
    orders = f"{letter} is {converted} to virt-v2v, {booted} to the VM"
    return f"{fix}: no rootDisk is right for {quoted(vm.moref)}: {orders}"


def _lettered(vm: VirtualMachine) -> str:
    each = [f"{letter} is {quoted(disk.file)}" for letter, disk, _ in _letters(vm)]
    return ", ".join(each[:_SHOWN]) + (", …" if len(each) > _SHOWN else "")


def _letters(vm: VirtualMachine) -> list[tuple[str, Disk, Disk]]:
    return list(zip(_LETTERS, vm.as_converted, vm.as_booted, strict=False))


RULE = Rule(id="plan-disk-order", facts=PlanFacts, reads=PLAN_VM_FIELDS, check=check, action="warn")
