"""Drift: `Measure`, a value beside its limit, and `judged`, which says which measures are past theirs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline.monitoring.drift_statistics import Interval
from pipeline.options import DriftLimits

__all__ = ["MEANINGS", "Measure", "judged"]

# Every measure, and what it is in words; docs/monitoring.md has the formulas. {k} is a list's length.
MEANINGS: Mapping[str, str] = {
    "psi_popularity": "popularity of what users turn to (PSI)",
    "psi_scores": "published scores against the set before (PSI)",
    "unknown_users": "new interactions of users whom the champion does not know",
    "unknown_items": "new interactions with items that it does not know",
    "fallback_share": "published rows that are merely popular",
    "item_coverage": "the champion's items that are in a list",
    "user_coverage": "active users who had a list",
    "hit_rate": "hit rate of the lists shown",
    "popular_hit_rate": "hit rate of most popular",
    "ndcg": "NDCG of the lists shown",
    "popular_ndcg": "NDCG of most popular",
    "ndcg_over_popular": "NDCG, lists minus most popular",
    "table_age_hours": "age of the published table",
    "data_age_hours": "age of the newest interaction",
    "model_lag_hours": "how much newer it is than the champion's newest",
    "log_age_hours": "age of the oldest interaction in the log",
}

Bound = Literal["at most", "at least"]


@dataclass(frozen=True)
class Measure:
    """Attributes
    ----------
    name : one of `MEANINGS`
    value : None where it could not be measured, which `note` explains
    low, high : ends of its 95 % interval, where it has one
    n : of how many interactions, rows or lists it was made
    limit, bound : what it may be; None without a limit
    past : whether it is past the limit
    note : why it was not measured or judged, "" where it was
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    limit: float | None = None
    bound: Bound = "at most"
    past: bool = False
    note: str = ""

    @classmethod
    def missing(cls, name: str, why: str) -> Measure:
        """One that could not be measured."""
        return cls(name, None, note=why)

    @classmethod
    def of(cls, name: str, interval: Interval, n: int) -> Measure:
        """One with an interval."""
        return cls(name, interval.value, interval.low, interval.high, n)

    @property
    def state(self) -> Literal["past", "ok", "not judged", "no limit", "not measured"]:
        """In a word or two."""
        if self.value is None:
            return "not measured"
        if self.past:
            return "past"
        return "no limit" if self.limit is None else "not judged" if self.note else "ok"

    @property
    def sentence(self) -> str:
        """What is past its limit, for people."""
        shown = f"{self.value:.4g}" if self.value is not None else "unknown"
        interval = "" if self.low is None or self.high is None else f" (95 %: {self.low:.4g} to {self.high:.4g})"
        return f"{MEANINGS[self.name]}: {self.name} is {shown}{interval}, limit: {self.bound} {self.limit:g}"

    @property
    def facts(self) -> dict[str, float | int]:
        """The numbers of an alert."""
        values = {"value": self.value, "low": self.low, "high": self.high, "limit": self.limit, "n": self.n}
        return {name: _rounded(value) for name, value in values.items() if value is not None}

    @property
    def as_json(self) -> dict[str, Any]:
        """What is known of it, without what is not."""
        values: dict[str, Any] = {"value": self.value, "low": self.low, "high": self.high, "n": self.n}
        values |= {"limit": self.limit, "bound": self.bound if self.limit is not None else None, "note": self.note}
        kept = {name: _rounded(value) if isinstance(value, float) else value for name, value in values.items()}
        return {"name": self.name, "state": self.state, **{n: v for n, v in kept.items() if v is not None and v != ""}}


def _rounded(value: float | int) -> float | int:
    return value if isinstance(value, int) else float(f"{value:.6g}")


_LIMITS: Mapping[str, tuple[str, Bound]] = {
    "psi_popularity": ("max_psi", "at most"),
    "psi_scores": ("max_score_psi", "at most"),
    "unknown_users": ("max_unknown_users", "at most"),
    "unknown_items": ("max_unknown_items", "at most"),
    "fallback_share": ("max_fallback_share", "at most"),
    "item_coverage": ("min_item_coverage", "at least"),
    "user_coverage": ("min_user_coverage", "at least"),
    "table_age_hours": ("max_table_age_hours", "at most"),
    "data_age_hours": ("max_data_age_hours", "at most"),
    "model_lag_hours": ("max_model_lag_hours", "at most"),
    "log_age_hours": ("max_log_age_hours", "at most"),
}
# Judged only of so many: of fewer, a value past the limit is chance.
_LEAST = {
    "psi_popularity": "least_interactions",
    "psi_scores": "least_interactions",
    "unknown_users": "least_interactions",
    "unknown_items": "least_interactions",
    "user_coverage": "least_users",
    "ndcg_over_popular": "least_users",
}


def judged(measures: Iterable[Measure], limits: DriftLimits, n_users: int) -> list[Measure]:
    """The measures in the order of `MEANINGS`, each with its limit, and whether it is past it.

    n_users : of how many users outcomes were measured
    """
    by_name = {measure.name: measure for measure in measures}
    return [_judged(by_name[name], limits, n_users) for name in MEANINGS if name in by_name]


def _judged(measure: Measure, limits: DriftLimits, n_users: int) -> Measure:
    name, value = measure.name, measure.value
    if name == "ndcg_over_popular":
        limit: float | None = 0.0 if limits.worse_than_popular == "no" else None
        bound: Bound = "at least"
        value = measure.high  # past it where even the high end is
    elif name in _LIMITS:
        field, bound = _LIMITS[name]
        limit = getattr(limits, field)
    else:
        return measure
    measure = replace(measure, limit=limit, bound=bound)
    if limit is None or value is None or not math.isfinite(value):
        return measure
    if field_of_least := _LEAST.get(name):
        least = getattr(limits, field_of_least)
        n = n_users if field_of_least == "least_users" else measure.n or 0
        if n < least:
            what = "users" if field_of_least == "least_users" else "rows" if name == "psi_scores" else "interactions"
            return replace(measure, note=f"{n:,} {what}, and it is judged from {least:,} on")
    return replace(measure, past=value > limit if bound == "at most" else value < limit)
