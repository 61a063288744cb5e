"""Metrics in words: which of them the page shows of a version, beside the baseline that people know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["SHOWN", "Figure", "figures", "metric", "shown_name"]

SHOWN = {
    "ndcg_at_10": "NDCG@10",
    "recall_at_10": "recall@10",
    "hit_rate_at_10": "hit rate@10",
    "coverage_at_10": "coverage@10",
}
_POPULAR = "popular"


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


def shown_name(name: str) -> str:
    """``NDCG@10`` for ``holdout/ndcg_at_10``; others as they are."""
    short = name.removeprefix("holdout/")
    return SHOWN.get(short, short.replace("_at_", "@").replace("_", " "))
