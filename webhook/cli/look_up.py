"""One VM by its name, for the commands that look at VMs."""

from webhook.errors import VmUnknown
from webhook.inventory.provider import Inventory, ProviderInventory
from webhook.model.keys import quoted
from webhook.model.vms import VirtualMachine


def find(
    inventory: Inventory, name: str, provider: str | None
) -> tuple[ProviderInventory, VirtualMachine]:
    """The one VM of that moref, name or path; `provider` is `namespace/name`. Raises VmUnknown."""
    asked = [one for one in inventory.vsphere() if provider in (None, one.name)]
    if not asked:
        known = ", ".join(one.name for one in inventory.vsphere()) or "none"
        raise VmUnknown(f"provider {quoted(provider)} is none of those that are known: {known}")
    by_moref = [(one, vm) for one in asked if (vm := one.vms.by_moref(name)) is not None]
    found = by_moref or [(one, vm) for one in asked for vm in one.vms.by_name(name)]
    if len(found) == 1:
        return found[0]
    if found:
        which = ", ".join(f"{vm.moref} of {one.name}" for one, vm in found)
        raise VmUnknown(f"{quoted(name)} is several VMs ({which}): give moref and --provider")
    near = [str(vm) for one in asked for vm in one.vms.like_name(name)]
    hint = f"did you mean {' or '.join(near)}?" if near else "see `conversion-guard inventory list`"
    raise VmUnknown(f"{quoted(name)} is no VM of {', '.join(one.name for one in asked)}: {hint}")
