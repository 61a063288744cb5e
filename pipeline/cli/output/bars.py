"""A progress bar on a terminal. It shows the current stage of a job and disappears at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.cli.output.escape import printable
from pipeline.runtime.progress import Reporter

__all__ = ["terminal_reporter"]

_SECONDS = 0.05  # between two updates, since a fast solver reports thousands of times a second


@contextmanager
def terminal_reporter() -> Iterator[Reporter]:
    """A reporter that prints messages and a bar on stderr. The bar appears when the first stage begins."""
    bar = _Bar()
    try:
        yield Reporter(bar.say, bar.progress)
    finally:
        bar.stop()


class _Bar:
    """The bar of the current stage."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,  # results go to stdout unchanged, whatever stderr shows
        )
        self._stage = ""
        self._task: Any = None
        self._drawn = 0.0

    def say(self, text: str) -> None:
        """Print a message above the bar."""
        self._bars.console.print(printable(text), highlight=False, markup=False, emoji=False, soft_wrap=True)

    def progress(self, stage: str, done: int, total: int | None, note: str = "") -> None:
        """Update the bar of the stage; a new stage replaces the bar of the one before."""
        if stage != self._stage:
            if self._task is None:
                self._bars.start()
            else:
                self._bars.remove_task(self._task)
            self._stage, self._drawn = stage, 0.0
            self._task = self._bars.add_task(stage, total=total, note=note)
        now = time.monotonic()
        if now - self._drawn > _SECONDS or done == total:
            self._drawn = now
            self._bars.update(self._task, completed=done, total=total, note=note)

    def stop(self) -> None:
        """Remove the bar."""
        self._bars.stop()
