"""Small problems of the weighted objective."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from pipeline.data.interactions import Interactions


def problem(rows=25, columns=18, k=4, dtype=np.float64, seed=0, density=0.3):
    """X with an empty row and column, a full row and stored zeros; the same with NaN for "not observed"; a start."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 11, (rows, columns)) / 2
    seen = rng.random((rows, columns)) < density
    if rows > 3 and columns > 3:
        seen[1], seen[2], seen[:, 3] = False, True, False
    dense = np.where(seen, scores, np.nan)
    u, i = np.nonzero(seen)
    X = sparse.csr_matrix((scores[u, i].astype(dtype), (u, i)), shape=(rows, columns))
    assert X.nnz == seen.sum()
    return X, dense, rng.random((rows, k)).astype(dtype), rng.random((k, columns)).astype(dtype)


def starred(seed=0):
    """Ratings of users and items with levels of their own and two tastes."""
    rng = np.random.default_rng(seed)
    u, i = np.divmod(rng.choice(80 * 60, 2400, replace=False), 60)
    stars = 3.2 + rng.normal(0, 0.6, 80)[u] + rng.normal(0, 0.6, 60)[i] + np.where(u % 2 == i % 2, 0.7, -0.7)
    return Interactions.of(u, i, np.clip(np.round(2 * (stars + rng.normal(0, 0.2, 2400))) / 2, 0.5, 5))
