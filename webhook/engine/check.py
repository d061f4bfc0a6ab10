"""Objects judged before anybody applies them, by the engine of admission itself.

`check` first repairs and then decides, as the API server's two calls do. What it answers is the
same JSON wherever it is asked for: the REST API, the command line, the audit of a cluster.
"""

import asyncio
import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from webhook.engine import refused
from webhook.engine.judge import decide
from webhook.engine.listed import Listed
from webhook.engine.repair import repair
from webhook.engine.results import Candidate, Note, Result, result_of
from webhook.engine.sources import Sources
from webhook.model.keys import MARK, PRIME, UUID, echoed
from webhook.model.marks import BOUND
from webhook.model.objects import KubeObject, Pvc, User
from webhook.model.review import (
    CONVERSION,
    MIGRATION,
    PLAN,
    PVC,
    Cause,
    Denied,
    Kind,
    PatchOp,
    Review,
)

PATIENCE = 5.0
"""Seconds for one object, as the validating webhook has."""

_BREATH = 32  # objects after which others on the same event loop have their turn
_ORDER = {PVC: 0, PLAN: 1, MIGRATION: 2, CONVERSION: 2}
_UNREPAIRED = {True: "on", False: "off"}


async def check(
    candidates: Sequence[Candidate],
    sources: Sources,
    *,
    user: User | None = None,
    namespace: str = "",
    patience: float = PATIENCE,
    told: Callable[[], None] = lambda: None,
) -> tuple[Result, ...]:
    """The results, in the order of `candidates`: of exactly these, for it is their rights that the
    caller was asked for. A List is no object; see `unfolded`.

    A PVC that isn't denied is there for the later PVCs, the Plans, Migrations and Conversions of
    the list; a Plan is what a Migration of the list names, and what a Plan names may be any object
    of it. A Migration that isn't denied has started its Plan, for those that come later. `user` is
    on whose behalf; what they may be told is up to `sources` (`trust_network`, and the cluster's
    `may`). `namespace` is of objects
    that name none. `patience` is seconds for each object; `told` is called after each.
    """
    listed = Listed(sources.cluster, sources.followed)
    results: dict[int, Result] = {}
    in_order = sorted(range(len(candidates)), key=lambda at: _turn(candidates[at]))
    for count, at in enumerate(in_order):
        if count % _BREATH == _BREATH - 1:
            await asyncio.sleep(0)
        results[at] = await _check(
            candidates[at], sources, listed, user or User(), namespace, patience
        )
        told()
    return tuple(results[at] for at in range(len(candidates)))


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
        result = result_of(candidate, verdict, patch=patch, patched=None, notes=marks)
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
        if faults := tuple(refused.malformed(candidate.object)):
            return result_of(candidate, Denied(faults, findings=faults))
        if kind not in _ORDER:
            listed.name(kind, candidate.object, namespace)
            there = echoed(f"{candidate.object['apiVersion']} {kind}")
            message = f"there is no rule for {there}"
            return result_of(candidate, "not-checked", message)
        given = refused.narrow(candidate.object, namespace)
        if kind == PVC and (faults := tuple(refused.not_storage(given))):
            return result_of(candidate, Denied(faults, findings=faults))
        known = msgspec.structs.replace(
            sources, followed=listed.followed, cluster=listed.reader(kind, given)
        )
        review = Review("", kind, "CREATE", user=user, dry_run=True, object=given)
        patch = (await repair(review, known, _deadline(patience))).patch
        patched = _patched(candidate.object, patch) if patch else candidate.object
        judged = refused.narrow(patched, namespace) if patch else given
        review = msgspec.structs.replace(review, object=judged)
        verdict = await decide(review, known, _deadline(patience))
    except msgspec.ValidationError as error:
        fault = (refused.fault(error),)
        return result_of(candidate, Denied(fault, findings=fault))
    except RecursionError:
        fault = (Cause("spec", "is nested too deeply", "FieldValueInvalid", "object"),)
        return result_of(candidate, Denied(fault, findings=fault))
    if isinstance(verdict, Denied) and verdict.causes[0].rule == "object":
        return result_of(candidate, verdict, patch=patch, patched=patched)
    notes = (*_unrepairable(kind, given), *(Note(*said) for said in listed.notes(kind, judged)))
    if not isinstance(verdict, Denied) or kind == PLAN:
        listed.add(kind, judged)
    return result_of(candidate, verdict, patch=patch, patched=patched, notes=notes)


def _turn(candidate: Candidate) -> int:
    """What no rule judges comes first: a Plan may name it."""
    return _ORDER.get(kind_of(candidate), -1)


def _deadline(patience: float) -> float:
    return asyncio.get_running_loop().time() + patience


def unfolded(candidate: Candidate) -> Iterator[Candidate]:
    """The candidate itself, or what a List holds, Lists in it included: `v1 List`, or one of a
    kind, as `kubectl get` and the API server write them."""
    waiting = [candidate]
    while waiting:
        one = waiting.pop()
        obj = one.object
        kind = obj.get("kind") if isinstance(obj, dict) else None
        if not isinstance(kind, str) or not kind.endswith("List") or not _is_list(obj):
            yield one
            continue
        of_items = {} if kind == "List" else {"kind": kind.removesuffix("List")}
        if of_items and "apiVersion" in obj:
            of_items["apiVersion"] = obj["apiVersion"]
        for item in reversed(obj["items"]):
            whole = {**of_items, **item} if isinstance(item, dict) else item
            waiting.append(Candidate(whole, one.file, one.line))


def _is_list(obj: Mapping[str, Any]) -> bool:
    return isinstance(obj.get("items"), list) and "spec" not in obj


def kind_of(candidate: Candidate) -> Kind:
    """As it is written; whatever stands in the way of reading it is found by `check`."""
    obj = candidate.object if isinstance(candidate.object, dict) else {}
    group, _, version = str(obj.get("apiVersion", "")).rpartition("/")
    return Kind(group, version, str(obj.get("kind", "")))


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
