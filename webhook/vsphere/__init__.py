"""A live vCenter or ESXi host as a source of the inventory: the only importer of pyVmomi."""

from webhook.vsphere.probe import probe
from webhook.vsphere.session import VsphereAddress, password_of
from webhook.vsphere.source import SILENCE, LiveSource

__all__ = ["SILENCE", "LiveSource", "VsphereAddress", "password_of", "probe"]
