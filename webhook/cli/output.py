"""An answer for a program, and a table for a person."""

import sys
from collections.abc import Iterator, Sequence

import msgspec

from webhook.model.keys import quoted


def dump(answer: object, output: str) -> None:
    """As `json`, indented, or `yaml`, on standard output."""
    if output == "json":
        text = msgspec.json.format(msgspec.json.encode(answer))
    else:
        text = msgspec.yaml.encode(answer)
    sys.stdout.buffer.write(text.rstrip() + b"\n")


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Lines, with columns as wide as they must be: for a person and for `cut` alike."""
    texts = [heads, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def printable(value: object) -> str:
    """A cell's text. Somebody may paste it: what can't be seen is escaped, in quotes."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text if text.isprintable() else quoted(text)
