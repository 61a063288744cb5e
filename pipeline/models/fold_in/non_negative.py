"""Non-negative rows: what the fits of NMF end with.

A user's half of the objective (`pipeline.models.objective`) given the item factors H is a problem of k unknowns:

    minimise over w ≥ 0   ½ w·A·w − b·w
    A = w₀·H·Hᵀ + Σ_obs (c − w₀)·h·hᵀ + λ(1 − ρ)·I        b = Σ_obs c·x·h − λρ

For the plain objective A is the same for everybody, and the half-step at the end of a fit
solves the rows, so a training user's row comes back bit for bit (without numba, up to rounding). The penalty of a
user's bias draws it to the prior and not to 0 (λ on the diagonal, λ·prior in b). The component that is 1 stays 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.errors import ArtifactError
from pipeline.kernels import compiled
from pipeline.kernels.arguments import CsrRows, FixedFactor, FoldInTerms, SolvedFactor, StepOptions
from pipeline.models.fold_in.way import ItemRows, ScoreParts, in_pieces, objective_of

__all__ = ["NonNegative"]

_Floats = NDArray[np.float64]

# Values of the last half-step of a fit (`pipeline.models.solvers`): sweeps, and the relative move that stops them.
SWEEPS, TOL = 1000, 1e-6
EXACT_SWEEPS, EXACT_TOL = 10_000, 1e-10  # in float64
QUICK_SWEEPS = 300  # of the kernel; a row that needs more is solved by exchanges
PIVOTS = 20  # exchanges before the sweeps take over; mostly one to three are needed


class NonNegative:
    """As `way.Way` and `way.Splitting`."""

    def __init__(self, item_factors: NDArray[np.float32], meta: Mapping[str, Any], kernels: bool) -> None:
        self.objective = objective_of(meta)
        if item_factors.size and item_factors.min() < 0:
            raise ArtifactError("The model's item factors have signs, and its metadata names no fold_in for such")
        self._h = item_factors
        self._kernels = kernels
        self._items = ItemRows(item_factors, meta, kernels)
        self._plain: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        if self.objective.biases and item_factors.shape[0] < 2:
            raise ArtifactError(f"A model with biases has two components for them, this one {item_factors.shape[0]}")

    def solve(self, cells: CsrRows, n_threads: int | None) -> NDArray[np.float32]:
        """As `way.Way.solve`."""
        if not self._kernels:
            return self._in_numpy(cells)
        if self.objective.plain:
            return self._half_step(cells, n_threads)
        return self._weighted(cells, n_threads)

    def _penalties(self, counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
        """l1, l2 and `towards`, (n, k) each: subtracted from b, added to A's diagonal, added to b."""
        goal, k, n_items = self.objective, self._h.shape[0], self._items.n_known
        size = counts + goal.unobserved_weight * np.maximum(n_items - counts, 0)
        strength = (goal.alpha_W * size**goal.reg_exponent)[:, None]
        l1 = np.repeat(strength * goal.l1_ratio, k, axis=1)
        l2 = np.repeat(strength * (1 - goal.l1_ratio), k, axis=1)
        towards = np.zeros_like(l1)
        if goal.biases:
            l1[:, -1:], l2[:, -1:], towards[:, -1:] = 0, strength, strength * goal.bias_prior
        return l1, l2, towards

    def _start(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Start of the sweeps, and which components are free."""
        k = self._h.shape[0]
        start, free = np.zeros(k), np.ones(k, bool)
        if self.objective.biases:
            start[-2:] = 1, self.objective.bias_prior
            free[-2] = False
        return start, free

    def split(self, cells: CsrRows, item: int) -> ScoreParts:
        """As `way.Splitting.split`. With S = {t: w_t > 0}, cell i adds c·x_i · h_iSᵀ·A_SS⁻¹·h_jS to the score of j.

        These are the equations that w solves in S, as the sweeps leave w_t = 0 elsewhere. The level is what L1 and
        biases add to the score; without them it is 0.
        """
        l1, l2, towards = (terms[0] for terms in self._penalties(np.diff(cells.indptr)))
        A, h, weighted = self._equations(cells.indices, cells.data, l2)
        start, free = self._start()
        w = _descend(A, (weighted @ h - l1 + towards)[None], start, free)[0]
        of_item = self._items.get()[0][item, : w.size].astype(np.float64)
        used = np.flatnonzero(free & (w > 0))
        # Factors that are multiples of each other make A singular; the shortest solution gives the same scores.
        share = np.linalg.lstsq(A[np.ix_(used, used)], of_item[used], rcond=1e-12)[0]
        parts = weighted * (h[:, used] @ share)
        score, total = float(w @ of_item), float(parts.sum())
        exact = np.isclose(score, total, rtol=1e-9, atol=1e-12 * float(np.abs(parts).sum()))
        return ScoreParts(parts, 0.0 if exact else score - total)

    # ---- ways -------------------------------------------------------------------------------

    def _half_step(self, cells: CsrRows, n_threads: int | None) -> NDArray[np.float32]:
        """The half-step that `solvers.nmf.factorize` ends on, from X and H alone."""
        n, k, kind = cells.hi, self._h.shape[0], np.float32
        rows, gram = self._items.get()
        width = rows.shape[1]
        goal = self.objective
        strength = goal.alpha_W * self._items.n_known
        if self._plain is None:
            gram = gram.copy()
            gram[np.arange(k), np.arange(k)] += strength * (1 - goal.l1_ratio)
            ridge = 1e-7 * float(np.trace(gram)) / k or 1.0
            inverse = np.zeros((width, width), kind)
            inverse[:k, :k] = np.linalg.inv(gram[:k, :k] + ridge * np.eye(k))
            self._plain = gram.astype(kind), inverse
        gram32, inverse = self._plain
        kernel, no_gram = compiled("half_step").half_step, np.zeros((0, 0))
        new = np.zeros((n, width), kind)
        fixed = FixedFactor(rows, kind(1), gram32, inverse, np.zeros((0, width), kind))
        solved = SolvedFactor(new, new, new, kind(1), new)
        options = StepOptions(k, kind(strength * goal.l1_ratio), kind(0), SWEEPS, 0, True, kind(TOL))

        def piece(lo: int, hi: int) -> None:
            kernel(cells._replace(lo=lo, hi=hi), fixed, solved, options, no_gram, np.zeros(7))

        in_pieces(piece, n, n_threads)
        return np.ascontiguousarray(new[:, :k])

    def _weighted(self, cells: CsrRows, n_threads: int | None) -> NDArray[np.float32]:
        k, goal = self._h.shape[0], self.objective
        rows, gram = self._items.get()
        own = np.ascontiguousarray(gram[:k, :k])
        l1, l2, towards = self._penalties(np.diff(cells.indptr))
        start, free = self._start()
        kernel = compiled("fold_in").solve_rows
        weights = float(goal.unobserved_weight), float(goal.confidence), float(goal.dislike_weight)
        terms = FoldInTerms(rows, own, *weights, l1, l2, towards, start, free)
        out, slow = np.zeros((cells.hi, k), np.float32), np.zeros(cells.hi, np.bool_)

        def piece(lo: int, hi: int) -> None:
            kernel(cells._replace(lo=lo, hi=hi), terms, QUICK_SWEEPS, EXACT_TOL, out, slow)

        in_pieces(piece, cells.hi, n_threads)
        for u in np.flatnonzero(slow).tolist():
            out[u] = self._row(cells, u, l1, l2, towards, start, free)
        return out

    def _in_numpy(self, cells: CsrRows) -> NDArray[np.float32]:
        """All rows at once if they share A, otherwise row by row."""
        goal, n, k = self.objective, cells.hi, self._h.shape[0]
        indptr, indices, data = cells.indptr, cells.indices, cells.data
        out = np.zeros((n, k), np.float32)
        rows, gram = self._items.get()
        items, gram = rows[:, :k], gram[:k, :k]
        l1, l2, towards = self._penalties(np.diff(indptr))
        start, free = self._start()
        if goal.plain:
            observed = sparse.csr_matrix((data.astype(np.float64), indices, indptr), shape=(n, items.shape[0]))
            out[:] = _descend(gram + l2[0] * np.eye(k), observed @ items - l1, start, free)
            return out
        for u in range(n):
            out[u] = self._row(cells, u, l1, l2, towards, start, free)
        return out

    def _row(
        self,
        cells: CsrRows,
        u: int,
        l1: _Floats,
        l2: _Floats,
        towards: _Floats,
        start: _Floats,
        free: NDArray[np.bool_],
    ) -> _Floats:
        """One row (k,) under an objective that is not plain."""
        own = slice(cells.indptr[u], cells.indptr[u + 1])
        A, h, weighted = self._equations(cells.indices[own], cells.data[own], l2[u])
        row: _Floats = _descend(A, (weighted @ h - l1[u] + towards[u])[None], start, free)[0]
        return row

    def _equations(
        self, indices: NDArray[np.int32], scores: NDArray[np.float32], l2: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """A (k, k), the factors h (n, k) of one row's items, and their c·x (n,)."""
        goal, k = self.objective, self._h.shape[0]
        rows, gram = self._items.get()
        h, x = rows[indices, :k].astype(np.float64), scores.astype(np.float64)
        weight = goal.weights(x)
        A = goal.unobserved_weight * gram[:k, :k] + np.diag(l2)
        if not goal.plain:
            A += (h.T * (weight - goal.unobserved_weight)) @ h
        return A, h, weight * x


def _descend(
    A: NDArray[np.float64], b: NDArray[np.float64], start: NDArray[np.float64], free: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Rows w ≥ 0 (n, k) that minimise ½·w·A·w − b·w for each row of b, by coordinate descent."""
    curvature = np.diag(A)
    moving = np.flatnonzero(free & (curvature > 1e-300))
    w = np.repeat(start[None], b.shape[0], axis=0)
    if moving.size:
        # Start at the unconstrained solution, cut at 0, which is close.
        own = A[np.ix_(moving, moving)]
        ridge = 1e-7 * float(np.trace(own)) / moving.size
        rest = b - w[:, ~free] @ A[~free]
        guess = np.linalg.solve(own + ridge * np.eye(moving.size), rest[:, moving].T).T
        w[:, moving] = np.maximum(0, guess)
        if b.shape[0] == 1 and (exact := _pivoted(own, rest[0, moving], w[0, moving] > 0)) is not None:
            w[0, moving] = exact
            return w
    for _ in range(EXACT_SWEEPS):
        moved, length = np.zeros(b.shape[0]), np.zeros(b.shape[0])
        for t in moving:
            new = np.maximum(0, w[:, t] + (b[:, t] - w @ A[:, t]) / curvature[t])
            moved += curvature[t] * (new - w[:, t]) ** 2
            length += curvature[t] * new**2
            w[:, t] = new
        if (moved <= EXACT_TOL**2 * length).all():
            break
    return w


def _pivoted(A: NDArray[np.float64], b: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """The row w ≥ 0 (k,) that minimises ½·w·A·w − b·w, by block principal pivoting (Kim and Park 2011).

    used : (k,) the components to begin with

    None where A is singular or nearly so, when another w may be as good and the sweeps choose, and where the exchanges
    go round in circles.
    """
    try:
        pivots = np.diag(np.linalg.cholesky(A)) ** 2
    except np.linalg.LinAlgError:
        return None
    if pivots.min() < 1e-10 * float(np.diag(A).max()):
        return None
    least = -1e-12 * float(np.abs(b).max())
    for _ in range(PIVOTS):
        w = np.zeros(b.size)
        w[used] = np.linalg.solve(A[np.ix_(used, used)], b[used])
        wrong = np.where(used, w < 0, A @ w - b < least)
        if not wrong.any():
            return w
        used = used ^ wrong
    return None
