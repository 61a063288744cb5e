"""Metrics as functions on arrays; docs/metrics.md has their formulas and edge cases on one page."""

from pipeline.evaluation.metrics.catalogue import (
    ItemSimilarity,
    cosine_of_users,
    coverage,
    gini,
    intra_list_diversity,
    mean_popularity,
    novelty,
    popularity_lift,
    surprise,
)
from pipeline.evaluation.metrics.ranking import (
    average_precision_at_k,
    hit_rate_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank_at_k,
)
from pipeline.evaluation.metrics.segments import BANDS, SEGMENTS, popularity_bands, user_segments
from pipeline.models.reconstruction import AllCells, Errors, all_cells_errors, errors, observed_predictions

__all__ = [
    "BANDS",
    "SEGMENTS",
    "AllCells",
    "Errors",
    "ItemSimilarity",
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
