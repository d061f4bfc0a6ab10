"""The Kubernetes cluster: the only importer of the kubernetes client."""

from webhook.cluster.client import Cluster
from webhook.cluster.providers import FoundProvider, ProviderWatch

__all__ = ["Cluster", "FoundProvider", "ProviderWatch"]
