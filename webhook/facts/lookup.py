"""Which VM an entry of spec.vms means: the one place that decides it, as Forklift looks VMs up.

Sources, all of Forklift: web/vsphere/client.go (an id wins over a name), web/vsphere/base.go (a
name is a path's last part; its folders count only where two or more VMs share that part), and
web/vsphere/vm.go (a list leaves out templates and ghosts, a get by id leaves out nothing).
"""

from collections.abc import Collection
from typing import Literal, Protocol

import msgspec

from webhook.model.vms import VirtualMachine

Outcome = Literal["one", "none", "several", "template", "done"]
"""`done`: the VM was migrated before, and does not run again."""


class VmNames(Protocol):
    """VMs of one provider that can be looked up, whichever way they are held."""

    def by_moref(self, moref: str) -> VirtualMachine | None: ...

    def named(self, name: str) -> tuple[VirtualMachine, ...]:
        """Every VM of exactly that name, templates and ghosts included."""
        ...

    def folders_of(self, vm: VirtualMachine) -> tuple[str, ...]:
        """The names of the folders and the datacenter that `vm` is in, from its own up."""
        ...


class Meant(msgspec.Struct, frozen=True):
    """What an entry means: exactly one VM where the outcome is `one`, `template` or `done`."""

    outcome: Outcome
    vms: tuple[VirtualMachine, ...] = ()

    @property
    def vm(self) -> VirtualMachine | None:
        """The VM that Forklift would take, whatever else may be wrong with it."""
        return self.vms[0] if len(self.vms) == 1 else None


def meant(name: str, vms: VmNames) -> tuple[VirtualMachine, ...]:
    """The VMs that a person means by a moref, or else by a name or path."""
    found = vms.by_moref(name)
    return (found,) if found is not None else look_up("", name, vms).vms


def look_up(moref: str, name: str, vms: VmNames, done: Collection[str] = ()) -> Meant:
    """The VM of an entry with the id `moref` or, where that is empty, the name or path `name`.

    `done` are the morefs of VMs that were migrated before.
    """
    if moref:
        found = vms.by_moref(moref)
        if moref in done:
            return Meant("done", (found,) if found else ())
        if found is None:
            return Meant("none")
        return Meant("template" if found.template else "one", (found,))
    if not name:
        return Meant("none")
    candidates = _at(name, alike(name, vms), vms)
    listed = tuple(vm for vm in candidates if not vm.template and not vm.ghost)
    if not listed:
        templates = tuple(vm for vm in candidates if vm.template)
        return Meant("template", templates[:1]) if templates else Meant("none")
    if len(listed) > 1:
        return Meant("several", listed)
    return Meant("done" if listed[0].moref in done else "one", listed)


def alike(name: str, vms: VmNames) -> tuple[VirtualMachine, ...]:
    """Every VM that counts for what a name or path means: also those in other folders."""
    # A slash may be within the name itself: vSphere writes it as %2f. Forklift can't find it by
    # name, and waits with the VM on; a person who names it so means it all the same.
    return vms.named(name.rpartition("/")[2]) or vms.named(name)


def _at(
    name: str, namesakes: tuple[VirtualMachine, ...], vms: VmNames
) -> tuple[VirtualMachine, ...]:
    if len(namesakes) < 2 or namesakes[0].name == name:
        return namesakes
    wanted = name.lstrip("/").split("/")
    return tuple(vm for vm in namesakes if _path(vm, vms)[-len(wanted) :] == wanted)


def _path(vm: VirtualMachine, vms: VmNames) -> list[str]:
    """Split as Forklift splits it: also where a name holds a slash of its own."""
    return "/".join([*reversed(vms.folders_of(vm)), vm.name]).split("/")
