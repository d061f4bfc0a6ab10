"""The changes that have only one right answer."""

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

from webhook.engine import doubt
from webhook.engine.ask import Asked
from webhook.engine.books import Book, book_of
from webhook.engine.sources import Sources
from webhook.errors import ClusterUnreachable, ObjectMalformed
from webhook.facts.facts import F
from webhook.facts.rule import Default
from webhook.model.objects import KubeObject
from webhook.model.review import Admitted, PatchOp, Review


async def repair(review: Review, sources: Sources, deadline: float) -> Admitted:
    """What the defaults fill in; nothing where the facts can't be had. Never a refusal."""
    if review.object is None:
        return Admitted()
    try:
        book = book_of(review.kind)
        subject = book.ask.subject(review.object, review.old)
        if not book.defaults or not subject.judged:
            return Admitted()
        if book.skipped(subject, sources.policy, review.user) is not None:
            return Admitted()
        async with asyncio.timeout_at(deadline):
            asked = await book.ask.gather(subject, sources, review.user, whole=False)
        if asked.at_most != "deny":
            return Admitted()  # what is restored comes back as it was
        return _filled(book, asked, review.object, review.old, sources)
    except ObjectMalformed:
        return Admitted()  # the API server's own validation says what is wrong
    except (ClusterUnreachable, TimeoutError):
        return Admitted()


def _filled(
    book: Book[F], asked: Any, obj: KubeObject, old: KubeObject | None, sources: Sources
) -> Admitted:
    patch: list[PatchOp] = []
    filled: list[str] = []
    for default in book.defaults:
        if not sources.policy.defaults.get(default.id, default.on):
            continue
        if not default.reads & asked.changed:
            continue
        if ops := _agreed(asked, default, sources):
            obj = obj if patch else copy.deepcopy(obj)
            for op in ops:
                patch.extend(_apply(obj, op))
            filled.append(default.id)
            # The next one sees what this one wrote.
            asked = asked.about(book.ask.subject(obj, old))
    return Admitted(tuple(patch), filled=tuple(filled))


def _agreed(asked: Asked[F], default: Default[F], sources: Sources) -> tuple[PatchOp, ...]:
    """What the providers that know the VM best would fill in, those of them that have anything to;
    nothing where two of them differ."""
    if not default.asks_vsphere:
        return tuple(default.fill(asked.seen(None, {}).facts))
    usable, _ = doubt.believed(asked, sources)
    views = {source.name: source.vms for source in usable}
    seen = [asked.seen(source, views) for source in usable]
    best = max((one.rank for one in seen), default=0)
    answers = {tuple(default.fill(one.facts)) for one in seen if best and one.rank == best} - {()}
    return answers.pop() if len(answers) == 1 else ()


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
