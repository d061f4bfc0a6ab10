"""How far a command is, on standard error, where that is a terminal."""

import sys
from types import TracebackType
from typing import Any, Self


class Progress:
    """A row for each thing that is counted; nothing at all where nobody looks."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._bar: Any = None
        self._quiet = quiet
        self._rows: dict[str, Row] = {}

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._quiet:
            # Here, not above: a pipeline needs none of it.
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.SpinnerColumn(),
                progress.TextColumn("{task.completed:.0f} {task.description}"),
                progress.BarColumn(),
                progress.TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def of(self, what: str, total: int | None = None) -> "Row":
        """The row of `what`, such as `VMs of mtv/prod`; a new one at first."""
        if what not in self._rows:
            task = self._bar.add_task(what, total=total) if self._bar else None
            self._rows[what] = Row(self._bar, task)
        return self._rows[what]


class Row:
    """One count."""

    def __init__(self, bar: Any, task: Any) -> None:
        self._bar, self._task = bar, task

    def more(self, count: int = 1) -> None:
        if self._bar is not None:
            self._bar.advance(self._task, count)

    def at(self, count: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=count)
