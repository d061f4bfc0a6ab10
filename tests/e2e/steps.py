"""Long steps that a person waits for: each tells what it does, and for how long already."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

_TOLD_EVERY = 30.0
"""Seconds between two lines of a step, where they can't be written over one another."""


class Step:
    """One program run to its end; meanwhile, what is done and since when: on a terminal in one
    line, in a pipe now and then."""

    def __init__(self, title: str, doing: str, done: str) -> None:
        self._title, self._doing, self._done = title, doing, done
        self._live = sys.stdout.isatty()
        self._began = time.monotonic()
        self._due = 0.0

    def run(self, argv: Sequence[str], folder: Path, env: Mapping[str, str]) -> str:
        """What it said last if it failed, else nothing."""
        self._tell()
        with tempfile.TemporaryFile("w+") as output:
            try:
                code = self._wait(argv, output, cwd=folder, env=env)
            except KeyboardInterrupt:
                self._end("stopped")
                raise
            self._end("failed" if code else self._done)
            output.seek(0)
            last = " | ".join(output.read().strip().splitlines()[-5:])
            return (last or f"exit code {code}") if code else ""

    def _wait(self, argv: Sequence[str], output: IO[str], **how: Any) -> int:
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **how,
        ) as process:
            try:
                while process.poll() is None:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(1)
                    self._tell()
            except BaseException:  # also Ctrl-C
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.killpg(process.pid, signal.SIGKILL)  # with its compilers
                raise
            return process.returncode

    def _tell(self) -> None:
        seconds = time.monotonic() - self._began
        if self._live:
            self._print(f"{self._doing}; {_clock(seconds)}", end="")
        elif seconds >= self._due:
            self._print(f"{self._doing}; {_clock(seconds)} so far" if self._due else self._doing)
            self._due = seconds + _TOLD_EVERY

    def _end(self, how: str) -> None:
        self._print(f"{how} after {_clock(time.monotonic() - self._began)}")

    def _print(self, text: str, end: str = "\n") -> None:
        over = "\r\x1b[K" if self._live else ""
        print(f"{over}{self._title}: {text}", end=end, flush=True)


def _clock(seconds: float) -> str:
    """As 1:23, minutes and seconds."""
    return "{}:{:02}".format(*divmod(int(seconds), 60))
