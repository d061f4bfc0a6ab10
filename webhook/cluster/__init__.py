"""The Kubernetes cluster: the only importer of the kubernetes client."""

from webhook.cluster.certificates import CertificateStore
from webhook.cluster.client import Cluster, ClusterForbidden, ClusterMissing
from webhook.cluster.events import ObjectEvents, PlanEvents, Told
from webhook.cluster.leases import Lease
from webhook.cluster.objects import migrations, reflectors
from webhook.cluster.paths import ApiPath
from webhook.cluster.picture import Picture
from webhook.cluster.providers import FoundProvider, ProviderWatch, Source, found_in, reach
from webhook.cluster.reader import LiveReader
from webhook.cluster.reports import Reports, Written, digest
from webhook.cluster.standing import Standing, Waiting, everything, one, waiting

__all__ = [
    "ApiPath",
    "CertificateStore",
    "Cluster",
    "ClusterForbidden",
    "ClusterMissing",
    "FoundProvider",
    "Lease",
    "LiveReader",
    "ObjectEvents",
    "Picture",
    "PlanEvents",
    "ProviderWatch",
    "Reports",
    "Source",
    "Standing",
    "Told",
    "Waiting",
    "Written",
    "digest",
    "everything",
    "found_in",
    "migrations",
    "one",
    "reach",
    "reflectors",
    "waiting",
]
