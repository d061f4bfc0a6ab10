"""Objects judged before anybody applies them, by the engine of admission itself.

`check` first repairs and then decides, as the API server's two calls do. What it answers is the
same JSON whatever the door: the REST API, the command line, the audit of a cluster.
"""

import asyncio
import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from webhook import quantity
from webhook.engine.judge import decide
from webhook.engine.listed import Listed
from webhook.engine.repair import repair
from webhook.engine.sources import Sources
from webhook.model.keys import MARK, PRIME, STORAGE_FIELD, UUID, Action, echoed, quoted
from webhook.model.marks import BOUND
from webhook.model.objects import KubeObject, Metadata, Pvc, User
from webhook.model.review import (
    CONVERSION,
    MIGRATION,
    PLAN,
    PVC,
    Admitted,
    Cause,
    Denied,
    Doubt,
    Kind,
    PatchOp,
    Reason,
    Review,
    Verdict,
    operation,
)

PATIENCE = 5.0
"""Seconds for one object, as the validating webhook has."""

_BREATH = 32  # objects after which others on the same event loop have their turn
_ORDER = {PVC: 0, PLAN: 1, MIGRATION: 2, CONVERSION: 2}
_UNREPAIRED = {True: "on", False: "off"}


class Candidate(msgspec.Struct, frozen=True):
    """An object to be judged, of any kind and shape, and where it was read."""

    object: Any
    file: str = ""
    line: int = 0


class Found(msgspec.Struct, frozen=True):
    """What one rule found."""

    rule: str
    """`pvc-vm`; `object` where the API server itself would refuse."""
    action: Action
    reason: Reason
    field: str
    message: str
    expected: str | None = None
    """The one right value of the field, where it is known."""


class Note(msgspec.Struct, frozen=True):
    """What no webhook can repair or see; never a reason to deny."""

    field: str
    message: str
    expected: str | None = None


CheckVerdict = Literal["admitted", "denied", "undecided", "skipped", "not-checked"]


class Result(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The verdict on one object, and all that belongs to it."""

    api_version: str
    kind: str
    namespace: str
    name: str
    file: str | msgspec.UnsetType = msgspec.UNSET
    line: int | msgspec.UnsetType = msgspec.UNSET
    verdict: CheckVerdict
    """`skipped`: one of Forklift's own. `not-checked`: of a kind without rules."""
    message: str = ""
    """Why it is undecided, skipped or not checked."""
    doubt: Doubt | msgspec.UnsetType = msgspec.UNSET
    """Why the facts could not be had, where the policy admits it all the same."""
    provider: str | msgspec.UnsetType = msgspec.UNSET
    """Of an audit: `namespace/name` of the Provider that it was judged by, where it may be told."""
    findings: tuple[Found, ...] = ()
    """Denials, warnings and what only the audit log has."""
    warnings: tuple[str, ...] = ()
    """What the API server's client would be warned of."""
    notes: tuple[Note, ...] = ()
    patch: tuple[dict[str, Any], ...] = ()
    """RFC 6902: what the mutating webhook writes."""
    patched: Any = None
    """The object with that patch; the verdict is on this one. An audit has none."""

    @property
    def good(self) -> bool:
        """Whether the object may be applied as it is."""
        return self.verdict not in ("denied", "undecided")


class Results(msgspec.Struct, frozen=True):
    """The answer to a whole list, in the list's order."""

    results: tuple[Result, ...]


async def check(
    candidates: Sequence[Candidate],
    sources: Sources,
    *,
    user: User | None = None,
    namespace: str = "",
    patience: float = PATIENCE,
    told: Callable[[], None] = lambda: None,
) -> tuple[Result, ...]:
    """The results, in the order of `candidates`, a List's items in its place.

    A PVC that isn't denied is there for the later PVCs, the Plans, Migrations and Conversions of
    the list; a Plan is what a Migration of the list names, and what a Plan names may be any object
    of it. `user` is on whose behalf; what they may
    be told is up to `sources` (`trust_network`, and the cluster's `may`). `namespace` is of objects
    that name none. `patience` is seconds for each object; `told` is called after each.
    """
    everything = [one for candidate in candidates for one in items(candidate)]
    listed = Listed(sources.cluster, sources.followed)
    results: dict[int, Result] = {}
    in_order = sorted(range(len(everything)), key=lambda at: _turn(everything[at]))
    for count, at in enumerate(in_order):
        if count % _BREATH == _BREATH - 1:
            await asyncio.sleep(0)
        results[at] = await _check(
            everything[at], sources, listed, user or User(), namespace, patience
        )
        told()
    return tuple(results[at] for at in range(len(everything)))


async def audit(
    there: Iterable[KubeObject],
    sources: Sources,
    *,
    migrations: Collection[str] | None,
    claims: Collection[str],
    patience: float = PATIENCE,
    told: Callable[[], None] = lambda: None,
    patches: bool = True,
) -> tuple[Result, ...]:
    """The results on what is on the cluster already, each object as it stands there.

    The patch of each is what applying it again would repair. `migrations` and `claims` are the uids
    of all Migrations (None: not known) and PVCs that there are: a mark by which admission passes a
    PVC by proves nothing unless one of them stands behind it. Without `patches`, what nobody reads
    is not looked for: 40 % of the time.
    """
    results = []
    for count, obj in enumerate(there):
        if count % _BREATH == _BREATH - 1:
            await asyncio.sleep(0)
        candidate = Candidate(obj)
        kind = kind_of(candidate)
        marks = tuple(_marks(obj, migrations, claims)) if kind == PVC else ()
        judged = _unmarked(obj) if marks else obj
        judged = _as_created(judged) if kind == PVC else judged
        review = Review("", kind, "CREATE", dry_run=True, object=judged)
        patch: tuple[PatchOp, ...] = ()
        if patches:
            patch = (await repair(review, sources, _deadline(patience))).patch
        verdict = await decide(review, sources, _deadline(patience))
        result = _result(candidate, verdict, patch=patch, patched=None, notes=marks)
        provider = verdict.audit.get("provider", msgspec.UNSET)
        results.append(msgspec.structs.replace(result, provider=provider))
        told()
    return tuple(results)


def _marks(
    obj: KubeObject, migrations: Collection[str] | None, claims: Collection[str]
) -> Iterator[Note]:
    """What admission passes this PVC by for, and nothing on the cluster bears out."""
    metadata = obj["metadata"]
    mark = (metadata.get("labels") or {}).get(MARK)
    unowned = migrations is not None and mark not in migrations
    if isinstance(mark, str) and UUID.fullmatch(mark) and unowned:
        message = (
            f"is {echoed(mark)}, which is not the uid of any Migration, but makes admission skip "
            "the PVC as Forklift's own: if it isn't, remove the label"
        )
        yield Note(f"metadata.labels[{MARK}]", message)
    name = metadata.get("name") or ""
    if name.startswith(PRIME) and name.removeprefix(PRIME) not in claims:
        message = (
            f"{echoed(name)} is the name of a populator's own PVC, but no PVC has that uid: if it "
            "is a vendor's, give it another name, because Forklift counts but never matches it"
        )
        yield Note("metadata.name", message)


def _as_created(obj: KubeObject) -> KubeObject:
    """As it was before it had its volume: only in a creation is that the mark of a copy."""
    annotations = obj["metadata"].get("annotations") or {}
    if BOUND not in annotations:
        return obj
    rest = {key: value for key, value in annotations.items() if key != BOUND}
    return {**obj, "metadata": {**obj["metadata"], "annotations": rest}}


def _unmarked(obj: KubeObject) -> KubeObject:
    """As admission would judge it without its mark, where it can be meant for a conversion."""
    pvc = Pvc.of(obj)
    if not (pvc.vm_id and pvc.vm_uuid and pvc.disk_source):
        return obj
    labels = {key: value for key, value in pvc.labels.items() if key != MARK}
    return {**obj, "metadata": {**obj["metadata"], "labels": labels}}


async def _check(
    candidate: Candidate,
    sources: Sources,
    listed: Listed,
    user: User,
    namespace: str,
    patience: float,
) -> Result:
    kind = kind_of(candidate)
    try:
        if faults := tuple(_malformed(candidate.object)):
            return _result(candidate, Denied(faults, findings=faults))
        if kind not in _ORDER:
            listed.name(kind, candidate.object, namespace)
            there = echoed(f"{candidate.object['apiVersion']} {kind}")
            message = f"there is no rule for {there}"
            return _result(candidate, "not-checked", message)
        given = _narrow(candidate.object, namespace)
        if kind == PVC and (faults := tuple(_not_storage(given))):
            return _result(candidate, Denied(faults, findings=faults))
        known = msgspec.structs.replace(
            sources, followed=listed.followed, cluster=listed.reader(kind, given)
        )
        review = Review("", kind, "CREATE", user=user, dry_run=True, object=given)
        patch = (await repair(review, known, _deadline(patience))).patch
        patched = _patched(candidate.object, patch) if patch else candidate.object
        judged = _narrow(patched, namespace) if patch else given
        review = msgspec.structs.replace(review, object=judged)
        verdict = await decide(review, known, _deadline(patience))
    except msgspec.ValidationError as error:
        fault = (_fault(error),)
        return _result(candidate, Denied(fault, findings=fault))
    except RecursionError:
        fault = (Cause("spec", "is nested too deeply", "FieldValueInvalid", "object"),)
        return _result(candidate, Denied(fault, findings=fault))
    if isinstance(verdict, Denied) and verdict.causes[0].rule == "object":
        return _result(candidate, verdict, patch=patch, patched=patched)
    notes = (*_unrepairable(kind, given), *(Note(*said) for said in listed.notes(kind, judged)))
    if not isinstance(verdict, Denied) or kind != PVC:
        listed.add(kind, judged)
    return _result(candidate, verdict, patch=patch, patched=patched, notes=notes)


def _turn(candidate: Candidate) -> int:
    """What no rule judges comes first: a Plan may name it."""
    return _ORDER.get(kind_of(candidate), -1)


def _deadline(patience: float) -> float:
    return asyncio.get_running_loop().time() + patience


def items(candidate: Candidate) -> Iterator[Candidate]:
    """The candidate itself, or what a List holds: `v1 List`, or one of a kind, as `kubectl get`
    and the API server write them."""
    obj = candidate.object
    kind = obj.get("kind") if isinstance(obj, dict) else None
    if not isinstance(kind, str) or not kind.endswith("List") or not _is_list(obj):
        yield candidate
        return
    of_items = {} if kind == "List" else {"kind": kind.removesuffix("List")}
    if of_items and "apiVersion" in obj:
        of_items["apiVersion"] = obj["apiVersion"]
    for item in obj["items"]:
        whole = {**of_items, **item} if isinstance(item, dict) else item
        yield Candidate(whole, candidate.file, candidate.line)


def _is_list(obj: Mapping[str, Any]) -> bool:
    return isinstance(obj.get("items"), list) and "spec" not in obj


def kind_of(candidate: Candidate) -> Kind:
    """As it is written; whatever stands in the way of reading it is found by `check`."""
    obj = candidate.object if isinstance(candidate.object, dict) else {}
    group, _, version = str(obj.get("apiVersion", "")).rpartition("/")
    return Kind(group, version, str(obj.get("kind", "")))


def _malformed(obj: Any) -> Iterator[Cause]:
    """What the API server refuses of any object before it asks a webhook."""
    if not isinstance(obj, dict):
        yield Cause("", "is not an object: write one with apiVersion and kind", *_OBJECT)
        return
    for field in ("apiVersion", "kind"):
        if not isinstance(obj.get(field), str) or not obj[field]:
            yield Cause(field, "is missing, or is not a string", "FieldValueRequired", "object")
    metadata = obj.get("metadata")
    for part in ("labels", "annotations"):
        pairs = metadata.get(part) if isinstance(metadata, dict) else None
        for key, value in pairs.items() if isinstance(pairs, dict) else ():
            if not isinstance(value, str | None):
                there = msgspec.json.encode(value).decode() if _plain(value) else "not a string"
                message = f"is {there}, which the API server refuses: write it in quotes"
                yield Cause(f"metadata.{part}[{key}]", message, *_OBJECT)


def _not_storage(obj: KubeObject) -> Iterator[Cause]:
    """A PVC's request that the API server refuses."""
    storage = Pvc.of(obj).storage
    size = quantity.parse(storage) if storage is not None else None
    if storage is not None and (size is None or size <= 0):
        right = quantity.near(storage)
        fix = " or ".join(map(quoted, right)) or 'one such as "10Gi"'
        message = f"{echoed(storage)} is no size, and the API server refuses it: write {fix}"
        yield Cause(STORAGE_FIELD, message, *_OBJECT)


_OBJECT: tuple[Reason, str] = "FieldValueInvalid", "object"


def _plain(value: object) -> bool:
    return isinstance(value, bool | int | float)


def _narrow(obj: Any, namespace: str) -> KubeObject:
    """What a review keeps of `obj`. Raises msgspec.ValidationError where its shape is another."""
    narrow = msgspec.convert(obj, KubeObject)
    metadata = narrow.setdefault("metadata", Metadata())
    if namespace and not metadata.get("namespace"):
        metadata["namespace"] = namespace
    return narrow


def _fault(error: msgspec.ValidationError) -> Cause:
    what, _, where = str(error).partition(" - at `")
    field = where.rstrip("`").removeprefix("$").lstrip(".")
    return Cause(field, f"the API server refuses it: {what[:1].lower()}{what[1:]}", *_OBJECT)


def _patched(obj: Any, patch: Sequence[PatchOp]) -> Any:
    """A copy of `obj` with the changes, which bring the parents that they need."""
    changed = copy.deepcopy(obj)
    for op in patch:
        at = changed
        for part in op.path[:-1]:
            at = at[part]
        if op.op == "remove":
            del at[op.path[-1]]
        else:
            at[op.path[-1]] = copy.deepcopy(op.value)
    return changed


def _unrepairable(kind: Kind, obj: KubeObject) -> Iterator[Note]:
    """Tried with a real API server: it types a server-side apply before it calls any webhook."""
    spec = obj.get("spec")
    if kind != PLAN or not isinstance(spec, dict) or spec.get("type") != "conversion":
        return
    vms: Any = spec.get("vms")
    listed = enumerate(vms) if isinstance(vms, list) else ()
    places: list[tuple[str, Any]] = [("spec", spec)]
    places += [(f"spec.vms[{index}]", vm) for index, vm in listed]
    for where, place in places:
        state = place.get("targetPowerState") if isinstance(place, dict) else None
        if isinstance(state, bool):
            word = _UNREPAIRED[state]
            message = (
                f'write "{word}" in quotes: it is a boolean, which `kubectl apply --server-side` '
                "refuses before any webhook can repair it"
            )
            yield Note(f"{where}.targetPowerState", message, word)


def _result(
    candidate: Candidate,
    verdict: Verdict | CheckVerdict,
    message: str = "",
    *,
    patch: Sequence[PatchOp] = (),
    patched: Any = msgspec.UNSET,
    notes: Sequence[Note] = (),
) -> Result:
    obj = candidate.object if isinstance(candidate.object, dict) else {}
    metadata: Any = obj.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    findings: tuple[Found, ...] = ()
    warnings: tuple[str, ...] = ()
    if isinstance(verdict, str):
        answer = verdict
    else:
        answer, message = _answer(verdict)
        warnings = verdict.warnings
    doubt: Doubt | msgspec.UnsetType = msgspec.UNSET
    if isinstance(verdict, Admitted):
        doubt = verdict.doubt or msgspec.UNSET
    if isinstance(verdict, Admitted | Denied):
        findings = tuple(_found(cause) for cause in verdict.findings)
    return Result(
        api_version=str(obj.get("apiVersion", "")),
        kind=str(obj.get("kind", "")),
        namespace=str(metadata.get("namespace") or ""),
        name=_name(metadata),
        file=candidate.file or msgspec.UNSET,
        line=candidate.line or msgspec.UNSET,
        verdict=answer,
        message=message,
        doubt=doubt,
        findings=findings,
        warnings=warnings,
        notes=tuple(notes),
        patch=tuple(operation(op) for op in patch),
        patched=candidate.object if patched is msgspec.UNSET else patched,
    )


def _answer(verdict: Verdict) -> tuple[CheckVerdict, str]:
    match verdict:
        case Denied():
            return "denied", ""
        case Admitted():
            why = verdict.audit.get("skipped-because", "")
            return ("skipped" if why else "admitted"), why
        case _:
            return "undecided", verdict.message


def _found(cause: Cause) -> Found:
    return Found(cause.rule, cause.action, cause.reason, cause.field, cause.message, cause.expected)


def _name(metadata: Mapping[str, Any]) -> str:
    return str(metadata.get("name") or metadata.get("generateName") or "")
