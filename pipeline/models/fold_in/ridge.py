"""Rows of any sign: one ridge regression of a user's scores on the item factors.

The problem of `fold_in.non_negative` without w ≥ 0, without L1 and without biases, which k linear equations solve:

    A·w = b        A = w₀·H·Hᵀ + Σ_obs (c − w₀)·h·hᵀ + λI        b = Σ_obs c·x·h

`als` ends its fit with this, so a training user's row comes back bit for bit (without numba, up to rounding).
The score of item j is a sum over the user's items, Σ_obs c·x·(h·A⁻¹·h_j) (Hu, Koren & Volinsky 2008, §5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtifactError
from pipeline.kernels import compiled
from pipeline.kernels.arguments import CsrRows, RowTerms
from pipeline.models.fold_in.way import ItemRows, ScoreParts, in_pieces, objective_of

__all__ = ["Ridge"]

SINGULAR = 1e-6  # as in `pipeline.kernels.ridge`

Float64s = NDArray[np.float64]


class Ridge:
    """As `way.Way` and `way.Splitting`."""

    def __init__(self, item_factors: NDArray[np.float32], meta: Mapping[str, Any], kernels: bool) -> None:
        self.objective = objective_of(meta)
        self._h = item_factors
        self._kernels = kernels
        self._items = ItemRows(item_factors, meta, kernels)
        if self.objective.l1_ratio or self.objective.biases:
            raise ArtifactError("A model that is folded in by ridge has neither L1 nor biases, and this one has")

    def equations(self, counts: NDArray[np.int64]) -> tuple[NDArray[np.float32], RowTerms]:
        """The items' rows (n_items, width), and what `kernels.ridge` takes besides cells, for users of so many (n,)."""
        rows, gram = self._items.get()
        return rows, self._terms(counts, gram)

    def solve(self, cells: CsrRows, n_threads: int | None) -> NDArray[np.float32]:
        """As `way.Way.solve`."""
        rows, gram = self._items.get()
        terms = self._terms(np.diff(cells.indptr), gram)
        out = np.zeros((cells.hi, terms.k), np.float32)
        if self._kernels:
            kernel = compiled("ridge").solve_rows
            in_pieces(lambda lo, hi: kernel(cells._replace(lo=lo, hi=hi), rows, terms, out), cells.hi, n_threads)
            return out
        for u in range(cells.hi):
            A, h, weighted = _equations(u, cells, rows, terms)
            out[u] = _solve(A, weighted @ h)
        return out

    def split(self, cells: CsrRows, item: int) -> ScoreParts:
        """As `way.Splitting.split`."""
        rows, gram = self._items.get()
        terms = self._terms(np.diff(cells.indptr), gram)
        A, h, weighted = _equations(0, cells, rows, terms)
        return ScoreParts(weighted * (h @ _solve(A, rows[item, : terms.k].astype(np.float64))), 0.0)

    def _terms(self, counts: NDArray[np.int64], gram: Float64s) -> RowTerms:
        """What A and b are made of besides the cells."""
        goal, k, width, n_items = self.objective, self._h.shape[0], gram.shape[0], self._items.n_known
        weight = float(goal.unobserved_weight)
        lam = goal.alpha_W * (counts + weight * np.maximum(n_items - counts, 0)) ** goal.reg_exponent
        share = np.zeros((1, width))
        share[0, :k] = 1
        pull, free = np.zeros((1, width)), np.ones(k, bool)
        weights = weight, float(goal.confidence), float(goal.dislike_weight)
        return RowTerms(k, weight * gram, *weights, lam, share, pull, free)


def _equations(
    row: int, cells: CsrRows, items: NDArray[np.float32], terms: RowTerms
) -> tuple[Float64s, Float64s, Float64s]:
    """A (k, k), the factors h (n, k) of the row's items, and their c·x (n,): b is their product."""
    own = slice(cells.indptr[row], cells.indptr[row + 1])
    k, x = terms.k, cells.data[own].astype(np.float64)
    h = items[cells.indices[own], :k].astype(np.float64)
    c = np.where(x != 0, 1 + terms.confidence * x, terms.zero)
    A = terms.gram[:k, :k] + (h.T * (c - terms.weight)) @ h + terms.lam[row] * np.eye(k)
    return A, h, c * x


def _solve(A: Float64s, b: Float64s) -> Float64s:
    """The w with A·w = b, as `kernels.ridge`: by Cholesky; a component without a pivot is 0."""
    least = np.maximum(SINGULAR * np.diag(A), 1e-300)
    upper, b = A.copy(), b.copy()
    for t in range(b.size):
        if not upper[t, t] > least[t]:
            upper[t] = 0
            continue
        upper[t] /= np.sqrt(upper[t, t])
        b[t] /= upper[t, t]
        b[t + 1 :] -= upper[t, t + 1 :] * b[t]
        upper[t + 1 :] -= np.outer(upper[t, t + 1 :], upper[t])
    w = np.zeros(b.size)
    for t in range(b.size - 1, -1, -1):
        if upper[t, t] > 0:
            w[t] = (b[t] - upper[t, t + 1 :] @ w[t + 1 :]) / upper[t, t]
    return w
