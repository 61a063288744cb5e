"""Item-kNN: items like those a user has had (Sarwar et al. 2001; Deshpande & Karypis 2004).

    score(u, i) = Σ_{j in u's history} x_uj · s_ji,     s_j· : the N items most like j

Everything is added up in float64 in the order of j and rounded once, so lists are the same for any block
size. The neighbours are a sparse matrix; nothing dense is larger than a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.errors import InputError, RowRangeError, UsageError
from pipeline.ids import IdMap
from pipeline.matrix import UserItems
from pipeline.scorer import TopK

__all__ = ["ItemKNN", "ItemKNNRanker", "fit_item_knn"]

BLOCK_BYTES = 64 * 2**20  # of a block of dense float64 scores

Weights = Literal["seen", "score"]


@dataclass(frozen=True, eq=False)
class ItemKNN:
    """Attributes
    ----------
    similarity : csr (n_items, n_items) float64; row j has item j's neighbours, without itself
    history : csr (n_users, n_items) float64, what of each user's history counts how much
    users, items : ids of the history's rows and columns
    seen : csr (n_users, n_items); a stored cell is a seen item, whatever its value
    """

    similarity: sparse.csr_matrix
    history: sparse.csr_matrix
    users: IdMap
    items: IdMap
    seen: sparse.csr_matrix

    def predict(self, user_rows: ArrayLike, item_rows: ArrayLike) -> NDArray[np.float32]:
        """Score of each pair (user_rows[i], item_rows[i]), (n,) float32. Raises RowRangeError."""
        rows = _rows(user_rows, "User", len(self.users))
        cols = _rows(item_rows, "Item", len(self.items))
        if rows.shape != cols.shape:
            raise InputError(f"{rows.size} user rows and {cols.size} item rows: one item a user")
        found = np.empty(rows.size, np.float32)
        users, of = np.unique(rows, return_inverse=True)
        order = np.argsort(of, kind="stable")
        start = np.searchsorted(of[order], np.arange(users.size + 1))
        step = self.users_a_block
        for first in range(0, users.size, step):
            last = min(first + step, users.size)
            mine = order[start[first] : start[last]]
            found[mine] = self.scores(users[first:last])[of[mine] - first, cols[mine]]
        return found

    def scores(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Scores of all items for the users in `rows`, (n, n_items)."""
        return np.asarray((self.history[rows] @ self.similarity).toarray(), np.float32)

    @property
    def users_a_block(self) -> int:
        """How many users' scores are held at once."""
        return max(1, BLOCK_BYTES // (8 * max(1, len(self.items))))

    def for_history(self, history: UserItems, weights: Weights = "seen") -> ItemKNN:
        """The same neighbours for other users, by what they have had: fold-in. The items must be the same."""
        if len(history.items) != len(self.items):
            raise InputError(f"A history over {len(history.items)} items for a model of {len(self.items)}")
        return ItemKNN(self.similarity, _weighted(history.scores, weights), history.users, self.items, history.scores)


def fit_item_knn(
    matrix: UserItems, n_neighbours: int = 200, shrinkage: float = 100.0, weights: Weights = "seen"
) -> ItemKNN:
    """Cosine of items by who has them: s_ji = x_j·x_i / (‖x_j‖·‖x_i‖ + shrinkage), the N largest of each j.

    Parameters
    ----------
    n_neighbours : N; of equal ones those with the smaller item row
    shrinkage : in the units of ‖x‖²; larger, less for pairs that few users have
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
    similarity = sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((n, n))
    similarity.sort_indices()
    return ItemKNN(similarity, x, matrix.users, matrix.items, matrix.scores)


def _nearest(
    indptr: NDArray[np.int32], items: NDArray[np.int32], value: NDArray[np.float32], n_neighbours: int, n_items: int
) -> sparse.csr_matrix:
    """Of rows with columns in any order the `n_neighbours` largest values above 0; of equal ones the first items."""
    keep = value > 0
    for row in np.flatnonzero(np.diff(indptr) > n_neighbours):
        mine = slice(indptr[row], indptr[row + 1])
        v = value[mine]
        bound = np.partition(v, v.size - n_neighbours)[v.size - n_neighbours]
        if bound <= 0:
            continue
        kept = v > bound
        equal = np.flatnonzero(v == bound)
        missing = n_neighbours - int(np.count_nonzero(kept))
        if missing < equal.size:
            equal = equal[np.argsort(items[mine][equal])[:missing]]
        kept[equal] = True
        keep[mine] = kept
    kept_at = np.flatnonzero(keep)
    kept_ptr, shape = np.searchsorted(kept_at, indptr), (indptr.size - 1, n_items)
    return sparse.csr_matrix((value[kept_at].astype(np.float64), items[kept_at], kept_ptr), shape=shape)


class ItemKNNRanker:
    """Ranks as `Scorer` does: unseen items by score, ties by item id."""

    def __init__(self, model: ItemKNN, source: str = "item-knn") -> None:
        self.model = model
        self.source = source

    @property
    def users(self) -> IdMap:
        """Ids of the users that can be ranked for."""
        return self.model.users

    @property
    def items(self) -> IdMap:
        """Ids of the items that can be recommended."""
        return self.model.items

    def recommend_rows(
        self,
        rows: ArrayLike,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        also_seen: sparse.csr_matrix | None = None,
        allow: NDArray[np.int32] | None = None,
        deny: NDArray[np.int32] | None = None,
    ) -> TopK:
        """The k best items of each user row; arguments and errors as `Scorer.recommend_rows`."""
        index = _rows(rows, "User", len(self.users))
        if k < 1:
            raise UsageError(f"k must be at least 1, got {k}")
        n_items = len(self.items)
        if also_seen is not None and also_seen.shape != (index.size, n_items):
            raise InputError(f"also_seen has shape {also_seen.shape}, not {(index.size, n_items)}")
        hidden = np.zeros(n_items, bool)
        if allow is not None:
            hidden[:] = True
            hidden[allow] = False
        if deny is not None:
            hidden[deny] = True
        items, scores = np.full((index.size, k), -1, np.int32), np.zeros((index.size, k), np.float32)
        for start in range(0, index.size, self.model.users_a_block):
            block = slice(start, start + self.model.users_a_block)
            found = self.model.scores(index[block])
            if exclude_seen:
                found[_pattern(self.model.seen[index[block]])] = -np.inf
            if also_seen is not None:
                found[_pattern(also_seen[block])] = -np.inf
            found[:, hidden] = -np.inf
            items[block], scores[block] = best_of_rows(found, k)
        return TopK(items, scores)


def best_of_rows(scores: NDArray[np.float32], k: int) -> TopK:
    """The k largest of each row that are not -∞, ties by column, padded with -1 and 0.

    Columns are dealt into groups; the k-th largest of the groups' maxima is a lower bound on the k-th best
    score, so only what reaches it is sorted. Of rows where too much does (few scores, many zeros) the k-th best is
    found first.
    """
    n, n_items = scores.shape
    items, values = np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32)
    if not n or not n_items:
        return TopK(items, values)
    n_groups = min(n_items, max(4 * k, -(-n_items // 64)))
    depth = -(-n_items // n_groups)
    if depth * n_groups > n_items:
        scores = np.pad(scores, ((0, 0), (0, depth * n_groups - n_items)), constant_values=-np.inf)
    best = scores.reshape(n, depth, n_groups).max(axis=1)
    bound = np.full(n, -np.inf, np.float32)
    if k <= n_groups:
        bound = np.partition(best, n_groups - k, axis=1)[:, n_groups - k]
    plain = bound > 0
    of, item = np.nonzero((scores >= bound[:, None]) & plain[:, None])
    crowded = np.bincount(of, minlength=n) > 8 * k + 64
    keep = ~crowded[of]
    of, item = of[keep], item[keep]
    value = scores[of, item]
    order = np.lexsort((item, -value, of))
    of, item, value = of[order], item[order], value[order]
    rank = np.arange(of.size) - np.searchsorted(of, of)
    keep = rank < k
    items[of[keep], rank[keep]], values[of[keep], rank[keep]] = item[keep], value[keep]
    for u in np.flatnonzero(~plain | crowded):
        row = scores[u, :n_items]
        least = np.partition(row, n_items - k)[n_items - k] if k < n_items else -np.inf
        left = np.flatnonzero(row > least)
        if least > -np.inf:
            left = np.sort(np.append(left, np.flatnonzero(row == least)[: k - left.size]))
        top = left[np.argsort(-row[left], kind="stable")]
        items[u, : top.size], values[u, : top.size] = top, scores[u, top]
    return TopK(items, values)


def _weighted(scores: sparse.csr_matrix, weights: Weights) -> sparse.csr_matrix:
    data = np.ones(scores.nnz) if weights == "seen" else scores.data.astype(np.float64)
    return sparse.csr_matrix((data, scores.indices, scores.indptr), shape=scores.shape)


def _pattern(matrix: sparse.csr_matrix) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Rows and columns of all stored cells, zeros too."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)), matrix.indices


def _rows(rows: ArrayLike, what: str, n: int) -> NDArray[np.intp]:
    index = np.atleast_1d(np.asarray(rows))
    if index.size and index.dtype.kind not in "iu":
        raise InputError(f"{what} rows must be integers, got {index.dtype}")
    if index.size and (index.min() < 0 or index.max() >= n):
        raise RowRangeError(f"{what} IDs must be in range [0, {n})")
    return index.astype(np.intp)
