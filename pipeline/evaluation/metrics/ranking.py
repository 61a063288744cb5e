"""How right each user's list is: one value a user, relevance 0 or 1.

hits : (n_users, k) bool, whether the item at each rank is relevant; a place without an item is no hit
n_relevant : (n_users,) int ≥ 0, all of the user's relevant items, those that can't be ranked too

A user with no relevant item has no value: NaN, so that whoever averages has to leave them out. A list
with fewer than k items is one whose last places miss.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "average_precision_at_k",
    "hit_rate_at_k",
    "ndcg_at_k",
    "precision_at_k",
    "recall_at_k",
    "reciprocal_rank_at_k",
]

Hits = NDArray[np.bool_]
Counts = NDArray[np.int64]
PerUser = NDArray[np.float64]


def _defined(values: Any, n_relevant: Counts) -> PerUser:
    return np.where(n_relevant > 0, values, np.nan)


def precision_at_k(hits: Hits, n_relevant: Counts) -> PerUser:
    """Σ_r hit_r / k, (n_users,): of k places, also where the list is shorter or fewer items are relevant."""
    return _defined(hits.sum(axis=1) / hits.shape[1], n_relevant)


def recall_at_k(hits: Hits, n_relevant: Counts) -> PerUser:
    """Σ_r hit_r / n_relevant, (n_users,): of all relevant items, also where more than k are."""
    return _defined(hits.sum(axis=1) / np.maximum(n_relevant, 1), n_relevant)


def hit_rate_at_k(hits: Hits, n_relevant: Counts) -> PerUser:
    """1 where any of the k places hits, else 0, (n_users,)."""
    return _defined(hits.any(axis=1).astype(np.float64), n_relevant)


def ndcg_at_k(hits: Hits, n_relevant: Counts) -> PerUser:
    """Normalised discounted cumulative gain, (n_users,).

    DCG = Σ_r hit_r / log₂(r + 1), over the DCG of a list whose first min(k, n_relevant) all hit
    (Järvelin & Kekäläinen 2002).
    """
    k = hits.shape[1]
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.clip(n_relevant, 1, k) - 1]
    return _defined((hits @ discount) / ideal, n_relevant)


def average_precision_at_k(hits: Hits, n_relevant: Counts) -> PerUser:
    """Σ_r hit_r · precision_at_r / min(k, n_relevant), (n_users,); its mean is MAP@k.

    The denominator is what a perfect list reaches, so the best value is 1 for every k. (trec_eval's
    map_cut divides by n_relevant.)
    """
    k = hits.shape[1]
    precision = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    return _defined((precision * hits).sum(axis=1) / np.clip(n_relevant, 1, k), n_relevant)


def reciprocal_rank_at_k(hits: Hits, n_relevant: Counts) -> PerUser:
    """1 / rank of the first hit, 0 where none of the k places hits, (n_users,); its mean is MRR@k."""
    return _defined(np.where(hits.any(axis=1), 1.0 / (np.argmax(hits, axis=1) + 1), 0.0), n_relevant)
