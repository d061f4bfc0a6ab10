"""The Kubernetes cluster: the only importer of the kubernetes client."""

from webhook.cluster.certificates import CertificateStore
from webhook.cluster.client import Cluster, Tried
from webhook.cluster.errors import ClusterForbidden, ClusterMissing, ClusterSilent
from webhook.cluster.events import Events, ObjectEvent, ObjectEvents, mislabelled
from webhook.cluster.leases import Lease
from webhook.cluster.objects import migrations, reflectors
from webhook.cluster.paths import ApiPath
from webhook.cluster.picture import Picture
from webhook.cluster.providers import FoundProvider, ProviderWatch, Source, found_in, reach
from webhook.cluster.reader import LiveReader
from webhook.cluster.release import ReleaseWatch, release_of
from webhook.cluster.reports import Reports, digest
from webhook.cluster.standing import FoundObject, Waiting, everything, one, waiting

__all__ = [
    "ApiPath",
    "CertificateStore",
    "Cluster",
    "ClusterForbidden",
    "ClusterMissing",
    "ClusterSilent",
    "Events",
    "FoundObject",
    "FoundProvider",
    "Lease",
    "LiveReader",
    "ObjectEvent",
    "ObjectEvents",
    "Picture",
    "ProviderWatch",
    "ReleaseWatch",
    "Reports",
    "Source",
    "Tried",
    "Waiting",
    "digest",
    "everything",
    "found_in",
    "migrations",
    "mislabelled",
    "one",
    "reach",
    "reflectors",
    "release_of",
    "waiting",
]
