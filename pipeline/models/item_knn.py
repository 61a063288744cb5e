"""Item-kNN: items similar to those of a user's history (Sarwar et al. 2001; Deshpande & Karypis 2004).

    score(u, i) = Σ_{j in u's history and in N(i)} x_uj · s_ji,     N(i) : the N items most similar to i

The neighbourhood is that of the scored item, so that every item's score has up to N terms. (Where each item of the
history votes for its own N neighbours, most votes go to popular items.) The neighbours are a sparse matrix, with which
`ItemItemModel` scores. No dense array is larger than a block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.matrix import UserItems
from pipeline.errors import UsageError
from pipeline.models.item_item_model import BLOCK_BYTES, ItemItemModel, Weights

__all__ = ["fit_item_knn"]


def fit_item_knn(
    matrix: UserItems, n_neighbours: int = 200, shrinkage: float = 100.0, weights: Weights = "seen"
) -> ItemItemModel:
    """Cosine similarity of items by their users: s_ji = x_j·x_i / (‖x_j‖·‖x_i‖ + shrinkage), the N largest of each i.

    Parameters
    ----------
    n_neighbours : N; of equal similarities the smaller item rows are kept
    shrinkage : in the units of ‖x‖²; a larger one lowers the similarity of pairs with few common users
    weights : x is 1 for every interaction (``seen``), or its score
    """
    if n_neighbours < 1 or shrinkage < 0:
        raise UsageError("Item-kNN needs at least 1 neighbour and a shrinkage of at least 0")
    x = _weighted(matrix.scores, weights)
    by_item = x.T.tocsr()
    norm = np.sqrt(np.asarray(by_item.multiply(by_item).sum(axis=1)).ravel())
    n = len(matrix.items)
    step = max(1, BLOCK_BYTES // (64 * max(1, n)))  # rows whose pairs stay in the cache
    parts = []
    for first in range(0, n, step):
        rows = np.arange(first, min(first + step, n))
        product = by_item[rows] @ x
        of = np.repeat(rows, np.diff(product.indptr))
        below = norm[of]
        below *= norm[product.indices]
        below += shrinkage
        value = np.divide(product.data, below, out=np.zeros(below.size), where=below > 0).astype(np.float32)
        value[product.indices == of] = 0
        parts.append(_nearest(product.indptr, product.indices, value, n_neighbours, n))
    nearest = sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((n, n), dtype=np.float32)
    del parts
    # The similarity is symmetric until the largest are chosen, so that row i has the neighbourhood of i: column i of s.
    similarity = nearest.T.tocsr()
    return ItemItemModel(similarity, matrix.users, matrix.items, matrix.scores, weights, {"model": "item-knn"})


def _nearest(
    indptr: NDArray[np.int32], items: NDArray[np.int32], value: NDArray[np.float32], n_neighbours: int, n_items: int
) -> sparse.csr_matrix:
    """Of rows with columns in any order the `n_neighbours` largest values above 0; of equal ones the first items."""
    keep = value > 0
    for row in np.flatnonzero(np.diff(indptr) > n_neighbours):
        cells = slice(indptr[row], indptr[row + 1])
        v = value[cells]
        bound = np.partition(v, v.size - n_neighbours)[v.size - n_neighbours]
        if bound <= 0:
            continue
        above = v > bound
        equal = np.flatnonzero(v == bound)
        missing = n_neighbours - int(np.count_nonzero(above))
        if missing < equal.size:
            equal = equal[np.argsort(items[cells][equal])[:missing]]
        above[equal] = True
        keep[cells] = above
    kept_at = np.flatnonzero(keep)
    kept_ptr, shape = np.searchsorted(kept_at, indptr), (indptr.size - 1, n_items)
    return sparse.csr_matrix((value[kept_at], items[kept_at], kept_ptr), shape=shape)


def _weighted(scores: sparse.csr_matrix, weights: Weights) -> sparse.csr_matrix:
    data = np.ones(scores.nnz) if weights == "seen" else scores.data.astype(np.float64)
    return sparse.csr_matrix((data, scores.indices, scores.indptr), shape=scores.shape)
