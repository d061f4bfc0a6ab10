"""A live vCenter or ESXi host as a source of the inventory: the only importer of pyVmomi."""

from webhook.vsphere.probe import NEEDED, Probe, probe
from webhook.vsphere.session import VsphereAddress, password_of
from webhook.vsphere.source import SILENCE, LiveSource

__all__ = ["NEEDED", "SILENCE", "LiveSource", "Probe", "VsphereAddress", "password_of", "probe"]
