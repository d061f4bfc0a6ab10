"""The changes that have only one right answer."""

import asyncio
import copy
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

from webhook.engine import doubt
from webhook.engine.ask import Asked, Seen
from webhook.engine.books import Book, book_of
from webhook.engine.opinion import opine
from webhook.engine.sources import Sources
from webhook.errors import ClusterUnreachable, ObjectMalformed
from webhook.facts.facts import F
from webhook.facts.rule import Default
from webhook.inventory.provider import ProviderInventory
from webhook.model.review import Admitted, PatchOp, Review


async def repair(review: Review, sources: Sources, deadline: float) -> Admitted:
    """What the defaults fill in; nothing where the facts can't be had. Never a refusal."""
    begun = begin(review, sources, deadline)
    return begun if isinstance(begun, Admitted) else await begun


def begin(
    review: Review, sources: Sources, deadline: float
) -> Admitted | Coroutine[Any, Any, Admitted]:
    """The same, at once where nothing has to be waited for."""
    if review.object is None:
        return _NOTHING
    try:
        book = book_of(review.kind)
        if not book.filling(sources.policy):
            return _NOTHING
        subject = book.ask.subject(review.object, review.old)
        if not subject.judged or book.skipped(subject, sources.policy, review.user) is not None:
            return _NOTHING
        asked = book.known(subject, sources, review.user)
        if asked is None:
            return _gathered(book, subject, review, sources, deadline)
        return _filled(book, asked, review, sources)
    except ObjectMalformed:
        return _NOTHING  # the API server's own validation says what is wrong


_NOTHING = Admitted()


async def _gathered(
    book: Book[F], subject: Any, review: Review, sources: Sources, deadline: float
) -> Admitted:
    try:
        async with asyncio.timeout_at(deadline):
            asked = await book.ask.gather(subject, sources, review.user, whole=False)
        return _filled(book, asked, review, sources)
    except (ClusterUnreachable, ObjectMalformed, TimeoutError):
        return _NOTHING


def _filled(book: Book[F], asked: Any, review: Review, sources: Sources) -> Admitted:
    if asked.at_most != "deny":
        return _NOTHING  # what is restored comes back as it was
    obj: Any = review.object
    patch: list[PatchOp] = []
    filled: list[str] = []
    seen: list[tuple[ProviderInventory, Seen[F]]] | None = None
    for default in book.filling(sources.policy):
        if not default.reads & asked.changed:
            continue
        if default.asks_vsphere and seen is None:
            seen = _seen(asked, sources)
        if ops := _agreed(asked, default, book, seen or (), sources):
            obj = obj if patch else copy.deepcopy(obj)
            for op in ops:
                patch.extend(_apply(obj, op))
            filled.append(default.id)
            # The next one sees what this one wrote.
            asked = asked.about(book.ask.subject(obj, review.old))
            seen = None
    return Admitted(tuple(patch), filled=tuple(filled)) if patch else _NOTHING


def _seen(asked: Asked[F], sources: Sources) -> list[tuple[ProviderInventory, Seen[F]]]:
    """What the providers say that know the VM best."""
    usable, _ = doubt.believed(asked, sources)
    views = {source.name: source.vms for source in usable}
    knowing = doubt.knowing(asked, usable, views, least=1)
    return [(one, asked.seen(one, views)) for one in knowing]


def _agreed(
    asked: Asked[F],
    default: Default[F],
    book: Book[F],
    seen: Sequence[tuple[ProviderInventory, Seen[F]]],
    sources: Sources,
) -> tuple[PatchOp, ...]:
    """What those would fill in that have anything to; nothing where two of them differ, or where
    the object is right by one that has nothing to."""
    if not default.asks_vsphere:
        return tuple(default.fill(asked.seen(None, {}).facts))
    answers = [tuple(default.fill(one.facts)) for _, one in seen]
    given = [ops for ops in answers if ops]
    if not given or any(ops != given[0] for ops in given):
        return ()
    silent = [one for one, ops in zip(seen, answers, strict=True) if not ops]
    rules = book.running(sources.enforcement(asked.namespace)) if silent else ()
    right = any(opine(asked, rules, source, one).clean for source, one in silent)
    return () if right else given[0]


def _apply(obj: Any, op: PatchOp) -> Iterator[PatchOp]:
    """Make the change in `obj`, and yield it, after the empty parent that it may need."""
    *parents, leaf = op.path
    at = obj
    for depth, part in enumerate(parents):
        if isinstance(at, dict) and at.get(part) is None:
            yield PatchOp("add", tuple(parents[: depth + 1]), {})
            at[part] = {}
        at = at[part]
    if op.op == "remove":
        del at[leaf]
    else:
        at[leaf] = op.value
    yield op
