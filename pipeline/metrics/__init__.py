"""Metrics as functions on arrays; docs/metrics.md has their formulas and edge cases on one page."""

from pipeline.metrics.catalogue import (
    Likeness,
    cosine_of_users,
    coverage,
    gini,
    intra_list_diversity,
    mean_popularity,
    novelty,
    popularity_lift,
    surprise,
)
from pipeline.metrics.cells import AllCells, Errors, all_cells_errors, errors, observed_predictions
from pipeline.metrics.lists import (
    average_precision_at_k,
    hit_rate_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank_at_k,
)
from pipeline.metrics.segments import BANDS, SEGMENTS, popularity_bands, user_segments

__all__ = [
    "BANDS",
    "SEGMENTS",
    "AllCells",
    "Errors",
    "Likeness",
    "all_cells_errors",
    "average_precision_at_k",
    "cosine_of_users",
    "coverage",
    "errors",
    "gini",
    "hit_rate_at_k",
    "intra_list_diversity",
    "mean_popularity",
    "ndcg_at_k",
    "novelty",
    "observed_predictions",
    "popularity_bands",
    "popularity_lift",
    "precision_at_k",
    "recall_at_k",
    "reciprocal_rank_at_k",
    "surprise",
    "user_segments",
]
