"""The guard's own Deployment: is it there, is it ready, is it of this version?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from webhook import __version__
from webhook.cli.doctor.finding import APPLY, Observation
from webhook.cli.doctor.forklift import at
from webhook.cli.doctor.rights import ACCOUNT


def looked(deployment: Mapping[str, Any] | None, namespace: str) -> Iterator[Observation]:
    """Its findings; None where there is no Deployment in `namespace`."""
    name = f"{namespace}/{ACCOUNT}"
    if deployment is None:
        yield Observation("deployment", "wrong", f"there is no Deployment {name}", APPLY)
        return
    ready = at(deployment, "status", "readyReplicas") or 0
    wanted = at(deployment, "spec", "replicas")
    what = f"Deployment {name}: {ready} of {wanted} replicas are ready"
    if ready:
        yield Observation("deployment", "good", what)
    else:
        fix = f"kubectl logs -n {namespace} deployment/{ACCOUNT}"
        yield Observation("deployment", "wrong", what, fix)
    for container in _containers(deployment):
        image = str(container.get("image", ""))
        tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
        if tag and tag != __version__:
            what = f"it runs {image}, but this command is {__version__}: manifests may differ"
            yield Observation("versions", "note", what)


def environment(deployment: Mapping[str, Any]) -> dict[str, str]:
    """The variables of its containers that have a value of their own."""
    containers = _containers(deployment)
    variables = [variable for container in containers for variable in container.get("env") or ()]
    return {one["name"]: one["value"] for one in variables if "value" in one}


def _containers(deployment: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return at(deployment, "spec", "template", "spec", "containers") or ()
