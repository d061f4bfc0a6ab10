"""The Kubernetes cluster: the only importer of the kubernetes client."""

from webhook.cluster.client import Cluster
from webhook.cluster.providers import FoundProvider, ProviderWatch
from webhook.cluster.pvcs import LiveReader, pvcs

__all__ = ["Cluster", "FoundProvider", "LiveReader", "ProviderWatch", "pvcs"]
