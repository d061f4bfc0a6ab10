"""The heads of requests that have been read before: who calls again and again sends the same ones.

A parser calls back for every header. What has been made of a head once holds for the next one that
is the same byte for byte, and only then. What depends on the time, such as whether a path proves
its caller, is never kept.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

_END = b"\r\n\r\n"
_MOST = 256  # heads of one client differ in the length of the body
_LARGEST = 2048  # bytes of one
_HEADERS = 32


class Head(NamedTuple):
    """What there is before a body, whose connection is to be kept."""

    call: Any
    """As webhook.server.answers.Prompt has it."""
    length: int
    """Bytes of the body, as content-length says."""


class Heads:
    """Of all connections of a server."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def find(self, data: bytes) -> tuple[Any, bytes] | None:
        """What a whole request's head says, and its body; None where the parser must look at it."""
        size = data.find(_END) + len(_END)
        key = data[:size]
        head = self._known.get(key)
        if head is None or len(data) - size != head.length:
            return None
        self._known[key] = self._known.pop(key)  # the last that is forgotten
        return head.call, data[size:]

    def keep(
        self, data: bytes, call: Any, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> None:
        """What was made of `data`, if that is one request, whole and nothing besides, with its
        body's length in plain sight. Names of `headers` are in lower case."""
        size = data.find(_END) + len(_END)
        lengths = [value for name, value in headers if name == b"content-length"]
        framed = any(name == b"transfer-encoding" for name, _ in headers)
        if framed or lengths != [b"%d" % len(body)] or data[size:] != body or not data:
            return
        if size > _LARGEST or len(headers) > _HEADERS:
            return
        if len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        self._known[data[:size]] = Head(call, len(body))
