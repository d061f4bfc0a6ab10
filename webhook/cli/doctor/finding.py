"""What a look at an installation says."""

from typing import Literal

import msgspec

Grade = Literal["good", "wrong", "unknown", "note"]
"""`unknown`: who asks has no right to look. `note`: right as it is, and worth knowing."""


class Observation(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    area: str
    state: Grade
    what: str
    fix: str = ""
    """What to do about it; a command or a manifest where there is one."""


def unseen(area: str, what: str) -> Observation:
    """Of what the caller has no right to see: whether it is there, nobody has said."""
    fix = "run doctor with more rights, such as those of cluster-admin"
    return Observation(area, "unknown", f"you may not see {what}", fix)


HELM = "helm upgrade conversion-guard manifests/chart -n conversion-guard -f values.yaml"
APPLY = f"kubectl apply -k my-cluster # with Helm: {HELM}"
"""By the folder or the values of docs/install.md and helm.md: `manifests/` alone would take away
what they set."""
