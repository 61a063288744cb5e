"""What was measured of drift last, as the agent has it from the champion's run: for health, metrics and the page.

The run's tag may be written by anybody who may write to MLflow, so it is read like any outside input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.errors import RanklineError
from pipeline.monitoring.drift import MEANINGS
from pipeline.serving.live_folder import LiveFolder, read_json

__all__ = ["DriftReport", "DriftRow", "drift_report", "parse_report"]

_LONGEST = 300


@dataclass(frozen=True)
class DriftRow:
    """A measure. `value`, `low`, `high` and `limit` are None where there is none; `bound`: at most, or at least."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    limit: float | None
    bound: str
    past: bool
    note: str

    @property
    def what(self) -> str:
        """In words."""
        return MEANINGS[self.name]


@dataclass(frozen=True)
class DriftReport:
    """`champion`: its label; `at`: when it was measured."""

    champion: str
    at: datetime
    rows: tuple[DriftRow, ...]

    @property
    def past(self) -> list[DriftRow]:
        """What is past its limit."""
        return [row for row in self.rows if row.past]

    @property
    def statistics(self) -> dict[str, float]:
        """For ``rankline_drift``, by the label `statistic`."""
        values = {row.name: row.value for row in self.rows if row.value is not None}
        for row in self.rows:
            ends = {f"{row.name}_low": row.low, f"{row.name}_high": row.high}
            values |= {name: end for name, end in ends.items() if end is not None}
        return {**values, "measured_age_hours": self.age_hours}

    @property
    def age_hours(self) -> float:
        """How long ago it was measured."""
        return max(0.0, (datetime.now(UTC) - self.at).total_seconds() / 3600)


def drift_report(folder: LiveFolder) -> DriftReport | None:
    """What the agent has read last; None where nothing was measured yet."""
    try:
        return parse_report(read_json(folder.drift_snapshot))
    except (OSError, RanklineError):
        return None


def parse_report(value: Any) -> DriftReport | None:
    """The report of a parsed tag; None where it is none. Measures that are not known here are left out."""
    try:
        at = datetime.fromisoformat(value["at"])
        rows = [_row(one) for one in value["measures"][:100] if one["name"] in MEANINGS]
        label = str(value["champion"])[:_LONGEST]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return DriftReport(label, at.replace(tzinfo=UTC) if at.tzinfo is None else at, tuple(rows))


def _row(one: Mapping[str, Any]) -> DriftRow:
    value = _number(one, "value")
    return DriftRow(
        str(one["name"]),
        value,
        _number(one, "low"),
        _number(one, "high"),
        _number(one, "limit"),
        "at least" if one.get("bound") == "at least" else "at most",
        value is not None and one.get("state") == "past",
        str(one.get("note", ""))[:_LONGEST],
    )


def _number(one: Mapping[str, Any], name: str) -> float | None:
    value = one.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None
