"""Which PVC names a conversion pod can be built with.

The PVC's name becomes the name of the pod's volume (Forklift: kubevirt.go, podVolumeMounts;
conversion/builder.go), which must be a DNS label, and must not be one of the pod's own volumes.
"""

from webhook.model.keys import DNS_LABEL

_LONGEST = 63
# Some only where a Plan or Forklift itself is configured so: that may come later than the PVC.
_OF_THE_POD = frozenset(
    {
        "conversion-temp-storage",
        "extra-v2v-conf",
        "luks",
        "scripts-volume-mount",
        "secret-volume",
        "vddk-conf",
        "vddk-vol-mount",
    }
)


NONE = (
    f"no volume of the conversion pod can have: write at most {_LONGEST} of a-z, 0-9 and -, and no "
    "name of the pod's own volumes"
)
"""What to say of such a name where it may not be shown."""


def fault(name: str) -> str:
    """What is wrong with the name of a PVC, and what to write; empty where nothing is."""
    if name in _OF_THE_POD:
        return "is the name of a volume of the conversion pod itself: choose another name"
    if len(name) > _LONGEST:
        return f"has {len(name)} characters: a conversion takes a name of at most {_LONGEST}"
    if not DNS_LABEL.fullmatch(name):
        fix = "write a name of a-z, 0-9 and - only, without a dot"
        return f"can't name a volume of the conversion pod: {fix}"
    return ""
