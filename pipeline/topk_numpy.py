"""The k best items with numpy alone, block by block: for the scorer that has nothing else, and for little work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.errors import InputError

__all__ = ["Catalogue", "LeftOut", "TopK", "cells_of", "check_columns", "exact_scores", "find_in_numpy"]

# A block's score matrix; small enough to stay near the cache, large enough for the BLAS.
BLOCK_BYTES = 32 * 2**20


class TopK(NamedTuple):
    """Ranked items of a block of users, padded at the end where fewer than k are left.

    items : (n, k) int32 item rows, -1 where padded
    scores : (n, k) float32, 0 where padded
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]


class LeftOut(NamedTuple):
    """Items that lists may not hold, as a CSR matrix (…, n_items) has them: those of its row rows[i] for list i."""

    indptr: NDArray[Any]
    indices: NDArray[Any]
    rows: NDArray[np.intp]


def exact_scores(
    user_factors: NDArray[np.float32],
    rows: NDArray[np.intp],
    item_factors: NDArray[np.float32],
    items: NDArray[np.intp],
) -> NDArray[np.float32]:
    """Score of each pair (rows[i], items[i]), (n,): as `FactorModel.predict` has it, for any user factors (m, k)."""
    total = np.zeros(rows.size, np.float64)
    for t in range(item_factors.shape[0]):
        total += user_factors[rows, t].astype(np.float64) * item_factors[t, items]
    with np.errstate(over="ignore"):
        return total.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Attributes
    ----------
    item_factors : (k, n_items) float32
    longest : the largest norm of an item
    nonnegative : whether no component is under 0
    """

    item_factors: NDArray[np.float32]
    longest: float
    nonnegative: bool

    @classmethod
    def of(cls, item_factors: NDArray[np.float32]) -> Catalogue:
        """What is to be known of item factors (k, n_items)."""
        squares = np.einsum("tn,tn->n", item_factors, item_factors, dtype=np.float64)
        return cls(item_factors, float(np.sqrt(squares.max(initial=0.0))), bool(item_factors.min(initial=0) >= 0))


def find_in_numpy(
    catalogue: Catalogue,
    user_factors: NDArray[np.float32],
    rows: NDArray[np.intp],
    k: int,
    left_out: Sequence[LeftOut],
    hidden: NDArray[np.bool_] | None,
    found: TopK,
) -> None:
    """Fill `found`, (n, k) of padding, with the lists of `rows` of `user_factors`; the rest as `topk.Finder.find`."""
    step = max(1, BLOCK_BYTES // (4 * catalogue.item_factors.shape[1]))
    for start in range(0, rows.size, step):
        some = slice(start, start + step)
        w = np.ascontiguousarray(user_factors[rows[some]])
        cells = [cells_of(one._replace(rows=one.rows[some])) for one in left_out]
        found.items[some], found.scores[some] = _block(catalogue, w, k, cells, hidden)


def _block(
    catalogue: Catalogue,
    w: NDArray[np.float32],
    k: int,
    left_out: Sequence[tuple[NDArray[np.intp], NDArray[np.int32]]],
    hidden: NDArray[np.bool_] | None,
) -> TopK:
    """One block: float32 scores → candidates → exact scores → the k best.

    Items are dealt into `n_groups` groups (item i to group i mod n_groups); the k-th largest
    of the groups' maxima is a lower bound on the k-th best score, so only groups that reach it
    are looked into. A pass of maxima costs a fraction of a partition of every row.
    """
    n_users, (n_components, n_items) = w.shape[0], catalogue.item_factors.shape
    n_groups = min(n_items, max(4 * k, -(-n_items // 64)))
    depth = -(-n_items // n_groups)
    norms = np.sqrt(np.einsum("ut,ut->u", w, w, dtype=np.float64))
    # No partial sum passes |w|·|h|; where that passes float32, an infinite or NaN product would
    # be taken for a hidden item, so these rows are scored item by item.
    overflows = norms * catalogue.longest >= 2.0**126
    safe = w.copy()
    safe[overflows] = 0
    scores = np.empty((n_users, depth * n_groups), np.float32)
    np.matmul(safe, catalogue.item_factors, out=scores[:, :n_items])
    scores[:, n_items:] = -np.inf
    for of, item in left_out:
        scores[of, item] = -np.inf
    if hidden is not None:
        scores[:, :n_items][:, hidden] = -np.inf

    grouped = scores.reshape(n_users, depth, n_groups)
    best = grouped.max(axis=1)
    bound = (
        np.partition(best, n_groups - k, axis=1)[:, n_groups - k]
        if k <= n_groups
        else np.full(n_users, -np.inf, np.float32)
    )
    # |fl(w·h) - w·h| ≤ k·2⁻²⁴·Σ|w_t·h_t| to first order (Higham 2002, §3.1), for the bound and for the
    # candidate, and 2⁻²⁴ for each rounding of a bound and a score; the rest of the factor 4 covers the higher
    # orders. Where nothing is negative the sum is the score itself, else it is under |w|·|h|. Below 2⁻¹²⁶ a
    # product loses up to 2⁻¹⁵⁰ however small it is: the last term.
    rounding = 4 * (n_components + 2) * 2.0**-24
    size = norms * catalogue.longest
    if catalogue.nonnegative:
        size = np.where(w.min(axis=1, initial=0) >= 0, np.maximum(bound, 0), size)
    margin = rounding * size + 4 * (n_components + 2) * 2.0**-149
    with np.errstate(over="ignore"):
        threshold = np.where(np.isneginf(bound), bound, bound - margin).astype(np.float32)

    reached = (best >= threshold[:, None]) & (best > -np.inf)
    # Rows of ties (all-zero factors, say) would make every item a candidate at once.
    tied = overflows | (np.count_nonzero(reached, axis=1) > 4 * k + 64)
    reached[tied] = False
    of, group = np.nonzero(reached)
    values = grouped[of, :, group]
    pick, layer = np.nonzero((values >= threshold[of, None]) & (values > -np.inf))
    of, item = of[pick], layer * n_groups + group[pick]

    found = TopK(np.full((n_users, k), -1, np.int32), np.zeros((n_users, k), np.float32))
    exact = exact_scores(w, of, catalogue.item_factors, item)
    order = np.lexsort((item, -exact, of))
    of, item, exact = of[order], item[order], exact[order]
    rank = np.arange(of.size) - np.searchsorted(of, of)
    keep = rank < k
    found.items[of[keep], rank[keep]] = item[keep]
    found.scores[of[keep], rank[keep]] = exact[keep]
    for u in np.flatnonzero(tied):
        left = np.flatnonzero(scores[u, :n_items] > -np.inf)
        exact = exact_scores(w, np.full(left.size, u), catalogue.item_factors, left)
        top = np.argsort(-exact, kind="stable")[:k]
        found.items[u, : top.size] = left[top]
        found.scores[u, : top.size] = exact[top]
    return found


def cells_of(one: LeftOut) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """The stored cells, as positions in `rows` and columns.

    scipy's own row indexing copies all of a matrix whose indices are mapped from disk, for each block.
    """
    start = one.indptr[one.rows].astype(np.intp)
    count = one.indptr[one.rows + 1].astype(np.intp) - start
    of = np.repeat(np.arange(one.rows.size), count)
    position = np.arange(of.size) - np.repeat(np.cumsum(count) - count, count)
    return of, one.indices[np.repeat(start, count) + position]


def check_columns(matrix: sparse.csr_matrix, name: str) -> None:
    """Kernels read where an index points, and scipy does not look at one that was assigned. Raises InputError."""
    columns, n = matrix.indices, matrix.shape[1]
    if columns.size and not (columns.min() >= 0 and columns.max() < n):
        raise InputError(f"{name} has columns outside [0, {n})")
