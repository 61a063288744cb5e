"""What people look at: a model's held-out metrics beside those of the baselines, and the verdict in words.

From metrics by their logged names, those of older runs too: a run of yesterday is shown as the one that just ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from pipeline.evaluation.metric_names import REFERENCES, current_names, holdout_name
from pipeline.models import registry

__all__ = ["ScoreTable", "in_one_line", "lift_in_words", "side_by_side", "verdict_in_words"]

_BASELINES = {
    "": "this model",
    **{algorithm.name: algorithm.display_name for algorithm in registry.baselines()},
    **REFERENCES,
}
_RANKING = ("ndcg_at_10", "recall_at_10", "hit_rate_at_10", "coverage_at_10")
_AVERAGES = {"": "this model", "global": "mean of all", "user": "user's mean", "item": "item's mean"}
_RATINGS = ("rmse", "mae")
_NOTE = (
    "(a model that counts empty cells as 0 predicts too low: its scores order items and are no ratings; "
    "--unobserved-weight 0 fits ratings)"
)


class ScoreTable(NamedTuple):
    """A small table: its columns' titles, rows of as many texts, and a sentence below it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def side_by_side(metrics: Mapping[str, float]) -> list[ScoreTable]:
    """The ranking beside its baselines, and the ratings beside averages, as far as they were measured."""
    metrics = current_names(metrics)
    ratings = _table(metrics, _RATINGS, _AVERAGES)
    if metrics.get("holdout/rmse", 0.0) > metrics.get(holdout_name("rmse", baseline="global"), math.inf):
        ratings = ratings._replace(note=_NOTE)
    tables = (_table(metrics, _RANKING, _BASELINES), ratings)
    return [table for table in tables if table.rows]


def verdict_in_words(metrics: Mapping[str, float], better: str | None = None) -> str | None:
    """``better than most popular: yes, +32 % [20, 45]``; None where nothing was compared.

    better : yes, no or unclear, where that is known; by default as the lift's interval has it
    """
    metrics = current_names(metrics)
    lift = metrics.get("lift_over_popular")
    if lift is None:
        # No lift over what finds nothing.
        return None if better is None else f"better than most popular: {better}; that one finds nothing at all"
    low, high = _ends(metrics)
    better = better or ("yes" if low > 0 else "no" if high <= 0 else "unclear")
    return f"better than most popular: {better}, {lift_in_words(lift, low, high)}"


def lift_in_words(lift: float, low: float, high: float) -> str:
    """``+32 % [20, 45]``, of shares."""
    ends = [100 * end for end in (low, high)]
    digits = 0 if max(abs(100 * lift), *(abs(end) for end in ends if math.isfinite(end)), 0) >= 10 else 1
    shown = ", ".join(f"{end:.{digits}f}" if math.isfinite(end) else "∞" for end in ends)
    return f"{100 * lift:+.{digits}f} % [{shown}]"


def in_one_line(metrics: Mapping[str, float]) -> str:
    """``NDCG@10 0.121, +44 % [30, 60] over most popular, item-kNN 0.113``, or "not evaluated"."""
    metrics = current_names(metrics)
    if (ndcg := metrics.get("ndcg_at_10")) is None:
        return "not evaluated"
    parts = [f"NDCG@10 {ndcg:.3f}"]
    if (lift := metrics.get("lift_over_popular")) is not None:
        parts.append(f"{lift_in_words(lift, *_ends(metrics))} over most popular")
    if (knn := metrics.get("baseline/item-knn/ndcg_at_10")) is not None:
        parts.append(f"item-kNN {knn:.3f}")
    return ", ".join(parts)


def _ends(metrics: Mapping[str, float]) -> tuple[float, float]:
    """Of the lift's interval."""
    low, high = (metrics.get(f"interval/lift_over_popular_{end}") for end in ("low", "high"))
    return (-math.inf if low is None else low, math.inf if high is None else high)


def _table(metrics: Mapping[str, float], names: tuple[str, ...], candidates: Mapping[str, str]) -> ScoreTable:
    """A row for each name that this model has, a column for each candidate that has one of them."""
    measured = [name for name in names if holdout_name(name) in metrics]
    shown = {
        key: title
        for key, title in candidates.items()
        if any(holdout_name(name, baseline=key) in metrics for name in measured)
    }
    rows = [(holdout_name(name), *(_cell(metrics, name, key) for key in shown)) for name in measured]
    return ScoreTable(("metric", *shown.values()), tuple(rows))


def _cell(metrics: Mapping[str, float], name: str, baseline: str) -> str:
    value = metrics.get(holdout_name(name, baseline=baseline))
    if value is None:
        return ""
    low, high = (metrics.get(f"interval/{name}_{end}") for end in ("low", "high"))
    if baseline or low is None or high is None:
        return f"{value:.4f}"
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"
