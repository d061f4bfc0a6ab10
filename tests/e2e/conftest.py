"""One bed for each set of CRDs: the project's own, and Forklift's where they are at hand."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cases import NAMESPACE, VSPHERE
from tests.e2e.bed import Bed
from tests.e2e.parts import Parts, parts
from tests.e2e.world import KUBEVIRTS_CRDS, MANIFESTS, OWN_CRDS, TARGET, World, forklifts_crds


@pytest.fixture(scope="session")
def programs() -> Parts:
    """What a bed is made of."""
    return parts()


@pytest.fixture(scope="session", params=["own", "forklift"])
def crds(request: pytest.FixtureRequest) -> Path:
    """The folder of the CustomResourceDefinitions."""
    if request.param == "own":
        return OWN_CRDS
    return forklifts_crds()


@pytest.fixture(scope="session")
def world(programs: Parts, crds: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Bed(vcsims=1, programs=programs) as bed:
        bed.install_crds(crds)
        bed.install_crds(KUBEVIRTS_CRDS)
        for namespace in (NAMESPACE, TARGET):
            bed.kubectl("create", "namespace", namespace, check=True)
        # The rights of the guard's own service account, as shipped, and no more.
        for folder in ("base", "surroundings"):
            bed.kubectl("apply", "-f", str(MANIFESTS / folder / "cluster-role.yaml"), check=True)
        bed.kubectl("apply", "-k", str(MANIFESTS / "provider-namespace"), check=True)
        yield World(bed, bed.vcsims[0], tmp_path_factory.mktemp("world"))


@pytest.fixture
def settings(world: World, tmp_path: Path) -> Iterator[Path]:
    """By which the guard finds its vCenter in the cluster, and nowhere else."""
    values = {
        "user": world.vcsim.user,
        "password": world.vcsim.password,
        "ca.crt": world.vcsim.ca_file.read_text(),
    }
    metadata = {"name": VSPHERE, "namespace": NAMESPACE}
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "data": {key: base64.b64encode(text.encode()).decode() for key, text in values.items()},
        },
        {
            "apiVersion": "forklift.konveyor.io/v1beta1",
            "kind": "Provider",
            "metadata": metadata,
            "spec": {"type": "vsphere", "url": world.vcsim.url, "secret": metadata},
        },
    ]
    for obj in objects:
        world.bed.kubectl("apply", "-f", "-", stdin=json.dumps(obj), check=True)
    file = tmp_path / "settings.yaml"
    chosen = {
        "kubeconfig": str(world.bed.kubeconfig()),
        "providerNamespaces": [NAMESPACE],
        "deniedNetworks": [],
    }
    file.write_text(json.dumps(chosen))
    yield file
    # Every guard of this bed would find them.
    names = [f"provider/{VSPHERE}", f"secret/{VSPHERE}"]
    world.bed.kubectl("delete", *names, "-n", NAMESPACE, check=True)
