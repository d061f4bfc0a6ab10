"""The keys that tie a PVC to its source disk, and the fields that rules read."""

import re
from collections.abc import Iterable
from typing import Literal

# The three keys that tie a PVC to its source disk (Forklift: kubevirt.go, kVM and AnnDiskSource).
VM_ID = "vmID"
VM_UUID = "vmUUID"
DISK_SOURCE = "forklift.konveyor.io/disk-source"
MARK = "migration"
"""A label: Forklift puts its Migration's uid there on each PVC of its own."""
PRIME = "prime-"
"""How the name of a populator's own PVC begins; the uid of the PVC that it fills follows."""
NOT_READY = "conversion-guard.io/not-ready"
"""An annotation that a vendor sets when it creates a PVC, and removes when its copy is whole."""
IN_SYNC = "conversion-guard.io/in-sync"
"""An annotation by which a vendor says how the PVC follows its disk, a snapshot's delta included,
until the VM is off."""
SHAREABLE = "shareable"
"""A label: with migrateSharedDisks: false Forklift takes a shared disk's PVC only with `true`."""
WAVE = "conversion-guard.io/wave"
"""A Plan's label: which Plans are to be migrated together. Only shown, and never judged."""
ENFORCE = "conversion-guard.io/enforce"
"""A namespace's label: deny, warn or audit, the most that is done about a finding there."""

# The same, as a reader of a denial sees them.
VM_ID_FIELD = f"metadata.labels[{VM_ID}]"
VM_UUID_FIELD = f"metadata.labels[{VM_UUID}]"
DISK_SOURCE_FIELD = f"metadata.annotations[{DISK_SOURCE}]"
DISK_SOURCE_LABEL_FIELD = f"metadata.labels[{DISK_SOURCE}]"
THREE_KEYS = frozenset({VM_ID_FIELD, VM_UUID_FIELD, DISK_SOURCE_FIELD})
PVC_FIELDS = THREE_KEYS | {DISK_SOURCE_LABEL_FIELD}
NAME_FIELD = "metadata.name"
STORAGE_FIELD = "spec.resources.requests.storage"
SOURCE_PROVIDER_FIELD = "spec.provider.source"
DESTINATION_PROVIDER_FIELD = "spec.provider.destination"
MIGRATION_PLAN_FIELD = "spec.plan"
RESUME_FIELD = "spec.resumeConversion"
MIGRATION_FIELDS = frozenset({MIGRATION_PLAN_FIELD, RESUME_FIELD})
PLAN_TYPE_FIELD = "spec.type"
TARGET_NAMESPACE_FIELD = "spec.targetNamespace"
PLAN_VMS_FIELD = "spec.vms"
STORAGE_MAP_FIELD = "spec.map"
POWER_STATE_FIELD = "spec.targetPowerState"
NETWORK_MAP_FIELD = "spec.map.network"
WARM_FIELD = "spec.warm"
STATIC_IPS_FIELD = "spec.preserveStaticIPs"
SHARED_DISKS_FIELD = "spec.migrateSharedDisks"
TEMPLATES_FIELD = "spec.pvcNameTemplate, spec.volumeNameTemplate"
LABEL_FIELDS = frozenset(
    {
        "spec.convertorLabels",
        "spec.convertorNodeSelector",
        "spec.targetLabels",
        "spec.targetNodeSelector",
    }
)
"""What the conversion pod and the new VM's are labelled with, and look for on a node."""
AFFINITY_FIELDS = frozenset({"spec.convertorAffinity", "spec.targetAffinity"})
"""Where the two are to run."""
DELETE_FIELD = "spec.deleteVmOnFailMigration"
VOLUME_MODE_FIELD = "spec.volumeMode"
STORAGE_CLASS_FIELD = "spec.storageClassName"
ACCESS_MODES_FIELD = "spec.accessModes"
CONVERSION_VM_FIELD = "spec.vm"
CONVERSION_DISKS_FIELD = "spec.disks"
CONVERSION_DESTINATION_FIELD = "spec.destination"
CONVERSION_FIELDS = frozenset(
    {
        "spec.type",
        CONVERSION_VM_FIELD,
        CONVERSION_DISKS_FIELD,
        CONVERSION_DESTINATION_FIELD,
        TARGET_NAMESPACE_FIELD,
    }
)
CONVERTING_FIELDS = CONVERSION_FIELDS | {MIGRATION_PLAN_FIELD}
"""What a rule reads that judges whatever converts whole disk sets."""
PLAN_FIELDS = frozenset(
    {
        PLAN_TYPE_FIELD,
        SOURCE_PROVIDER_FIELD,
        DESTINATION_PROVIDER_FIELD,
        TARGET_NAMESPACE_FIELD,
        PLAN_VMS_FIELD,
        STORAGE_MAP_FIELD,
        NETWORK_MAP_FIELD,
        POWER_STATE_FIELD,
        WARM_FIELD,
        STATIC_IPS_FIELD,
        SHARED_DISKS_FIELD,
        TEMPLATES_FIELD,
        *LABEL_FIELDS,
        *AFFINITY_FIELDS,
        DELETE_FIELD,
    }
)
PLAN_VM_FIELDS = frozenset(
    {PLAN_TYPE_FIELD, SOURCE_PROVIDER_FIELD, TARGET_NAMESPACE_FIELD, PLAN_VMS_FIELD}
)
"""What a rule reads that judges each entry of spec.vms."""

# pyVmomi writes a managed object reference into its SOAP unescaped: nothing else may pass for one.
MOREF = re.compile(r"[A-Za-z0-9-]{1,63}", re.ASCII)
_PART = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DNS_LABEL = re.compile(rf"(?=.{{1,63}}\Z){_PART}", re.ASCII)
"""What can be the name of a namespace (k8s.io/apimachinery, validation.go)."""
DNS_SUBDOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_PART}(\.{_PART})*", re.ASCII)
"""What can be the name of an object, dots and all."""
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)

Action = Literal["deny", "warn", "audit", "off"]
"""What is done about a finding."""
MILDEST_FIRST: tuple[Action, ...] = ("off", "audit", "warn", "deny")

_GO_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


def is_blank(text: str | None) -> bool:
    """Whether Forklift takes `text` for absent: Go's strings.TrimSpace leaves nothing of it.

    Source: Forklift's kubevirt.go, hasDiskIdentity. Python's strip() takes \\x1c to \\x1f besides.
    """
    return text is None or not text.strip(_GO_SPACE)


def quoted(text: object) -> str:
    r"""`text` exactly, to be pasted: a double-quoted scalar of YAML and JSON, never cut.

    What can't be seen is escaped: control characters, line separators, marks of direction, and any
    blank but the usual one.

    >>> quoted('the "a"')
    '"the \\"a\\""'
    """
    plain = str(text)
    if plain.isprintable() and '"' not in plain and "\\" not in plain:  # as nearly all are
        return f'"{plain}"'
    return f'"{"".join(map(_escaped, plain))}"'


def either(texts: Iterable[str], most: int = 8) -> str:
    """`a or b or 3 more`: a choice between `texts`, of which so many are shown."""
    every = list(texts)
    shown = every[:most] if len(every) <= most else [*every[:most], f"{len(every) - most} more"]
    return " or ".join(shown)


_PLAIN = re.compile(r"[A-Za-z][-.A-Za-z0-9]*", re.ASCII)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def scalar(text: str) -> str:
    """`text`, to be pasted into YAML: quoted where it would not be read as text."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return text if plain else quoted(text)


def echoed(text: object, limit: int = 120) -> str:
    """What a user wrote, as `quoted` has it, but cut after `limit` characters: nobody pastes it."""
    shown = quoted(str(text)[:limit])
    return f'{shown[:-1]}…"' if len(str(text)) > limit else shown


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    units = char.encode("utf-16-be", "surrogatepass").hex()  # beyond U+FFFF JSON wants two
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
