"""`Report`: measured values by their logged names, and what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """Attributes
    ----------
    metrics : name as logged → value, finite
    messages : a sentence for each metric that had nothing to average over
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    messages: tuple[str, ...] = ()

    def __or__(self, other: Report) -> Report:
        return Report({**self.metrics, **other.metrics}, self.messages + other.messages)
