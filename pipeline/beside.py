"""What people look at: a model's held-out metrics beside those of the baselines, and the verdict in words.

From metrics by their logged names, so that a run of yesterday is shown as the one that just ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Beside", "side_by_side", "verdict_in_words"]

_BASELINES = {"": "this model", "popular_": "most popular", "recent_": "recently popular", "item_knn_": "item-kNN"}
_RANKING = ("ndcg_at_10", "recall_at_10", "hit_rate_at_10", "coverage_at_10")
_AVERAGES = {"": "this model", "global_": "mean of all", "user_": "user's mean", "item_": "item's mean"}
_RATINGS = ("rmse", "mae")
_NOTE = (
    "(a model that counts empty cells as 0 predicts low by design: its scores order items, they estimate no stars; "
    "--unobserved-weight 0 does)"
)


class Beside(NamedTuple):
    """A small table: its columns' titles, rows of as many texts, and a sentence below it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def side_by_side(metrics: Mapping[str, float]) -> list[Beside]:
    """The ranking beside its baselines, and the ratings beside averages, as far as they were measured."""
    ratings = _table(metrics, _RATINGS, _AVERAGES)
    if metrics.get("holdout_rmse", 0.0) > metrics.get("holdout_global_rmse", math.inf):
        ratings = ratings._replace(note=_NOTE)
    tables = (_table(metrics, _RANKING, _BASELINES), ratings)
    return [table for table in tables if table.rows]


def verdict_in_words(metrics: Mapping[str, float], better: str | None = None) -> str | None:
    """``better than most popular: yes, +32 % [20, 45]``; None where nothing was compared.

    better : yes, no or unclear, where that is known; by default as the lift's interval has it
    """
    lift = metrics.get("lift_over_popular")
    if lift is None:
        # No lift over what finds nothing.
        return None if better is None else f"better than most popular: {better}; that one finds nothing at all"
    low, high = metrics.get("lift_over_popular_low", -math.inf), metrics.get("lift_over_popular_high", math.inf)
    better = better or ("yes" if low > 0 else "no" if high <= 0 else "unclear")
    ends = [100 * end for end in (low, high)]
    digits = 0 if max(abs(100 * lift), *(abs(end) for end in ends if math.isfinite(end)), 0) >= 10 else 1
    shown = ", ".join(f"{end:.{digits}f}" if math.isfinite(end) else "∞" for end in ends)
    return f"better than most popular: {better}, {100 * lift:+.{digits}f} % [{shown}]"


def _table(metrics: Mapping[str, float], names: tuple[str, ...], candidates: Mapping[str, str]) -> Beside:
    """A row for each name that this model has, a column for each candidate that has one of them."""
    there = [name for name in names if f"holdout_{name}" in metrics]
    shown = {
        key: title for key, title in candidates.items() if any(f"holdout_{key}{name}" in metrics for name in there)
    }
    rows = [(f"holdout_{name}", *(_cell(metrics, f"holdout_{key}{name}") for key in shown)) for name in there]
    return Beside(("metric", *shown.values()), tuple(rows))


def _cell(metrics: Mapping[str, float], name: str) -> str:
    if name not in metrics:
        return ""
    text = f"{metrics[name]:.4f}"
    if f"{name}_low" in metrics and f"{name}_high" in metrics:
        text += f" [{metrics[f'{name}_low']:.4f}, {metrics[f'{name}_high']:.4f}]"
    return text
