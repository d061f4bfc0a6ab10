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

    def door(self, path: bytes) -> Any:
        """Where a path leads. Whatever else comes is ASGI's: None."""
        ...

    def prompt(
        self, door: Any, query: bytes, headers: Headers, state: Mapping[str, Any], body: bytes
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """The answer to a POST, or what is to be awaited for it. Raises nothing."""
        ...

    def lost(self, door: Any) -> None:
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
