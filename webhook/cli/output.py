"""An answer for a program."""

import sys

import msgspec


def dump(answer: object, output: str) -> None:
    """As `json`, indented, or `yaml`, on standard output."""
    if output == "json":
        text = msgspec.json.format(msgspec.json.encode(answer))
    else:
        text = msgspec.yaml.encode(answer)
    sys.stdout.buffer.write(text.rstrip() + b"\n")
