"""`make cluster`: a real API server and a vCenter simulator to play with, until Ctrl-C."""

import shlex
import signal
import sys
from pathlib import Path

from tests.e2e.bed import Bed
from tests.e2e.parts import PartMissing

_CRDS = Path(__file__).parent / "crds"
_NAMESPACES = ("openshift-mtv", "migrated-workloads")


def start_guard(bed: Bed) -> None:
    """Start conversion-guard with `bed.run` and apply the shipped manifests. Not there yet."""


def main() -> None:
    """Bring everything up, print how to reach it, and stay."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)  # all unwind as Ctrl-C does
    try:
        with Bed(vcsims=1) as bed:
            bed.install_crds(_CRDS)
            for namespace in _NAMESPACES:
                bed.kubectl("create", "namespace", namespace, check=True)
            start_guard(bed)
            _tell(bed)
            while True:
                signal.pause()
    except PartMissing as missing:
        sys.exit(str(missing))
    except KeyboardInterrupt:
        print("Everything is ended.", file=sys.stderr)


def _tell(bed: Bed) -> None:
    vcsim = bed.vcsims[0]
    exports = {
        "KUBECONFIG": bed.kubeconfig(),
        "GOVC_URL": vcsim.url,  # these are govc's own names
        "GOVC_USERNAME": vcsim.user,
        "GOVC_PASSWORD": vcsim.password,
        "GOVC_TLS_CA_CERTS": vcsim.ca_file,
    }
    print("# A Kubernetes API server and a vCenter simulator. Paste this into another terminal:")
    for name, value in exports.items():
        print(f"export {name}={shlex.quote(str(value))}")
    print(f"export PATH={shlex.quote(str(bed.parts.kubectl.parent))}:$PATH")
    print("# Ctrl-C ends everything.", flush=True)


if __name__ == "__main__":
    main()
