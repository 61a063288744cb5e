"""A model and its baselines side by side: each metric with its interval, for a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.results import Evaluation
from pipeline.evaluation.significance import Interval, bootstrap_mean
from pipeline.models import registry

__all__ = ["METRICS", "ScoreRow", "score_rows"]

# Logged name → what people read. Those of accuracy come with an interval: they are means over users.
METRICS = {
    "ndcg_at_10": "NDCG@10",
    "recall_at_10": "Recall@10",
    "hit_rate_at_10": "Hit rate@10",
    "coverage_at_10": "Coverage",
    "popularity_lift_at_10": "Popularity lift",
}
_MANY = 20_000  # users from which on the interval is the normal one: the two differ by less than is shown
_RESAMPLES = 1000


@dataclass(frozen=True)
class ScoreRow:
    """Attributes
    ----------
    name, label : ``item_knn`` and what people read
    metrics : logged name → value
    intervals : the same → the value's 95% interval, where there is one
    """

    name: str
    label: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]


def score_rows(
    evaluations: Mapping[str, Evaluation],
    intervals: Mapping[str, Interval] | None = None,
    model: str = registry.DEFAULT.key,
) -> tuple[ScoreRow, ...]:
    """In the order of `evaluations`, of which `model` is the key of the model itself.

    `intervals` of NDCG@10 are taken as they are where they are known.
    """
    rows = []
    for name, evaluation in evaluations.items():
        own_intervals = {}
        for metric in METRICS:
            if metric == "ndcg_at_10" and name in (intervals or {}):
                own_intervals[metric] = (intervals or {})[name]
            elif metric in evaluation.per_user and not np.isnan(evaluation.per_user[metric]).all():
                own_intervals[metric] = _interval(evaluation.per_user[metric])
        metrics = {metric: evaluation.metrics[metric] for metric in METRICS if metric in evaluation.metrics}
        rows.append(ScoreRow(name, _label(name, model), metrics, own_intervals))
    return tuple(rows)


def _label(name: str, model: str) -> str:
    if name == model:
        return "This model"
    title = registry.display_names().get(name, name.replace("_", " "))
    return title[:1].upper() + title[1:] if name in registry.display_names() else title


def _interval(values: NDArray[np.float64]) -> Interval:
    values = values[~np.isnan(values)]
    if values.size <= _MANY:
        return bootstrap_mean(values, resamples=_RESAMPLES)
    mean, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / values.size**0.5
    return Interval(mean, mean - half, mean + half)
