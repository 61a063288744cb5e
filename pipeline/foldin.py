"""Folding in: the factors of users the model was not trained on (or was), from their items and scores.

A user's half of the objective (`pipeline.objective`) given the item factors H is a problem of k unknowns:

    minimise over w ≥ 0   ½ w·A·w − b·w
    A = w₀·H·Hᵀ + Σ_obs (c − w₀)·h·hᵀ + λ(1 − ρ)·I        b = Σ_obs c·x·h − λρ

For the plain objective A is the same for everybody, and the rows are solved by the very half-step that a fit
ends on, so a training user's own row comes back bit for bit (where numba is not installed: to rounding). A user's
bias is drawn to the prior instead of 0 (λ on the diagonal, λ·prior in b), and the component that is 1 stays so.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.crew import Crew
from pipeline.errors import ArtifactError, BadRowsError, InputError
from pipeline.kernels import available, compiled
from pipeline.objective import Objective
from pipeline.topk_numpy import check_columns

__all__ = ["Folder", "objective_of", "transformed"]

# As the fit's last half-step has them (`pipeline.solvers`): sweeps, the relative move they stop at, the multiple
# that widths are padded to, multiply-adds worth a piece of HHᵀ.
SWEEPS, TOL, WIDTH, PIECE = 1000, 1e-6, 16, 1_000_000
EXACT_SWEEPS, EXACT_TOL = 10_000, 1e-10  # in float64
ROWS = 256  # a piece of work


def objective_of(meta: Mapping[str, Any]) -> Objective:
    """What the model was fitted to, from its metadata; before it was kept there, the plain objective.

    Raises ArtifactError.
    """
    if meta.get("objective") is not None:
        return Objective.from_json(meta["objective"])
    parameters = meta.get("parameters")
    asked = parameters if isinstance(parameters, Mapping) else {}
    named = {name: asked[name] for name in ("alpha_W", "l1_ratio") if asked.get(name) is not None}
    return Objective.from_json({**Objective().as_json(), **named})


def transformed(scores: NDArray[np.float32], meta: Mapping[str, Any]) -> NDArray[np.float32]:
    """Raw scores as the fit saw them: `matrix.to_matrix`'s transform, which metadata names. Raises ArtifactError."""
    parameters = meta.get("parameters")
    name = parameters.get("transform", "none") if isinstance(parameters, Mapping) else "none"
    if name == "none":
        return scores
    if name == "log1p":
        return np.log1p(scores)
    if name == "binary":
        return (scores > 0).astype(np.float32)
    raise ArtifactError(f"The model's transform is not one: {name!r:.50}")


class Folder:
    """Folds users in against one H; may be used from several threads at once.

    Parameters
    ----------
    item_factors : (k, n_items) float32, H; not to be altered afterwards
    meta : the model's; says what it was fitted to, and what was done to the scores before
    compiled : use the compiled kernels (None: where numba is installed). Unlike top-k's lists, rows differ in
        their last bits between the two, so the choice does not depend on what is loaded.
    """

    def __init__(
        self, item_factors: NDArray[np.float32], meta: Mapping[str, Any], compiled: bool | None = None
    ) -> None:
        self.objective = objective = objective_of(meta)
        self._meta = meta
        self._h = item_factors
        self._compiled = compiled
        self._lock = threading.Lock()
        self._fixed: tuple[NDArray[np.float32], NDArray[np.float64]] | None = None
        self._plain: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        if objective.biases and item_factors.shape[0] < 2:
            raise ArtifactError(f"A model with biases has two components for them, this one {item_factors.shape[0]}")

    def fold_matrix(self, cells: sparse.csr_matrix, n_threads: int | None = None) -> NDArray[np.float32]:
        """Factors (n, k) of the rows of csr (n, n_items), scores as they were before the fit's transform.

        Raises BadRowsError for scores that are not finite and ≥ 0, InputError for what else can't be folded in.
        """
        n_items = self._h.shape[1]
        if not sparse.issparse(cells):
            raise InputError(f"Scores to fold in must be a sparse matrix, got {type(cells).__name__}")
        if cells.ndim != 2 or cells.shape[1] != n_items:
            raise InputError(f"Scores to fold in have shape {cells.shape}, not (n, {n_items})")
        matrix = sparse.csr_matrix(cells, dtype=np.float32, copy=True)
        check_columns(matrix, "The matrix to fold in")
        matrix.sort_indices()
        if not matrix.has_canonical_format:
            raise InputError("Scores to fold in have an item twice in one row")
        return self.fold(matrix.indptr, matrix.indices, matrix.data, n_threads)

    def fold(
        self, indptr: NDArray[Any], indices: NDArray[Any], scores: NDArray[np.float32], n_threads: int | None = None
    ) -> NDArray[np.float32]:
        """`solve` for scores as they were before the fit's transform. Raises BadRowsError besides."""
        bad = int(np.count_nonzero(~(np.isfinite(scores) & (scores >= 0))))
        if bad:
            raise BadRowsError(f"{bad} score(s) are not finite and ≥ 0")
        return self.solve(indptr, indices, transformed(scores, self._meta), n_threads)

    def solve(
        self, indptr: NDArray[Any], indices: NDArray[Any], scores: NDArray[np.float32], n_threads: int | None = None
    ) -> NDArray[np.float32]:
        """Factors (n, k) of n rows, each from its own cells only.

        Parameters
        ----------
        indptr, indices, scores : CSR (n, n_items), columns ascending in a row; scores transformed, finite, ≥ 0

        Raises
        ------
        InputError
            For scores so large that the factors pass float32.
        """
        # Copies that can be written: one type each, for which the kernels are compiled once.
        indptr, indices, data = np.array(indptr, np.int64), np.array(indices, np.int32), np.array(scores, np.float32)
        out = np.zeros((indptr.size - 1, self._h.shape[0]), np.float32)
        if not out.size:
            return out
        kernels = available() if self._compiled is None else self._compiled
        if not kernels:
            self._in_numpy(indptr, indices, data, out)
        elif self.objective.plain:
            self._half_step(indptr, indices, data, n_threads, out)
        else:
            self._weighted(indptr, indices, data, n_threads, out)
        if not (np.isfinite(out.min()) and np.isfinite(out.max())):
            raise InputError("Scores to fold in are too large for float32: scale them down")
        return out

    def prepare(self) -> None:
        """Do now what the first call would do."""
        self.solve(np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))

    # ---- what all rows share ----------------------------------------------------------------

    def _shared(self, kernels: bool) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Hᵀ (n_items, width), padded with zeros, and its Gram matrix (width, width)."""
        with self._lock:
            if self._fixed is None:
                k, n = self._h.shape
                rows = np.zeros((n, -(-k // WIDTH) * WIDTH), np.float32)
                rows[:, :k] = self._h.T
                self._fixed = rows, _gram(rows) if kernels else _gram_in_numpy(rows)
            return self._fixed

    def _penalties(self, counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
        """l1, l2 and `towards`, (n, k) each: what leaves b, what A's diagonal and b gain."""
        goal, (k, n_items) = self.objective, self._h.shape
        size = counts + goal.unobserved_weight * (n_items - counts)
        strength = (goal.alpha_W * size**goal.reg_exponent)[:, None]
        l1 = np.repeat(strength * goal.l1_ratio, k, axis=1)
        l2 = np.repeat(strength * (1 - goal.l1_ratio), k, axis=1)
        towards = np.zeros_like(l1)
        if goal.biases:
            l1[:, -1:], l2[:, -1:], towards[:, -1:] = 0, strength, strength * goal.bias_prior
        return l1, l2, towards

    def _start(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Where sweeps begin, and which components move."""
        k = self._h.shape[0]
        start, free = np.zeros(k), np.ones(k, bool)
        if self.objective.biases:
            start[-2:] = 1, self.objective.bias_prior
            free[-2] = False
        return start, free

    # ---- ways -------------------------------------------------------------------------------

    def _half_step(
        self, indptr: NDArray[Any], indices: NDArray[Any], data: NDArray[Any], n_threads: int | None, out: NDArray[Any]
    ) -> None:
        """The half-step that `solvers.nmf.factorize` ends on, from X and H alone."""
        (n, k), kind = out.shape, np.float32
        rows, gram = self._shared(True)
        width = rows.shape[1]
        goal = self.objective
        strength = goal.alpha_W * self._h.shape[1]
        if self._plain is None:
            gram = gram.copy()
            gram[np.arange(k), np.arange(k)] += strength * (1 - goal.l1_ratio)
            ridge = 1e-7 * float(np.trace(gram)) / k or 1.0
            inverse = np.zeros((width, width), kind)
            inverse[:k, :k] = np.linalg.inv(gram[:k, :k] + ridge * np.eye(k))
            self._plain = gram.astype(kind), inverse
        gram32, inverse = self._plain
        step, given, none = compiled("halfstep").half_step, np.zeros((0, width), kind), np.zeros((0, 0))
        new, l1 = np.zeros((n, width), kind), kind(strength * goal.l1_ratio)

        def piece(i: int) -> None:
            step(
                i * ROWS, min(n, (i + 1) * ROWS), indptr, indices, data, given,
                rows, kind(1), gram32, inverse, l1,
                new, new, new, kind(1), new, k, kind(0), SWEEPS, kind(0), kind(TOL),
                none, np.zeros(7),
            )  # fmt: skip

        _in_pieces(piece, n, n_threads)
        out[:] = new[:, :k]

    def _weighted(
        self, indptr: NDArray[Any], indices: NDArray[Any], data: NDArray[Any], n_threads: int | None, out: NDArray[Any]
    ) -> None:
        (n, k), goal = out.shape, self.objective
        rows, gram = self._shared(True)
        own = np.ascontiguousarray(gram[:k, :k])
        l1, l2, towards = self._penalties(np.diff(indptr))
        start, free = self._start()
        solve = compiled("foldin").rows

        def piece(i: int) -> None:
            solve(
                i * ROWS, min(n, (i + 1) * ROWS), indptr, indices, data, rows, own,
                float(goal.unobserved_weight), float(goal.confidence), l1, l2, towards, start, free,
                EXACT_SWEEPS, EXACT_TOL, out,
            )  # fmt: skip

        _in_pieces(piece, n, n_threads)

    def _in_numpy(self, indptr: NDArray[Any], indices: NDArray[Any], data: NDArray[Any], out: NDArray[Any]) -> None:
        """All rows side by side where they share A, else one by one."""
        goal, (n, k) = self.objective, out.shape
        rows, gram = self._shared(False)
        items, gram = rows[:, :k], gram[:k, :k]
        l1, l2, towards = self._penalties(np.diff(indptr))
        start, free = self._start()
        if goal.plain:
            cells = sparse.csr_matrix((data.astype(np.float64), indices, indptr), shape=(n, items.shape[0]))
            out[:] = _descend(gram + l2[0] * np.eye(k), cells @ items - l1, start, free)
            return
        for u in range(n):
            mine = slice(indptr[u], indptr[u + 1])
            h, x = items[indices[mine]].astype(np.float64), data[mine].astype(np.float64)
            weight = 1 + goal.confidence * x
            A = goal.unobserved_weight * gram + (h.T * (weight - goal.unobserved_weight)) @ h + np.diag(l2[u])
            out[u] = _descend(A, ((weight * x) @ h - l1[u] + towards[u])[None], start, free)[0]


def _in_pieces(piece: Any, n: int, n_threads: int | None) -> None:
    pieces = -(-n // ROWS)
    if pieces == 1:
        piece(0)
    else:
        with Crew(n_threads) as crew:
            crew.run(piece, pieces)


def _gram(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """rowsᵀ·rows as the fit has it, to the bit: so many pieces, added up in order."""
    n, width = rows.shape
    pieces = int(np.clip(n * width // PIECE, 1, 8))
    cuts = np.linspace(0, n, pieces + 1).astype(np.int64)
    grams, stored = np.zeros((pieces, width, width)), np.empty_like(rows)
    for i in range(pieces):
        compiled("halfstep").keep_rows(cuts[i], cuts[i + 1], rows, stored, np.float32(1), grams[i])
    upper = np.triu(grams.sum(axis=0))
    out: NDArray[np.float64] = upper + np.triu(upper, 1).T
    return out


def _gram_in_numpy(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """rowsᵀ·rows in float64, a few rows at a time."""
    out = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, rows.shape[0], 65536):
        some = rows[start : start + 65536].astype(np.float64)
        out += some.T @ some
    return out


def _descend(
    A: NDArray[np.float64], b: NDArray[np.float64], start: NDArray[np.float64], free: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Rows w ≥ 0 (n, k) that minimise ½·w·A·w − b·w for each row of b, by coordinate descent."""
    curvature = np.diag(A)
    moving = np.flatnonzero(free & (curvature > 1e-300))
    w = np.repeat(start[None], b.shape[0], axis=0)
    if moving.size:
        # From the unconstrained solution, cut at 0: most of the way.
        own = A[np.ix_(moving, moving)]
        ridge = 1e-7 * float(np.trace(own)) / moving.size
        rest = b - w[:, ~free] @ A[~free]
        guess = np.linalg.solve(own + ridge * np.eye(moving.size), rest[:, moving].T).T
        w[:, moving] = np.maximum(0, guess)
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
