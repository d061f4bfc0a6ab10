"""The image as a cluster runs it: a read-only root, another uid than root's, memory for /tmp.

`python -m tests.image`, or `make image-test`. Exit code 1 where a figure falls short; where the
image can't be built the reason is printed, in one line. It counts as a failure if CI=true, unless
the machine has no buildah or reaches no package.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import msgspec

from tests.cases import BASE, review_of
from tests.guard import running
from tests.image_build import Image, ImageUntested, NothingToBuildBy, built

_MOST_BYTES = 250_000_000
_MOST_SECONDS = 2.0
_STARTS = 5  # the best counts: the machine may be busy with something else

# A mount namespace of its own: what is mounted here goes with the process. It stays one
# process down to the server, which so gets the signals. /tmp is memory, as in the Deployment.
_AS_IN_A_POD = """
set -e
root=$1 folder=$2 user=$3
shift 3
chown -R "$user" "$folder"
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root$folder"
mount --bind "$folder" "$root$folder"
mount -o remount,bind,ro "$root"
exec chroot --userspec="$user" "$root" "$@"
"""


def main() -> int:
    try:
        with built() as image:
            return _judge(image)
    except NothingToBuildBy as missing:
        sys.stderr.write(f"image-test: NOT TESTED: {missing}\n")
        return 0
    except ImageUntested as reason:
        ci = os.environ.get("CI") == "true"
        sys.stderr.write(f"image-test: {'failed' if ci else 'skipped'}: {reason}\n")
        return 1 if ci else 0
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{error.output}\nimage-test: failed: {error.cmd}\n")
        return 1


def _judge(image: Image) -> int:
    faults: list[str] = []
    whole, added = image.sizes()
    print(f"size: {whole / 1e6:.0f} MB, of which the Dockerfile adds {added / 1e6:.0f} MB")
    if whole > _MOST_BYTES:
        faults.append(f"it is larger than {_MOST_BYTES / 1e6:.0f} MB")
    starts = [_run_once(image, faults) for _ in range(_STARTS)]
    print(f"start: {', '.join(f'{seconds:.2f}' for seconds in starts)} s until /livez answers")
    if min(starts) > _MOST_SECONDS:
        faults.append(f"it takes longer than {_MOST_SECONDS:g} s to start")
    for fault in dict.fromkeys(faults):
        sys.stderr.write(f"image-test: failed: {fault}\n")
    return 1 if faults else 0


def _run_once(image: Image, faults: list[str]) -> float:
    """Seconds from the start of the process to its first answer; what is wrong goes to `faults`."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        uid = image.user.partition(":")[0]
        variables = [f"{key}={value}" for key, value in image.environment.items()]
        program = ["unshare", "--mount", "sh", "-c", _AS_IN_A_POD, "sh", str(image.root), name]
        program += [image.user, "env", "-i", *variables, *image.entrypoint]
        started = time.monotonic()
        with running(folder, {"snapshots": [str(_snapshot(folder))]}, program) as guard:
            with guard.client() as client:
                alive = client.get("/livez").status_code
                seconds = time.monotonic() - started
                answer = client.post("/validate", json=review_of(BASE["PersistentVolumeClaim"]))
            process = Path("/proc", str(guard.process.pid))
            ids = next(
                line.split()[1:]
                for line in (process / "status").read_text().splitlines()
                if line.startswith("Uid:")
            )
            read_only = os.statvfs(process / "root").f_flag & os.ST_RDONLY
            code = guard.stop()
        checks = {
            f"/livez answers {alive}": alive == httpx.codes.OK,
            f"a right PVC is answered: {answer.text}": answer.json()["response"]["allowed"] is True,
            f"it runs as uid {ids}": set(ids) == {uid} and uid != "0",
            "its root can be written to": bool(read_only),
            f"it ends with {code} on SIGTERM": code == 0,
            f"there is a traceback in its log: {guard.log}": "Traceback" not in guard.log,
        }
        faults.extend(what for what, good in checks.items() if not good)
    return seconds


def _snapshot(folder: Path) -> Path:
    """What the review of a right PVC needs to know."""
    vms = [{"moref": moref, **vm} for moref, vm in BASE["vsphere"].items()]
    provider = {"namespace": "openshift-mtv", "name": "vsphere-production", "vms": vms}
    file = folder / "snapshot.yaml"
    file.write_bytes(msgspec.yaml.encode({"providers": [provider]}))
    return file


if __name__ == "__main__":
    sys.exit(main())
