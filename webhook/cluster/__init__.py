"""The Kubernetes cluster: the only importer of the kubernetes client."""

from webhook.cluster.certificates import CertificateStore
from webhook.cluster.client import Cluster, ClusterForbidden, ClusterMissing, Tried
from webhook.cluster.events import Events, Labels, mislabelled
from webhook.cluster.objects import reflectors
from webhook.cluster.paths import ApiPath
from webhook.cluster.picture import Picture
from webhook.cluster.providers import FoundProvider, ProviderWatch, Source, found_in, reach
from webhook.cluster.reader import LiveReader
from webhook.cluster.release import ReleaseWatch, release_of

__all__ = [
    "ApiPath",
    "CertificateStore",
    "Cluster",
    "ClusterForbidden",
    "ClusterMissing",
    "Events",
    "FoundProvider",
    "Labels",
    "LiveReader",
    "Picture",
    "ProviderWatch",
    "ReleaseWatch",
    "Source",
    "Tried",
    "found_in",
    "mislabelled",
    "reach",
    "reflectors",
    "release_of",
]
