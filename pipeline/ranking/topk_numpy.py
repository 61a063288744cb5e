"""The k best items with numpy alone, block by block: used without numba, and for small inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.matrix import stored_cells

__all__ = ["Catalogue", "LeftOut", "ListRequest", "TopK", "best_of_rows", "cells_of", "exact_scores", "find_in_numpy"]

# A block's score matrix; small enough to stay near the cache, large enough for the BLAS.
BLOCK_BYTES = 32 * 2**20


class _ItemsAndScores(NamedTuple):
    items: NDArray[np.int32]
    scores: NDArray[np.float32]


class TopK(_ItemsAndScores):
    """``items, scores = …``: ranked items of a block of users, padded at the end where fewer than k items remain.

    items : (n, k) int32 item rows, -1 where padded
    scores : (n, k) float32, 0 where padded
    promoted : (n, k) number of the promotion that put the item there, -1 for none; None without promotions
    promotions : sources of the promotions, by number
    """

    promoted: NDArray[np.int16] | None = None
    promotions: tuple[str, ...] = ()

    def sources(self, source: str) -> NDArray[np.str_]:
        """(n, k) what put each item into its list: `source`, or the source of a promotion."""
        if self.promoted is None:
            return np.full(self.items.shape, source)
        chosen: NDArray[np.str_] = np.array([*self.promotions, source])[self.promoted]  # number -1 is the last
        return chosen

    def of_rows(self, rows: NDArray[np.bool_]) -> TopK:
        """Some of the lists."""
        top = TopK(self.items[rows], self.scores[rows])
        top.promoted = None if self.promoted is None else self.promoted[rows]
        top.promotions = self.promotions
        return top


class LeftOut(NamedTuple):
    """Items that lists must not hold, as a CSR matrix (…, n_items): list i must not hold the items of row rows[i]."""

    indptr: NDArray[Any]
    indices: NDArray[Any]
    rows: NDArray[np.intp]


class ListRequest(NamedTuple):
    """The lists to find.

    rows : (n,) rows of users
    k : the length of a list
    left_out : at most two sets of items that individual lists must not hold
    hidden : (n_items,) items that no list may hold
    n_threads : for finders that use several; default, the cores this process may use
    """

    rows: NDArray[np.intp]
    k: int
    left_out: Sequence[LeftOut] = ()
    hidden: NDArray[np.bool_] | None = None
    n_threads: int | None = None

    def part(self, part: slice | NDArray[np.intp]) -> ListRequest:
        """The request for some of the rows."""
        left_out = [cells._replace(rows=cells.rows[part]) for cells in self.left_out]
        return self._replace(rows=self.rows[part], left_out=left_out)

    def padding(self) -> TopK:
        """Empty lists, to be filled."""
        shape = (self.rows.size, self.k)
        return TopK(np.full(shape, -1, np.int32), np.zeros(shape, np.float32))


def exact_scores(
    user_factors: NDArray[np.float32],
    rows: NDArray[np.intp],
    item_factors: NDArray[np.float32],
    items: NDArray[np.intp],
) -> NDArray[np.float32]:
    """Score of each pair (rows[i], items[i]), (n,), as `FactorModel.predict`, for any user factors (m, k)."""
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
        """Compute the attributes from item factors (k, n_items)."""
        squares = np.einsum("tn,tn->n", item_factors, item_factors, dtype=np.float64)
        return cls(item_factors, float(np.sqrt(squares.max(initial=0.0))), bool(item_factors.min(initial=0) >= 0))


def find_in_numpy(
    catalogue: Catalogue,
    user_factors: NDArray[np.float32],
    request: ListRequest,
    lists: TopK,
) -> None:
    """Fill `lists`, which are padding, with the lists for rows of `user_factors`; see `topk.Finder.find`."""
    step = max(1, BLOCK_BYTES // (4 * catalogue.item_factors.shape[1]))
    for start in range(0, request.rows.size, step):
        block = slice(start, start + step)
        part = request.part(block)
        w = np.ascontiguousarray(user_factors[part.rows])
        cells = [cells_of(matrix) for matrix in part.left_out]
        lists.items[block], lists.scores[block] = _block(catalogue, w, request.k, cells, request.hidden)


def _block(
    catalogue: Catalogue,
    w: NDArray[np.float32],
    k: int,
    left_out: Sequence[tuple[NDArray[np.intp], NDArray[np.int32]]],
    hidden: NDArray[np.bool_] | None,
) -> TopK:
    """One block: float32 scores → candidates → exact scores → the k best."""
    n_items = catalogue.item_factors.shape[1]
    norms = np.sqrt(np.einsum("ut,ut->u", w, w, dtype=np.float64))
    # Every partial sum is at most |w|·|h|. Where that overflows float32, an infinite or NaN product would look like
    # a hidden item, so these rows are scored item by item.
    overflows = norms * catalogue.longest >= 2.0**126
    safe = w.copy()
    safe[overflows] = 0
    groups = Groups.empty(w.shape[0], n_items, k)
    scores = groups.scores
    np.matmul(safe, catalogue.item_factors, out=scores[:, :n_items])
    for users, columns in left_out:
        scores[users, columns] = -np.inf
    if hidden is not None:
        scores[:, :n_items][:, hidden] = -np.inf

    best = groups.maxima()
    threshold = _threshold(catalogue, w, norms, groups.bound(best, k))
    of, item, crowded = groups.candidates(best, threshold, k, overflows)
    lists = ranked(of, item, exact_scores(w, of, catalogue.item_factors, item), w.shape[0], k)
    for u in np.flatnonzero(crowded):
        left = np.flatnonzero(scores[u, :n_items] > -np.inf)
        exact = exact_scores(w, np.full(left.size, u), catalogue.item_factors, left)
        top = np.argsort(-exact, kind="stable")[:k]
        lists.items[u, : top.size] = left[top]
        lists.scores[u, : top.size] = exact[top]
    return lists


def _threshold(
    catalogue: Catalogue, w: NDArray[np.float32], norms: NDArray[np.float64], bound: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(n,) what a float32 score must reach to be a candidate: the bound on the k-th best, less the rounding error.

    |fl(w·h) - w·h| ≤ k·2⁻²⁴·Σ|w_t·h_t| to first order (Higham 2002, §3.1), for the bound and for the
    candidate, and 2⁻²⁴ for each rounding of a bound and a score; the rest of the factor 4 covers the higher
    orders. Where nothing is negative the sum is the score itself, else it is under |w|·|h|. Below 2⁻¹²⁶ a
    product loses up to 2⁻¹⁵⁰ however small it is: the last term.
    """
    n_components = w.shape[1]
    size = norms * catalogue.longest
    if catalogue.nonnegative:
        size = np.where(w.min(axis=1, initial=0) >= 0, np.maximum(bound, 0), size)
    margin = 4 * (n_components + 2) * 2.0**-24 * size + 4 * (n_components + 2) * 2.0**-149
    with np.errstate(over="ignore"):
        threshold: NDArray[np.float32] = np.where(np.isneginf(bound), bound, bound - margin).astype(np.float32)
    return threshold


@dataclass(frozen=True, eq=False)
class Groups:
    """Scores of a block of users, with the items in groups: item i belongs to group i mod n_groups.

    The k-th largest of the groups' maxima is a lower bound on the k-th best score, so only groups that reach it can
    hold candidates. Computing the maxima takes a fraction of the time of partitioning every row.

    Attributes
    ----------
    scores : (n, depth·n_groups) float32; −∞ for an item that the list must not hold, and past the last item
    n_groups : min(n_items, max(4k, n_items / 64))
    """

    scores: NDArray[np.float32]
    n_groups: int

    @classmethod
    def empty(cls, n: int, n_items: int, k: int) -> Groups:
        """Groups for n users, whose scores of the n_items the caller sets."""
        n_groups = min(n_items, max(4 * k, -(-n_items // 64)))
        scores = np.empty((n, -(-n_items // n_groups) * n_groups), np.float32)
        scores[:, n_items:] = -np.inf
        return cls(scores, n_groups)

    @classmethod
    def of(cls, scores: NDArray[np.float32], k: int) -> Groups:
        """Groups of scores (n, n_items), copied unless all groups have the same size."""
        n_items = scores.shape[1]
        n_groups = min(n_items, max(4 * k, -(-n_items // 64)))
        missing = -n_items % n_groups
        padded = np.pad(scores, ((0, 0), (0, missing)), constant_values=-np.inf) if missing else scores
        return cls(padded, n_groups)

    def maxima(self) -> NDArray[np.float32]:
        """(n, n_groups) the largest score of each group."""
        n, width = self.scores.shape
        best: NDArray[np.float32] = self.scores.reshape(n, width // self.n_groups, self.n_groups).max(axis=1)
        return best

    def bound(self, best: NDArray[np.float32], k: int) -> NDArray[np.float32]:
        """(n,) a lower bound on each user's k-th best score, −∞ where there are fewer groups than k."""
        if k > self.n_groups:
            return np.full(best.shape[0], -np.inf, np.float32)
        bound: NDArray[np.float32] = np.partition(best, self.n_groups - k, axis=1)[:, self.n_groups - k]
        return bound

    def candidates(
        self, best: NDArray[np.float32], threshold: NDArray[np.float32], k: int, skipped: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
        """User and item rows of the scores > −∞ that reach their user's threshold, and which users are left out.

        Left out, (n,) bool, are those `skipped` and those of whom more than 4k + 64 groups reach the threshold: ties
        (all-zero factors, say) would make every item a candidate.
        """
        n, width = self.scores.shape
        reached = (best >= threshold[:, None]) & (best > -np.inf)
        crowded = skipped | (np.count_nonzero(reached, axis=1) > 4 * k + 64)
        reached[crowded] = False
        of, group = np.nonzero(reached)
        values = self.scores.reshape(n, width // self.n_groups, self.n_groups)[of, :, group]
        pick, layer = np.nonzero((values >= threshold[of, None]) & (values > -np.inf))
        return of[pick], layer * self.n_groups + group[pick], crowded


def ranked(of: NDArray[np.intp], item: NDArray[np.intp], scores: NDArray[np.float32], n: int, k: int) -> TopK:
    """The k best candidates of each of n users, by (score, item row): (of[i], item[i]) has scores[i]."""
    lists = TopK(np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32))
    order = np.lexsort((item, -scores, of))
    of, item, scores = of[order], item[order], scores[order]
    rank = np.arange(of.size) - np.searchsorted(of, of)
    best = rank < k
    lists.items[of[best], rank[best]] = item[best]
    lists.scores[of[best], rank[best]] = scores[best]
    return lists


def best_of_rows(scores: NDArray[np.float32], k: int) -> TopK:
    """The k largest of each row of exact scores (n, n_items) that are not −∞, ties by column, padded with −1 and 0.

    Rows where the bound is no more than 0 (few scores, many zeros), or too many scores reach it, are partitioned.
    """
    n, n_items = scores.shape
    if not n or not n_items:
        return TopK(np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32))
    groups = Groups.of(scores, k)
    best = groups.maxima()
    bound = groups.bound(best, k)
    of, item, crowded = groups.candidates(best, bound, k, ~(bound > 0))
    lists = ranked(of, item, scores[of, item], n, k)
    for u in np.flatnonzero(crowded):
        row = scores[u]
        least = np.partition(row, n_items - k)[n_items - k] if k < n_items else -np.inf
        left = np.flatnonzero(row > least)
        if least > -np.inf:
            left = np.sort(np.append(left, np.flatnonzero(row == least)[: k - left.size]))
        top = left[np.argsort(-row[left], kind="stable")]
        lists.items[u, : top.size], lists.scores[u, : top.size] = top, row[top]
    return lists


def cells_of(left_out: LeftOut) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """The stored cells, as positions in `rows` and columns."""
    return stored_cells(*left_out)
