"""A request of the API server, and what may be answered. No policy here."""

import re
from typing import Any, Literal

import msgspec

from webhook.model.keys import Action
from webhook.model.objects import KubeObject, User

Reason = Literal[
    "FieldValueInvalid", "FieldValueRequired", "FieldValueDuplicate", "FieldValueForbidden"
]


class PatchOp(msgspec.Struct, frozen=True):
    """One change at a leaf: `path` is of keys and indexes, as in ("metadata", "labels", "vmID")."""

    op: Literal["add", "remove"]
    path: tuple[str | int, ...]
    value: Any = None


_NUMBERS = re.compile(r"(\d+)", re.ASCII)


class Cause(msgspec.Struct, frozen=True):
    """One finding as the user reads it; `rule` ends the message, for kubectl shows nothing else."""

    field: str
    message: str
    reason: Reason
    rule: str
    action: Action = "deny"
    """What is done about it."""
    expected: str | None = None
    """The one right value of the field, where it is known."""
    entry: int | None = None
    """The index in the Plan's spec.vms that a Migration's finding is about."""

    def place(self) -> list[str | int]:
        """Where a reader expects it: by field, with spec.vms[2] before spec.vms[10]."""
        parts = _NUMBERS.split(self.field)
        return [int(part) if index % 2 else part for index, part in enumerate(parts)]

    def __str__(self) -> str:
        return f"{self.message} (conversion-guard: {self.rule})"


Audit = dict[str, str]

Doubt = Literal[
    "first-read",  # it still runs, of a provider or of the list of Providers
    "unreachable",
    "too-old",  # what is known, past maxAge
    "too-many-reads",
    "deadline",  # nothing came within the request's time
    "cluster",  # the API server can't be asked
    "no-provider",
    "facts",  # vSphere answers, but can't tell
    "fault",  # of the guard's own
]
"""Why a verdict is undecided, for the metrics: a closed set."""

Skip = Literal["forklift-mark", "populator", "importer"]
"""Why a PVC is none of a vendor's."""


class Admitted(msgspec.Struct, frozen=True):
    """Go ahead, with these changes (only from /mutate) and these warnings."""

    patch: tuple[PatchOp, ...] = ()
    warnings: tuple[str, ...] = ()
    audit: Audit = {}
    findings: tuple[Cause, ...] = ()
    """All that the rules found, for those that tell more than AdmissionReview has room for."""
    doubt: Doubt | None = None
    """Where it is undecided and the policy admits it."""
    notes: tuple[str, ...] = ()
    """What is to be said of it and is no finding: all other warnings are in `findings`."""
    unchecked: bool = False
    """Whether nobody could judge what ought to be judged: `notes` say why."""
    skipped: Skip | None = None
    filled: tuple[str, ...] = ()
    """The ids of the defaults that the patch is by."""

    @property
    def plain(self) -> bool:
        """Whether there is nothing to be told of it, as of nearly every one."""
        return not (self.findings or self.filled or self.skipped or self.doubt)


class Denied(msgspec.Struct, frozen=True):
    """Refused, for these causes: at least one. Code 422, reason Invalid."""

    causes: tuple[Cause, ...]
    warnings: tuple[str, ...] = ()
    audit: Audit = {}
    findings: tuple[Cause, ...] = ()
    """The causes and everything milder."""
    plan: tuple[str, str] | None = None
    """Namespace and name of the Plan whose Migration it is, where the caller may speak of it."""


class Undecided(msgspec.Struct, frozen=True):
    """The facts could not be had: what was asked, and since when it doesn't answer. Code 503."""

    message: str
    doubt: Doubt
    retry_after_seconds: int | None = None
    """Only while a first read is running: a client that obeys it sends the same request again."""
    warnings: tuple[str, ...] = ()
    audit: Audit = {}


Verdict = Admitted | Denied | Undecided
VERDICTS = (Admitted, Denied, Undecided)
"""For isinstance: the union would be made anew each time."""


class Kind(msgspec.Struct, frozen=True):
    """A GroupVersionKind of the wire."""

    group: str = ""
    version: str = ""
    kind: str = ""

    def __str__(self) -> str:
        return self.kind

    @property
    def api_version(self) -> str:
        """As an object of it has it."""
        return f"{self.group}/{self.version}" if self.group else self.version


class Resource(msgspec.Struct, frozen=True):
    """A GroupVersionResource of the wire."""

    group: str = ""
    version: str = ""
    resource: str = ""


PVC = Kind("", "v1", "PersistentVolumeClaim")
PLAN = Kind("forklift.konveyor.io", "v1beta1", "Plan")
MIGRATION = Kind("forklift.konveyor.io", "v1beta1", "Migration")
CONVERSION = Kind("forklift.konveyor.io", "v1beta1", "Conversion")

RESOURCES = {
    PVC: Resource("", "v1", "persistentvolumeclaims"),
    PLAN: Resource("forklift.konveyor.io", "v1beta1", "plans"),
    MIGRATION: Resource("forklift.konveyor.io", "v1beta1", "migrations"),
    CONVERSION: Resource("forklift.konveyor.io", "v1beta1", "conversions"),
}

JUDGED = frozenset(RESOURCES)
"""The kinds that are looked at; any other is admitted."""
API_VERSIONS = {kind.kind: kind.api_version for kind in JUDGED}
"""Of each of them, by its name."""


def resource_of(kind: Kind) -> str:
    """As access reviews have it: `plans.forklift.konveyor.io`. `kind` is one of JUDGED."""
    resource = RESOURCES[kind]
    return ".".join(part for part in (resource.resource, resource.group) if part)


Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


class Review(msgspec.Struct, frozen=True):
    """A request of the API server, as far as it matters here."""

    uid: str
    kind: Kind
    operation: Operation
    name: str = ""
    namespace: str = ""
    user: User = User()
    dry_run: bool = False
    object: KubeObject | None = None
    """None for an operation without one, and for a kind that nobody here judges."""
    old: KubeObject | None = None


def operation(op: PatchOp) -> dict[str, Any]:
    """`op` as RFC 6902 writes it."""
    pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in op.path)
    if op.op == "remove":
        return {"op": "remove", "path": pointer}
    return {"op": op.op, "path": pointer, "value": op.value}
