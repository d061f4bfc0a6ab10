"""One VM by its name, for the commands that look at VMs."""

from collections.abc import Iterable

from webhook.errors import ProviderUnknown, VmUnknown
from webhook.facts.lookup import look_up
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.model.keys import echoed
from webhook.model.vms import VirtualMachine


def chosen(known: Iterable[ProviderInventory], provider: str | None) -> list[ProviderInventory]:
    """The one that is called `provider`, as `namespace/name`, or all. Raises ProviderUnknown."""
    everyone = list(known)
    asked = [one for one in everyone if provider in (None, one.name)]
    if not asked and provider is not None:
        names = ", ".join(one.name for one in everyone) or "none"
        raise ProviderUnknown(f"provider {echoed(provider)} is not known: choose one of {names}")
    return asked


def find(
    inventory: Inventory, name: str, provider: str | None
) -> tuple[ProviderInventory, VirtualMachine]:
    """The one VM of that moref, name or path; `provider` is `namespace/name`. Raises VmUnknown,
    ProviderUnknown."""
    asked = chosen(inventory.vsphere(), provider)
    by_moref = [(one, vm) for one in asked if (vm := one.vms.by_moref(name)) is not None]
    found = by_moref or [(one, vm) for one in asked for vm in look_up("", name, one.vms).vms]
    if len(found) == 1:
        return found[0]
    if found:
        which = ", ".join(f"{vm.moref} of {one.name}" for one, vm in found)
        raise VmUnknown(
            f"{echoed(name)} names several VMs ({which}): give the moref and --provider"
        )
    near = [str(vm) for one in asked for vm in one.vms.near(name)]
    hint = f"did you mean {' or '.join(near)}?" if near else "see `conversion-guard inventory list`"
    raise VmUnknown(f"{', '.join(one.name for one in asked)} has no VM {echoed(name)}: {hint}")
