"""`make cluster`: a real API server and a vCenter simulator to play with, until Ctrl-C."""

import shlex
import signal
import sys

import yaml

from tests.cases import NAMESPACE
from tests.e2e.bed import Bed
from tests.e2e.parts import PartMissing
from tests.e2e.world import OWN_CRDS, TARGET, World, pvc
from tests.guard import Guard
from webhook.model.keys import DISK_SOURCE, VM_ID, VM_UUID


def main() -> None:
    """Bring everything up, print how to reach it, and stay."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)  # all unwind as Ctrl-C does
    try:
        with Bed(vcsims=1) as bed:
            bed.install_crds(OWN_CRDS)
            for namespace in (NAMESPACE, TARGET):
                bed.kubectl("create", "namespace", namespace, check=True)
            world = World(bed, bed.vcsims[0], bed.folder)
            with world.guarded(trustNetwork=True) as guard:
                _tell(bed, guard)
                _try(world)
                while True:
                    signal.pause()
    except PartMissing as missing:
        sys.exit(str(missing))
    except KeyboardInterrupt:
        print("Everything is ended.", file=sys.stderr)


def _try(world: World) -> None:
    """A right claim, to start from."""
    vm = world.vm("DC0_H0_VM0")
    keys = {VM_ID: vm.moref, VM_UUID: vm.uuid}
    claim = pvc("disk-0", keys, {DISK_SOURCE: vm.files[0].rpartition("/")[2]})
    file = world.folder / "disk-0.yaml"
    file.write_text(yaml.safe_dump(claim, sort_keys=False))
    print(f"# Try, as it is and with something wrong in it:\nkubectl apply -f {file}", flush=True)


def _tell(bed: Bed, guard: Guard) -> None:
    vcsim = bed.vcsims[0]
    exports = {
        "KUBECONFIG": bed.kubeconfig(),
        "GOVC_URL": vcsim.url,  # these are govc's own names
        "GOVC_USERNAME": vcsim.user,
        "GOVC_PASSWORD": vcsim.password,
        "GOVC_TLS_CA_CERTS": vcsim.ca_file,
    }
    print(f"# A Kubernetes API server, a vCenter simulator, and conversion-guard at {guard.url}.")
    print("# Ctrl-C ends everything. Paste this into another terminal:")
    for name, value in exports.items():
        print(f"export {name}={shlex.quote(str(value))}")
    print(f"export PATH={shlex.quote(str(bed.parts.kubectl.parent))}:$PATH")


if __name__ == "__main__":
    main()
