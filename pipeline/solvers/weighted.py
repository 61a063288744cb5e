"""Non-negative factorization under the weighted objective of `pipeline.objective`: its alternation, on arrays.

Observed cells count by their confidence, all the others by `unobserved_weight`, biases may be among the components.
The loss of an iterate, L as in `pipeline.objective`, is known exactly from what the half-step of H computes:

    Σ_obs ½c·x² + Σ_i (½ h·A_i·h − b_i·h) + the penalty of W

where A and b are those of `pipeline.kernels.weighted`. No users × items array is made.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.errors import UsageError
from pipeline.kernels import compiled
from pipeline.objective import Objective
from pipeline.solvers.crew import Crew
from pipeline.solvers.halves import Cells, Floats, padded
from pipeline.solvers.nmf import Factorization, OnIteration, Penalty, factorize, fold_in

__all__ = ["factorize_weighted", "fold_in_weighted", "mean_score"]

WINDOW = 10  # iterations over which the loss must fall by more than tol
SWEEPS = 4  # of a half-step: all but the first pass over a row's few components that are not 0
PIECE = 250_000  # numbers of a factor that are worth a piece of their own
GENTLE = 2  # iterations of one sweep: from a random start exact solutions are not worth their time
BETA, GROW, GROW_MOST, SHRINK = 0.5, 1.02, 1.005, 1.5  # the extrapolation's length (Ang & Gillis 2019, algorithm 2)
POLISH, POLISH_TOL = 2000, 1e-10  # sweeps at the end, and the relative move they stop at: in float64, whatever X is


def mean_score(X: Any, objective: Objective) -> float:
    """The score that alone fits best, Σ c·x / (Σ_obs c + w₀·unobserved cells): X's mean for the plain objective."""
    x = X.data.astype(np.float64)
    c = 1 + objective.confidence * x
    cells = float(c.sum()) + objective.unobserved_weight * (math.prod(X.shape) - x.size)
    return float(np.dot(c, x)) / cells if cells > 0 else 0.0


@dataclass(eq=False)
class _Factor:
    """One factor by row: `new`, the last half-step's result, and `own`, what the other half fetches, both (rows, width);
    `gram` (width, width) float64 and `penalty` are of `own`."""

    new: Floats
    own: Floats
    gram: NDArray[np.float64]
    penalty: float = 0.0

    @classmethod
    def of(cls, rows: Floats) -> _Factor:
        new = padded(rows)
        return cls(new, new.copy(), np.zeros((0, 0)))

    def keep(
        self,
        crew: Crew,
        past: Floats,
        into: Floats,
        beta: float,
        lam: NDArray[np.float64],
        share: NDArray[np.float64],
        pull: NDArray[np.float64],
    ) -> None:
        """`own` = max(0, new + beta·(new − past)), in `into`; the pieces of `gram` depend on its shape alone, so that
        whoever has H has the same bits."""
        kind, (rows, width) = self.new.dtype.type, self.new.shape
        pieces = int(np.clip(rows * width // PIECE, 1, 16))
        cuts = np.linspace(0, rows, pieces + 1).astype(np.int64)
        grams, sums = np.zeros((pieces, width, width)), np.zeros((pieces, 1))
        keep = compiled("weighted").keep_rows
        numbers = [a.astype(kind) for a in (lam, share, pull)]

        def piece(i: int) -> None:
            keep(cuts[i], cuts[i + 1], self.new, past, into, kind(beta), *numbers, grams[i], sums[i])

        crew.run(piece, pieces)
        upper = np.triu(grams.sum(axis=0))
        self.own, self.gram, self.penalty = into, upper + np.triu(upper, 1).T, float(sums.sum())


@dataclass(eq=False)
class _Half:
    """Everything about one half that stays while the factors change.

    lam : (rows,) λ of each row; share, pull, begin : (1, width), free : (k,), as in the kernels
    """

    cells: Cells
    objective: Objective
    k: int
    lam: NDArray[np.float64]
    share: NDArray[np.float64]
    pull: NDArray[np.float64]
    begin: NDArray[np.float64]
    free: NDArray[np.bool_]
    longest: int
    room: threading.local = field(default_factory=threading.local)

    @classmethod
    def of(cls, X: Any, k: int, objective: Objective, *, items: bool) -> _Half:
        """Of the rows of X: users, or with `items` the items (X is the transpose then); k components."""
        width = -(-k // 16) * 16
        alpha = objective.alpha_H if items else objective.alpha_W
        counts = np.diff(X.indptr).astype(np.float64)
        unobserved = objective.unobserved_weight * (X.shape[1] - counts)
        share, pull, begin = np.zeros((3, 1, width))
        free = np.ones(k, np.bool_)
        share[0, :k], pull[0, :k] = 1 - objective.l1_ratio, -objective.l1_ratio
        if objective.biases:
            fixed, bias = (k - 1, k - 2) if items else (k - 2, k - 1)
            free[fixed], share[0, fixed], pull[0, fixed], begin[0, fixed] = False, 0, 0, 1
            share[0, bias], pull[0, bias], begin[0, bias] = 1, objective.bias_prior, objective.bias_prior
        return cls(
            Cells.of(X, k), objective, k, alpha * (counts + unobserved) ** objective.reg_exponent,
            share, pull, begin, free, int(counts.max(initial=0)),
        )  # fmt: skip

    @property
    def constant(self) -> float:
        """What the biases' penalties hold besides what the kernels add up: Σ ½λ·prior²."""
        return 0.5 * self.objective.bias_prior**2 * float(self.lam.sum()) if self.objective.biases else 0.0

    def keep(self, crew: Crew, factor: _Factor, past: Floats, into: Floats, beta: float) -> None:
        """Make `own`, in `into`, from `new` and the `new` of before, with its `gram` and `penalty`."""
        factor.keep(crew, past, into, beta, self.lam, self.share, self.pull)

    def sweep(self, crew: Crew, other: _Factor, start: Floats, into: Floats, sweeps: int) -> float:
        """Some sweeps from `start`; returns Σ over rows ½ w·A·w − b·w of the result."""
        kind = into.dtype.type
        o = self.objective
        gram = (o.unobserved_weight * other.gram).astype(kind)
        pieces = len(self.cells.cuts) - 1
        sums = np.zeros((pieces, 1))
        step = compiled("weighted").sweep_rows
        lam, share, pull = (a.astype(kind) for a in (self.lam, self.share, self.pull))
        c = self.cells

        def piece(i: int) -> None:
            step(
                c.cuts[i], c.cuts[i + 1], c.indptr, c.indices, c.data, other.own, gram,
                kind(o.unobserved_weight), kind(o.confidence), lam, share, pull, self.free,
                start, into, self.k, sweeps, *self._room(kind), sums[i],
            )  # fmt: skip

        crew.run(piece, pieces)
        return float(sums.sum())

    def _room(self, kind: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int32]]:
        """This thread's working memory: the longest row's cells by component."""
        if not hasattr(self.room, "arrays"):
            n = self.longest
            sizes = (-(-self.k // 8) * 8 * (n + 32), 3 * (n + 16), n + 16)
            tile, line, index = (
                np.zeros(size, type_) for size, type_ in zip(sizes, (kind, kind, np.int32), strict=True)
            )
            self.room.arrays = tile[None], line.reshape(3, -1), index[None]
        arrays: tuple[NDArray[Any], NDArray[Any], NDArray[np.int32]] = self.room.arrays
        return arrays

    def solve(self, crew: Crew, other: _Factor, into: Floats) -> float:
        """To tolerance, from X and `other` alone: a row depends on its own cells only; returns as `sweep`."""
        o, c = self.objective, self.cells
        pieces = len(c.cuts) - 1
        sums = np.zeros((pieces, 1))
        solve = compiled("weighted").solve_rows

        def piece(i: int) -> None:
            solve(
                c.cuts[i], c.cuts[i + 1], c.indptr, c.indices, c.data, other.own, o.unobserved_weight * other.gram,
                float(o.unobserved_weight), float(o.confidence), self.lam, self.share, self.pull, self.free,
                self.begin, into, self.k, POLISH, POLISH_TOL, sums[i],
            )  # fmt: skip

        crew.run(piece, pieces)
        return float(sums.sum())


def factorize_weighted(
    X: sparse.csr_matrix,
    W: Floats,
    H: Floats,
    objective: Objective,
    *,
    max_iter: int = 200,
    tol: float = 1e-4,
    n_threads: int | None = None,
    on_iteration: OnIteration | None = None,
) -> Factorization:
    """Both factors, from a start, ending on W solved to tolerance against the final H.

    Parameters
    ----------
    X : CSR (canonical) (m, n), float32 or float64, ≥ 0 and finite; its stored cells are the observed ones, a
        stored 0 too; never altered
    W, H : (m, k) and (k, n) ≥ 0, the start, of X's type; never altered. With biases the last two components
        are theirs: those of W's column k − 1 and of H's row k − 2 are the start, the other two become 1
    max_iter : most iterations, each a half-step for W and one for H
    tol : stop when √(2L) has fallen by less than this share of itself in `WINDOW` iterations
    n_threads : default, the cores this process may use; the result is the same for any number
    on_iteration : called with the iteration, from 1, and √(2L) after it; what it raises ends the fit

    Returns
    -------
    `losses` and `loss` are √(2L), never rising; infinite where the scores are too large for the type. `error` is L's
    part without penalties, as √(2·): ‖X − W·H‖_F for the plain objective, which the solver of that fits.
    """
    m, n = X.shape
    k = W.shape[1]
    if objective.plain:
        return factorize(
            X, W, H, penalty=_plain_penalty(objective, m, n), max_iter=max_iter, tol=tol, n_threads=n_threads,
            on_iteration=on_iteration,
        )  # fmt: skip
    _check(objective, k)
    rows = _Half.of(X, k, objective, items=False)
    columns = _Half.of(X.T.tocsr(), k, objective, items=True)
    x = X.data.astype(np.float64)
    base = 0.5 * float(np.dot((1 + objective.confidence * x) * x, x)) + rows.constant + columns.constant
    left, right = _Factor.of(W.astype(X.dtype, copy=False)), _Factor.of(H.T.astype(X.dtype, copy=False))
    for half, factor in ((rows, left), (columns, right)):
        for t in np.flatnonzero(~half.free):
            factor.new[:, t] = 1
            factor.own[:, t] = 1
    losses: list[float] = []

    def tell(loss: float) -> None:
        losses.append(loss)
        if on_iteration is not None:
            on_iteration(len(losses), loss)

    with np.errstate(over="ignore", invalid="ignore"), Crew(n_threads) as crew:
        converged = _alternate(crew, rows, columns, left, right, base, max_iter, tol, losses, tell)
        columns.keep(crew, right, right.new, right.own, 0.0)
        value = rows.solve(crew, right, left.new)
        rows.keep(crew, left, left.new, left.own, 0.0)
    loss, data = base + value + right.penalty, base + value - left.penalty - rows.constant - columns.constant
    if not math.isfinite(losses[-1]):
        loss = math.inf
    return Factorization(
        np.ascontiguousarray(left.new[:, :k]), np.ascontiguousarray(right.new[:, :k].T), len(losses), converged,
        _root(loss), _root(data), losses,
    )  # fmt: skip


def _alternate(
    crew: Crew, rows: _Half, columns: _Half, W: _Factor, H: _Factor, base: float, max_iter: int, tol: float,
    losses: list[float], tell: Any,
) -> bool:  # fmt: skip
    """Half-steps with extrapolation, taken back when the loss rises (Ang & Gillis 2019); whether `tol` was reached.

    The iterate is (W.own, H.new): feasible, and its loss is known exactly. An iteration that raises it is undone
    and followed by a plain one, which can't; so the loss never rises. Ends with the best iterate in place.
    """
    columns.keep(crew, H, H.new, H.own, 0.0)
    spare_W, spare_H = np.zeros_like(W.own), np.zeros_like(H.new)
    best, beta, most, plain, converged = math.inf, BETA, 1.0, True, False
    while len(losses) < max_iter and not converged:
        own, new = W.own, H.new
        sweeps = SWEEPS if len(losses) >= GENTLE else 1
        past = W.new.copy()
        rows.sweep(crew, H, own, W.new, sweeps)
        rows.keep(crew, W, past, spare_W, 0.0 if plain else beta)
        value = columns.sweep(crew, W, H.own, spare_H, sweeps)
        loss = _root(base + value + W.penalty)
        if not math.isfinite(min(best, loss)):
            tell(math.inf)
            return False
        if loss <= best:
            best, spare_W, H.new = loss, own, spare_H
            columns.keep(crew, H, new, H.own, beta)
            spare_H = new
            beta, most, plain = min(beta * GROW, most), min(most * GROW_MOST, 1.0), False
        else:
            spare_W, W.own = W.own, own
            columns.keep(crew, H, new, H.own, 0.0)
            converged = plain  # a plain step that gains nothing: rounding is all that is left
            beta, most, plain = beta / SHRINK, beta, True
        tell(best)
        converged = converged or (len(losses) > WINDOW and losses[-1 - WINDOW] - best <= tol * best)
    return converged


def _root(loss: float) -> float:
    """√(2L); rounding is kept from making it negative, and what overflowed is infinite."""
    return math.sqrt(2 * max(loss, 0.0)) if math.isfinite(loss) else math.inf


def fold_in_weighted(X: Any, H: Floats, objective: Objective, *, n_threads: int | None = None) -> Floats:
    """W (m, k) for rows of X (m, n), CSR, given H (k, n): the last half-step of `factorize_weighted`.

    A row of X that H was trained on gets its row of W again.
    """
    if objective.plain:
        penalty = _plain_penalty(objective, 0, H.shape[1])
        return fold_in(X, H, penalty=penalty, n_threads=n_threads)
    k = H.shape[0]
    _check(objective, k)
    rows = _Half.of(X, k, objective, items=False)
    right = _Factor.of(H.T)
    found = np.zeros((X.shape[0], right.new.shape[1]), H.dtype)
    with Crew(n_threads) as crew:
        nothing = np.zeros((1, right.new.shape[1]))
        right.keep(crew, right.new, right.own, 0.0, np.zeros(H.shape[1]), nothing, nothing)
        rows.solve(crew, right, found)
    return np.ascontiguousarray(found[:, :k])


def _plain_penalty(objective: Objective, m: int, n: int) -> Penalty:
    on_w, on_h, rho = n * objective.alpha_W, m * objective.alpha_H, objective.l1_ratio
    return Penalty(on_w * rho, on_w * (1 - rho), on_h * rho, on_h * (1 - rho))


def _check(objective: Objective, k: int) -> None:
    if objective.biases and objective.unobserved_weight != 0:
        raise UsageError(
            "biases describe observed scores alone: they need unobserved_weight = 0, "
            f"got {objective.unobserved_weight:g}"
        )
    if objective.biases and k < 2:
        raise UsageError(f"biases are two of the components: n_components must be at least 2, got {k}")
