"""`conversion-guard readiness`: what stands between Plans and their Migrations, VM by VM."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Literal

import msgspec

from webhook.cli import remote
from webhook.cli.known import Where, settings_of, standing
from webhook.cli.output import dump, table
from webhook.cli.remote import RemoteGuard
from webhook.engine.readiness import Piece, Readiness, VmReadiness, readiness
from webhook.engine.results import Found
from webhook.errors import (
    ClusterUnreachable,
    PlanUnknown,
    ServerUnreachable,
    SettingsInvalid,
    VsphereUnreachable,
)
from webhook.model.keys import quoted
from webhook.model.objects import User

_PILES = "matched", "missing", "wrong", "surplus", "unbound", "copying"
_HEADS = "plan", "vm", "state", *_PILES
_STYLES = {"ready": "green", "not-ready": "red", "undecided": "yellow"}
_PASSING = ClusterUnreachable, ServerUnreachable, VsphereUnreachable

Output = Literal["table", "json", "yaml"]
Name = tuple[str, str]
"""Namespace and name."""


class Selection(msgspec.Struct, frozen=True):
    """Which Plans, and for how long."""

    plans: tuple[Name, ...] = ()
    """Empty: all."""
    namespace: str = ""
    """Of all: only this one's."""
    watch: bool = False
    wait: bool = False
    timeout: float = 0.0
    """Seconds to wait; 0 for ever."""
    interval: float = 10.0
    """Seconds between two looks."""


class ReadinessShown(msgspec.Struct, frozen=True):
    """What is told to a program."""

    plans: tuple[Readiness, ...]

    @property
    def ready(self) -> bool:
        return all(plan.ready for plan in self.plans)


def selection(names: Sequence[str], namespace: str, *, everywhere: bool, **how: Any) -> Selection:
    """What the arguments ask for: NAME, or NAMESPACE/NAME. Raises SettingsInvalid."""
    if everywhere and (names or namespace):
        raise SettingsInvalid("--all-namespaces shows every Plan: leave out PLAN and --namespace")
    if not (everywhere or names or namespace):
        raise SettingsInvalid("which Plans? Write NAMESPACE/NAME, --namespace NAME or -A for all")
    if how["timeout"] and not (how["wait"] or how["watch"]):
        raise SettingsInvalid("--timeout is for --wait and --watch: add one of them")
    plans = []
    for name in names:
        place, slash, rest = name.rpartition("/")
        place = place if slash else namespace
        if not place or not rest or "/" in place:
            raise SettingsInvalid(
                f"PLAN {quoted(name)}: write NAMESPACE/NAME, or give --namespace NAMESPACE"
            )
        plans.append((place, rest))
    return Selection(tuple(dict.fromkeys(plans)), namespace, **how)


def main(chosen: Selection, where: Where, server: RemoteGuard | None, output: Output) -> int:
    """The exit code: 1 unless all of them are ready. Raises GuardError."""
    ask = _asker(chosen, where, server)
    if not (chosen.watch or chosen.wait):
        told = ask()
    elif chosen.watch:
        with suppress(KeyboardInterrupt), _showing(output) as show:
            for told in _rounds(chosen, ask):
                show(told)
        return 0 if told.ready else 1
    else:
        *_, told = _rounds(chosen, ask)
    _write(told, output)
    return 0 if told.ready else 1


def _asker(
    chosen: Selection, where: Where, server: RemoteGuard | None
) -> Callable[[], ReadinessShown]:
    if server is not None:
        return lambda: _checked(chosen, _remote(chosen, server))
    quiet = chosen.watch or chosen.wait
    return lambda: _checked(chosen, asyncio.run(_local(chosen, where, quiet=quiet)))


def _checked(chosen: Selection, plans: Sequence[Readiness]) -> ReadinessShown:
    if not plans:
        place = f"in namespace {chosen.namespace}" if chosen.namespace else "in the cluster"
        raise PlanUnknown(f"there is no conversion Plan {place} that may be seen")
    return ReadinessShown(
        tuple(sorted(plans, key=lambda plan: (plan.wave, plan.namespace, plan.name)))
    )


def _remote(chosen: Selection, server: RemoteGuard) -> list[Readiness]:
    names = chosen.plans or tuple(
        (one.namespace, one.name)
        for one in remote.plans(server)
        if chosen.namespace in ("", one.namespace)
    )
    return [remote.readiness(server, *name) for name in names]


async def _local(chosen: Selection, where: Where, *, quiet: bool) -> list[Readiness]:
    places = {place for place, _ in chosen.plans} or {chosen.namespace} - {""}
    settings = settings_of(where.settings)
    async with standing(where, settings, places, some=True, quiet=quiet) as (sources, there):
        known = {}
        for plan in there.plans:
            meta = plan["metadata"]
            known[str(meta.get("namespace")), str(meta.get("name"))] = plan
        names = chosen.plans or [name for name in known if chosen.namespace in ("", name[0])]
        told = []
        for place, name in names:
            # One of another type, or archived, is none of those that are listed.
            found = known.get((place, name)) or await there.plan(place, name)
            if found is None:
                raise PlanUnknown(f"there is no Plan {place}/{name}")
            told.append(await readiness(place, name, found, sources, User()))
        return told


def _rounds(chosen: Selection, ask: Callable[[], ReadinessShown]) -> Iterator[ReadinessShown]:
    """What is so now, and again and again, until it is what is waited for, or too late.

    Who can't be reached for a moment is asked again; raises GuardError where that lasts.
    """
    until = time.monotonic() + chosen.timeout if chosen.timeout else float("inf")
    told = None
    while True:
        failed = None
        try:
            told = ask()
        except _PASSING as error:
            if told is None:
                raise
            failed = error
        else:
            yield told
        if chosen.wait and failed is None and told.ready:
            return
        left = until - time.monotonic()
        if left <= 0:
            if failed is not None:
                raise failed
            return
        time.sleep(min(chosen.interval, left))


class _showing:  # noqa: N801  it is used as a function is
    """What is shown while it is watched: one table that changes, on a terminal; else what has
    changed, whole."""

    def __init__(self, output: Output) -> None:
        self._output, self._last = output, ReadinessShown(())
        self._live: Any = None

    def __enter__(self) -> Callable[[ReadinessShown], None]:
        if self._output == "table" and sys.stdout.isatty():
            # Here, not above: nobody else needs it.
            from rich.live import Live

            self._live = Live(auto_refresh=False, vertical_overflow="visible")
            self._live.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def _show(self, told: ReadinessShown) -> None:
        if self._live is not None:
            from rich.text import Text

            text = Text()
            for line in lines(told):
                words = line.split()
                text.append(f"{line}\n", next((_STYLES[w] for w in words if w in _STYLES), ""))
            text.append(f"as of {time.strftime('%H:%M:%S')}; Ctrl-C ends it", "dim")
            self._live.update(text, refresh=True)
        elif told != self._last:
            if self._output == "json":  # a line each, as `jq` and the like take them
                sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
            else:
                sys.stdout.write("---\n" if self._output == "yaml" else "")
                sys.stdout.flush()
                _write(told, self._output)
            sys.stdout.flush()
        self._last = told


def _write(told: ReadinessShown, output: Output) -> None:
    if output == "table":
        sys.stdout.write("".join(f"{line}\n" for line in lines(told)))
    else:
        dump(told, output)


def lines(told: ReadinessShown) -> Iterator[str]:
    """A table with a row for each VM, then what stands in the way of each, then how many."""
    rows = [row for plan in told.plans for row in _rows(plan)]
    yield from table(_HEADS, rows)
    for plan in told.plans:
        title = f"{plan.namespace}/{plan.name}"
        if plan.message:
            yield f"{title}: {plan.state}: {plan.message}"
        if plan.findings:
            yield f"{title}:"
            yield from map(_finding, plan.findings)
        for vm in plan.vms:
            if said := [*map(_finding, vm.findings), *_open(vm)]:
                yield f"{title} {_vm(vm)}:"
                yield from said
    states = Counter(plan.state for plan in told.plans)
    vms = Counter("ready" if vm.ready else "not-ready" for plan in told.plans for vm in plan.vms)
    yield f"{_count('Plan', states)}; {_count('VM', vms)}"


def _rows(plan: Readiness) -> Iterator[Sequence[object]]:
    title = f"{plan.namespace}/{plan.name}"
    if not plan.vms:
        yield title, "", plan.state, *("" for _ in _PILES)
    for vm in plan.vms:
        state = "done" if vm.done else "ready" if vm.ready else "not-ready"
        yield title, _vm(vm), state, *(len(_pile(vm, name)) for name in _PILES)


def _vm(vm: VmReadiness) -> str:
    return f"{vm.name} ({vm.id})" if vm.name and vm.id else vm.name or vm.id


def _pile(vm: VmReadiness, name: str) -> tuple[Piece, ...]:
    pile: tuple[Piece, ...] = getattr(vm, name)
    return pile


def _open(vm: VmReadiness) -> Iterator[str]:
    """Each disk and PVC that isn't in its place, as far as it may be told."""
    for name in _PILES[1:]:
        for piece in _pile(vm, name):
            if known := [quoted(part) for part in (piece.pvc, piece.disk_source) if part]:
                yield f"  {name}: {' '.join(known)}"


def _finding(found: Found) -> str:
    return f"  {found.action}: {found.field}: {found.message} ({found.rule})"


def _count(what: str, states: "Counter[Any]") -> str:
    total = states.total()
    each = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return f"{total} {what}{'' if total == 1 else 's'}" + (f": {each}" if each else "")
