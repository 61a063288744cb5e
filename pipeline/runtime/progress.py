"""What a job reports while it runs: messages, and the progress of its stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Progress", "Reporter", "silent"]


class Progress(Protocol):
    """Receives the progress of a stage; `total` is None where it is unknown."""

    def __call__(self, stage: str, done: int, total: int | None, note: str = "") -> None:
        """Report progress. Callers may call it often; the implementation decides how often to draw."""


def silent(stage: str, done: int, total: int | None, note: str = "") -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Reporter:
    """Receives messages (`say`) and the progress of stages (`progress`)."""

    say: Callable[[str], None]
    progress: Progress
