"""Metrics in words: which of them the page shows of a version, beside the baseline that people know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["SHOWN", "Figure", "compared", "figures", "metric"]

SHOWN = {
    "ndcg_at_10": "NDCG@10",
    "recall_at_10": "recall@10",
    "hit_rate_at_10": "hit rate@10",
    "coverage_at_10": "coverage@10",
}
_POPULAR = "popular"
# In a comparison; in this order. The rest is about the fit and its cost: MLflow has it.
_COMPARED = {
    **SHOWN,
    "precision_at_10": "precision@10",
    "map_at_10": "MAP@10",
    "mrr_at_10": "MRR@10",
    "novelty_at_10": "novelty@10",
    "diversity_at_10": "diversity@10",
    "popularity_lift_at_10": "popularity lift@10",
    "rmse": "RMSE",
    "mae": "MAE",
}


class Figure(NamedTuple):
    """A metric of a version; `popular` is that of the most popular items, None where it was not measured."""

    name: str
    value: float
    popular: float | None


def metric(metrics: Mapping[str, float], name: str) -> float | None:
    """A metric of what was held out, whichever of its two names it has."""
    return metrics.get(name, metrics.get(f"holdout/{name}"))


def figures(metrics: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]]) -> list[Figure]:
    """Those of `SHOWN` that there are."""
    values = ((name, metric(metrics, key), key) for key, name in SHOWN.items())
    popular = baselines.get(_POPULAR, {})
    return [Figure(name, value, popular.get(key)) for name, value, key in values if value is not None]


def compared(difference: Mapping[str, Mapping[str, float | None]]) -> list[dict[str, object]]:
    """The rows of a comparison: each metric once, with the interval where there is one."""
    rows: list[dict[str, object]] = []
    for key, name in _COMPARED.items():
        values = difference.get(f"holdout/{key}") if key in ("rmse", "mae") else None
        values = difference.get(key, difference.get(f"holdout/{key}")) if values is None else values
        if values is not None:
            rows.append({"name": name, **values})
    return rows
