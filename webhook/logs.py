"""Logs: for a person on a console, or JSON for a collector."""

import json
import logging
import math
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal, TextIO

LogFormat = Literal["console", "json"]
_PLAIN = re.compile(r"[\w.,:/@+-]*", re.ASCII)
_LONGEST = 300


def log_line(logger: logging.Logger, message: str, **fields: str | float) -> None:
    """One line of level INFO with fields, which must hold no object and no secret."""
    logger.info(message, extra={"fields": fields})


REPEAT_SECONDS = 600.0
"""After which what goes on is told again: who looks at a log at night sees its last hour."""


class Repeated:
    """Whether a line is to be told: when it differs from the last one, and again every ten minutes.
    `now` is a clock in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._line, self._told_at = "", -math.inf

    def due(self, line: str) -> bool:
        """Whether to tell `line` now; it counts as told then."""
        now = self._now()
        if line == self._line and now - self._told_at < REPEAT_SECONDS:
            return False
        self._line, self._told_at = line, now
        return True

    def over(self) -> None:
        """It has ended: what comes next is new."""
        self._line = ""


def log_to(
    stream: TextIO = sys.stderr, level: str = "info", log_format: LogFormat = "console"
) -> None:
    """One line an event, with time, level and logger."""
    handler = _Handler(stream)
    handler.setFormatter(_Json() if log_format == "json" else _Console())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """A line that can't be made or written is told of by its place alone: the traceback that
        logging itself would print here may hold anything. Where that can't be written either,
        nobody is left to be told."""
        error = type(sys.exc_info()[1]).__name__
        with suppress(OSError, ValueError):
            self.stream.write(f"a line of {record.name} at {record.lineno} was lost: {error}\n")


class _Console(logging.Formatter):
    default_msec_format = "%s.%03d"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's own name
        fields = (f"{name}={_readable(value)}" for name, value in _fields(record).items())
        return " ".join((super().formatMessage(record), *fields))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str | float] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: _short(value) for name, value in _fields(record).items()},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _fields(record: logging.LogRecord) -> Mapping[str, str | float]:
    fields: Mapping[str, str | float] = getattr(record, "fields", {})
    return fields


def _short(value: str | float) -> str | float:
    return value[:_LONGEST] if isinstance(value, str) else value


def _readable(value: str | float) -> str:
    """In quotes where it could be taken for another field, or for another line."""
    text = str(_short(value))
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
