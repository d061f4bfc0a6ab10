"""`conversion-guard demo`: what somebody gets wrong, and how a real server answers.

It is asked over HTTPS, as an API server asks, of a small made-up vCenter. Two servers run: one that
knows nothing of its caller, and one that knows him as somebody who may get the Provider.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from webhook import tls
from webhook.cli.demo import card
from webhook.cli.demo.server import DemoAnswer, DemoServer, Verdict, started

_CASES = Path(__file__).with_name("cases.yaml")
_WIDEST = 100  # columns; longer lines are hard to read
_HEAD = (
    "This starts a real conversion-guard server, which knows a small made-up vCenter. Each card"
    " shows what somebody sent with kubectl, what came back, and what to write instead."
)
_TRUSTED = "A caller who may get the Provider is answered:"
_ABOUT_TRUST = (
    "As shipped, the guard knows the API server by a path, and so whoever may get the Provider is"
    " told what it knows. To anybody else it tells only what the object itself proves."
)


class _Expected(msgspec.Struct, forbid_unknown_fields=True):
    verdict: Verdict
    fills: list[str] = []
    rules: list[str] = []
    warns: list[str] = []
    write: dict[str, Any] = {}


class _Case(msgspec.Struct, forbid_unknown_fields=True):
    title: str
    object: dict[str, Any]
    expect: _Expected
    trusted: _Expected | None = None
    telling: bool = False


class _Cases(msgspec.Struct, forbid_unknown_fields=True):
    base: dict[str, dict[str, Any]]
    cases: list[_Case]


def main(*, everything: bool) -> int:
    """Print the telling cases, or all; 1 if an answer isn't the expected one. Raises GuardError."""
    console = Console(highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto")
    width = min(console.width, _WIDEST)
    known = msgspec.yaml.decode(_CASES.read_bytes(), type=_Cases)
    shown = [case for case in known.cases if everything or case.telling]

    def tell(*lines: str | Text) -> None:
        for line in lines:
            console.print(line, soft_wrap=True, markup=False)

    tell(*card.wrapped(_HEAD, width), "")
    surprises = 0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        tls.write(tls.issue(["localhost", "127.0.0.1"], datetime.now(UTC)), Path(folder))
        # Both start at the same time.
        shipped = stack.enter_context(started(Path(folder), trusted=False))
        trusting = stack.enter_context(started(Path(folder), trusted=True))
        for number, case in enumerate(shown, 1):
            obj = merged(known.base[case.object["kind"]], case.object)
            tell(*card.title(f"{number}. {case.title}", width), *card.sent(case.object, width))
            answer, wrong = _asked(shipped, obj, case.expect)
            tell(*card.came_back(answer, case.expect.write, width))
            besides, wrong_besides = _asked(trusting, obj, case.trusted or case.expect)
            if (besides.text, besides.patch) != (answer.text, answer.patch):
                write = case.trusted.write if case.trusted else {}
                tell("", Text(f"  {_TRUSTED}", "bold"), *card.came_back(besides, write, width))
            wrong += [f"to a caller who may get the Provider: {what}" for what in wrong_besides]
            tell(*(Text(f"NOT AS EXPECTED: {what}", "bold red") for what in wrong), "")
            surprises += bool(wrong)
    tell(Text("-" * width, "dim"), *card.wrapped(_ABOUT_TRUST, width), "")
    more = len(known.cases) - len(shown)
    rest = f"; {more} more: conversion-guard demo --all (make demo ARGS=--all)" if more else ""
    tell(f"{len(shown) - surprises} of {len(shown)} as expected{rest}")
    return 1 if surprises else 0


def _asked(
    server: DemoServer, obj: dict[str, Any], expected: _Expected
) -> tuple[DemoAnswer, list[str]]:
    """The answer, and where it isn't as expected. What is to be written is tried."""
    answer = server.ask(obj)
    wrong = []
    for what, there, wanted in (
        ("verdict", answer.verdict, expected.verdict),
        ("filled in", [op["path"] for op in answer.patch], expected.fills),
        ("refused by", answer.rules, expected.rules),
        ("warned by", answer.warns, expected.warns),
    ):
        if there != wanted:
            wrong.append(f"{what}: {there}, not {wanted}")
    text = "\n".join(answer.text)
    wrong += [
        f'the answer does not name "{value}"'
        for value in leaves(expected.write)
        if value not in text
    ]
    if expected.write:
        again = server.ask(merged(obj, expected.write))
        if again.verdict != "allowed":
            wrong.append(f"{again.verdict} with what is to be written: {' '.join(again.text)}")
    return answer, wrong


def leaves(value: object) -> Iterator[str]:
    """Every value at the end of a mapping or a list."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    else:
        yield str(value)


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with `over` merged into it; null takes a key away (RFC 7386)."""
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result
