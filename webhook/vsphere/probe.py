"""One look at a vSphere, as who it is to be read by."""

from typing import NamedTuple

from pyVmomi import vim

from webhook.vsphere.failures import explained
from webhook.vsphere.session import Session, VsphereAddress

NEEDED = "System.View", "System.Read"
"""The privileges that reading takes, on the root folder and all below it."""


class Probe(NamedTuple):
    """What it says."""

    product: str
    """Such as `VMware vCenter Server 8.0.2`."""
    vms: int
    """That this account may see."""
    missing: tuple[str, ...]
    """Of NEEDED, on the root folder."""


def probe(address: VsphereAddress) -> Probe:
    """Log in, look, log out. Raises VsphereUnreachable."""
    session = Session(address)
    try:
        with explained(address.signer):
            content = session.content
            root = content.rootFolder
            (held,) = content.authorizationManager.HasPrivilegeOnEntities(
                [root], content.sessionManager.currentSession.key, list(NEEDED)
            )
            missing = tuple(p.privId for p in held.privAvailability if not p.isGranted)
            view = content.viewManager.CreateContainerView(root, [vim.VirtualMachine], True)
            try:
                return Probe(content.about.fullName, len(view.view), missing)
            finally:
                view.DestroyView()
    finally:
        session.close()
