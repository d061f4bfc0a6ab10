"""Is it enforcing right now? A PVC that no guard lets through, as a server-side dry run."""

from collections.abc import AsyncIterator, Iterator

from webhook.cli.doctor.finding import Observation, unseen
from webhook.cluster import ApiPath, Cluster, Tried
from webhook.model.keys import ENFORCE, VM_ID, VM_UUID

_PLACE = "default"
_WRONG = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {
        "name": "conversion-guard-doctor",
        "namespace": _PLACE,
        # Both labels and no disk-source: wrong whatever any vCenter says.
        "labels": {VM_ID: "vm-0", VM_UUID: "00000000-0000-0000-0000-000000000000"},
    },
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    },
}
_OURS = "conversion-guard"


async def tried(cluster: Cluster) -> AsyncIterator[Observation]:
    """One finding. Nothing is created. Raises ClusterUnreachable."""
    path = ApiPath("v1", "persistentvolumeclaims", namespace=_PLACE)
    for finding in _told(await cluster.dry_run(path, _WRONG)):
        yield finding


def _told(answer: Tried) -> Iterator[Observation]:
    what = f"a wrong PVC, tried as a dry run in namespace {_PLACE},"
    if answer.status in (200, 201) and any(_OURS in warning for warning in answer.warnings):
        label = f"kubectl get namespace {_PLACE} -L {ENFORCE}, and the settings"
        yield Observation("enforcing", "note", f"{what} is only warned of", f"see {label}")
    elif answer.status in (200, 201):
        fix = f"correct what is wrong above; else see kubectl get namespace {_PLACE} -L {ENFORCE}"
        yield Observation("enforcing", "wrong", f"{what} is admitted without a word", fix)
    elif answer.status == 422 and _OURS in answer.message:
        yield Observation("enforcing", "good", f"{what} is denied by the guard")
    elif "failed calling webhook" in answer.message:
        fix = "docs/runbook/ConversionGuardNotCalled.md"
        yield Observation(
            "enforcing", "wrong", f"the API server can't call the guard: {answer.message}", fix
        )
    elif answer.status == 403:
        yield unseen("enforcing", f"whether it is enforcing: {answer.message}")
    else:
        told = f"{what} gets {answer.status}: {answer.message}"
        yield Observation("enforcing", "unknown", told, "try again")
