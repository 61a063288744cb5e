"""What is told: `Report`, measured values by their logged names; `Progress`, how far the work is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Progress", "Report", "silent"]


@dataclass(frozen=True)
class Report:
    """Attributes
    ----------
    metrics : name as logged → value, finite
    messages : a sentence for each metric that was left out, and for what else a person should know
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    messages: tuple[str, ...] = ()

    def __or__(self, other: Report) -> Report:
        return Report({**self.metrics, **other.metrics}, self.messages + other.messages)


class Progress(Protocol):
    """Told how far a stage is; `total` is None where it can't be known."""

    def __call__(self, stage: str, done: int, total: int | None, note: str = "") -> None:
        """Called as often as the work likes; whoever draws decides how often to draw."""


def silent(stage: str, done: int, total: int | None, note: str = "") -> None:
    """No progress shown."""
