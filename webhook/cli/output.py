"""An answer for a program."""

import sys

import msgspec


def dump(answer: object, output: str) -> None:
    """As `json` or `yaml`, on standard output."""
    codec = msgspec.json if output == "json" else msgspec.yaml
    sys.stdout.buffer.write(codec.encode(answer).rstrip() + b"\n")
