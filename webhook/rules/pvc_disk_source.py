"""A PVC's disk source is one disk of the VM that the PVC names.

Reads:   vmID, vmUUID, disk-source
Asks:    vSphere, for the backing files of that VM
Accepts: the full path of one disk, a snapshot's suffix left out on both sides, as Forklift
         compares
Denies:  a disk of another VM or of none, a path that has moved, a bare file name that fits
         two disks, a disk that Forklift doesn't list
Forklift: looks for it once the VM is off: failed to find persistent volume for disk
"""

from collections.abc import Iterator

from webhook.facts import forms
from webhook.facts.facts import PvcFacts
from webhook.facts.rule import Finding, Rule
from webhook.model.keys import DISK_SOURCE_FIELD, THREE_KEYS, echoed, either, is_blank, quoted
from webhook.model.vms import VirtualMachine, trim_backing_file


def check(facts: PvcFacts) -> Iterator[Finding]:
    vm, source = facts.vm, facts.pvc.disk_source
    # What is wrong with the VM itself, or with the set of keys, is other rules' to say.
    if vm is None or not facts.certain or vm.trouble or source is None or is_blank(source):
        return
    if len(facts.matching) == 1:
        return
    there = echoed(source, 255)
    if facts.matching:
        files = either(quoted(disk.file) for disk in facts.matching)
        fix = f"Forklift can't tell them apart: {forms.apart(facts.matching)}"
        yield Finding(DISK_SOURCE_FIELD, f"{there} fits {files}: {fix}")
        return
    for disk in vm.disks:
        if not disk.listed and disk.source == trim_backing_file(source):
            fix = "move the disk to a flat one, or migrate this VM in another way"
            message = f"{there} is backed by {disk.backing}, which Forklift doesn't list: {fix}"
            yield Finding(DISK_SOURCE_FIELD, message)
            return
    reading = forms.file(source.strip(), vm.disks)
    meant = reading.value if reading else source
    listed = [disk for disk in vm.disks if disk.listed]
    name = forms.base_name(meant)
    named = [disk for disk in listed if forms.base_name(disk.file) == name]
    right = named or listed
    choice = either(quoted(disk.disk_source) for disk in named or facts.unclaimed(listed))
    fix = f"write {choice}" if right else "it has no disk that Forklift can convert"
    if alike := either(map(quoted, _unlisted(vm, meant))):
        fix = f"{fix}, but not for a copy of {alike}, which Forklift doesn't list"
    expected = right[0].disk_source if len(right) == 1 and not alike else None
    what = f"{reading.form}, and no" if reading else "is not a"
    message = f"{there} {what} disk of {vm}: {fix}"
    yield Finding(DISK_SOURCE_FIELD, message, expected=expected)


def _unlisted(vm: VirtualMachine, source: str) -> list[str]:
    """Disks of that file name that Forklift doesn't list: they may be meant as well."""
    hidden = [disk for disk in vm.disks if not disk.listed]
    name = forms.base_name(source)
    return [disk.disk_source for disk in hidden if forms.base_name(disk.file) == name]


RULE = Rule(id="pvc-disk-source", facts=PvcFacts, reads=THREE_KEYS, check=check)
