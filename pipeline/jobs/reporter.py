"""How a job speaks while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.report import Progress

__all__ = ["Reporter"]


@dataclass(frozen=True)
class Reporter:
    """Sentences, and how far a stage is."""

    say: Callable[[str], None]
    progress: Progress
