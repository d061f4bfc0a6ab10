"""A case on paper: what was sent, what came back, what to write. No word is ever split."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from rich.text import Text

from webhook.cli.demo.server import DemoAnswer

_STYLES = {"allowed": "bold green", "denied": "bold red", "undecided": "bold yellow"}
_LABEL = 13  # columns
# What a reader copies or looks for stays on one line.
_WHOLE = re.compile(r'"[^"]*"|\(conversion-guard: [^)]*\)')
_NULL = re.compile(r"^( *)(\S+): null$", re.MULTILINE)
_FIELD = re.compile(r"( *)(\S+:) (.+)")


def title(text: str, width: int) -> Iterator[Text]:
    """The head of a card."""
    yield Text("-" * width, "dim")
    yield Text(text, "bold")


def sent(obj: dict[str, Any], width: int) -> Iterator[Text]:
    """What was special of an object."""
    yield from _block("sent", "bold", _yaml(obj, width - _LABEL))


def came_back(answer: DemoAnswer, write: dict[str, Any], width: int) -> Iterator[Text]:
    """An answer, and what to write over the object."""
    room = width - _LABEL
    told = [part for line in answer.text for part in wrapped(line, room)]
    yield from _block(answer.verdict, _STYLES[answer.verdict], told)
    if answer.verdict == "allowed" and answer.patch:
        yield from _block("filled in", "bold green", _yaml(_filled(answer.patch), room))
    if write:
        yield from _block("write", "bold", _yaml(write, room))


def wrapped(line: str, width: int) -> list[str]:
    """A sentence in lines of at most `width`, as long as no word is longer."""
    glued = _WHOLE.sub(lambda match: match[0].replace(" ", "\xa0"), line)
    hanging = "  " if line.startswith("* ") else ""
    parts = textwrap.wrap(
        glued, width, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    )
    return [part.replace("\xa0", " ") for part in parts]


def _block(label: str, style: str, lines: Sequence[str]) -> Iterator[Text]:
    for line in lines:
        yield Text.assemble((f"  {label:<{_LABEL - 2}}", style), line)
        label = ""


def _yaml(obj: dict[str, Any], width: int) -> list[str]:
    """A null is a key that isn't there. A value that doesn't fit beside its key goes below it."""
    text = yaml.safe_dump(obj, sort_keys=False, allow_unicode=True, width=float("inf"))
    lines = []
    for line in _NULL.sub(r"\1# no \2", text).splitlines():
        match = _FIELD.fullmatch(line)
        if match and len(line) > width:
            lines += [f"{match[1]}{match[2]}", f"{match[1]}  {match[3]}"]
        else:
            lines.append(line)
    return lines


def _filled(patch: list[dict[str, Any]]) -> dict[str, Any]:
    """A JSON Patch of keys as what it makes of them."""
    filled: dict[str, Any] = {}
    for op in patch:
        *way, leaf = (part.replace("~1", "/") for part in op["path"].split("/")[1:])
        at = filled
        for part in way:
            at = at.setdefault(part, {})
        at[leaf] = op.get("value")
    return filled
