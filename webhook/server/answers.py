"""What is sent back, and who can send it without the detours of ASGI."""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

Headers = Sequence[tuple[bytes, bytes]]
CLOSE = (b"connection", b"close")


class Answer(NamedTuple):
    """A whole one."""

    code: int
    body: bytes
    """JSON."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Beside those of the body."""


class Prompt(Protocol):
    """Answers whole requests: no task, no messages, unless something has to be waited for."""

    def call(self, path: bytes, query: bytes, headers: Headers) -> Any:
        """What a head says; None where it is ASGI's. What depends on the time is no part of it."""
        ...

    def prompt(
        self, call: Any, state: Mapping[str, Any], body: bytes
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """The answer to a POST, or what is to be awaited for it. Raises nothing."""
        ...

    def lost(self, call: Any) -> None:
        """Whoever called here has gone without the answer."""
        ...

    def crowded(self) -> None:
        """There are more connections than can be: calls may fail, and nobody knows whose."""
        ...


class Refused(Exception):
    """A request that holds no review: an HTTP error, with a Status as Kubernetes writes them."""

    def __init__(self, code: int, reason: str, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.code = code
        self.headers = headers
        status = {
            "apiVersion": "v1",
            "kind": "Status",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": f"conversion-guard: {message}",
        }
        self.body = msgspec.json.encode(status)
