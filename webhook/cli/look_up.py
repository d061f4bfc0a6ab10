"""One VM by its name, for the commands that look at VMs."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from webhook.errors import ProviderUnknown, VmUnknown
from webhook.facts.lookup import meant
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.model.keys import echoed
from webhook.model.vms import VirtualMachine

T = TypeVar("T")


def chosen(known: Mapping[str, T], provider: str | None) -> list[T]:
    """What is known by the name `provider`, as `namespace/name` or, for all of one, `namespace/`;
    all without one. Raises ProviderUnknown."""
    asked = [
        one
        for name, one in known.items()
        if provider is None or provider in (name, f"{name.partition('/')[0]}/")
    ]
    if not asked and provider is not None:
        names = ", ".join(known) or "none"
        raise ProviderUnknown(f"provider {echoed(provider)} is not known: choose one of {names}")
    return asked


def find(
    inventory: Inventory, name: str, provider: str | None
) -> tuple[ProviderInventory, VirtualMachine]:
    """The one VM of that moref, name or path; `provider` is `namespace/name`. Raises VmUnknown,
    ProviderUnknown."""
    asked = chosen({one.name: one for one in inventory.vsphere()}, provider)
    found = [(one, vm) for one in asked for vm in meant(name, one.vms)]
    if found:
        return only(name, [(one.name, vm.moref, (one, vm)) for one, vm in found])
    near = [str(vm) for one in asked for vm in one.vms.near(name)]
    hint = f"did you mean {' or '.join(near)}?" if near else "see `conversion-guard inventory list`"
    raise VmUnknown(f"{', '.join(one.name for one in asked)} has no VM {echoed(name)}: {hint}")


def only(name: str, found: Sequence[tuple[str, str, T]]) -> T:
    """The one that was found, of these with Provider and moref. Raises VmUnknown."""
    if not found:
        hint = "see `conversion-guard inventory list`"
        raise VmUnknown(f"no Provider that you may see has a VM {echoed(name)}: {hint}")
    if len(found) > 1:
        which = ", ".join(f"{moref} of {provider}" for provider, moref, _ in found)
        raise VmUnknown(
            f"{echoed(name)} names several VMs ({which}): give the moref and --provider"
        )
    return found[0][2]
