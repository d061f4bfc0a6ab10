"""Certificates: issued, kept in a Secret or taken from files, served; the only importer of
cryptography."""

from webhook.tls.clients import Clients
from webhook.tls.files import Files
from webhook.tls.inspecting import shown, trusted
from webhook.tls.issuing import issue, write
from webhook.tls.path_proof import PathProof
from webhook.tls.self_managed import SelfManaged
from webhook.tls.served import Served
from webhook.tls.upkeep import EVERY, keep

__all__ = [
    "EVERY",
    "Clients",
    "Files",
    "PathProof",
    "SelfManaged",
    "Served",
    "issue",
    "keep",
    "shown",
    "trusted",
    "write",
]
