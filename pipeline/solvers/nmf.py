"""Non-negative matrix factorization X ≈ W·H: the alternation of half-steps and its stopping rules, on arrays.

The objective is scikit-learn's, over all cells, the empty ones as 0:

    L(W, H) = ½‖X − W·H‖² + l1_W·ΣW + l1_H·ΣH + ½·l2_W·‖W‖² + ½·l2_H·‖H‖²

and a *loss* is √(2L): ‖X − W·H‖_F where nothing is penalised. It is had for nothing from what a half-step
computes, ‖X‖² − 2⟨X·Hᵀ, W⟩ + ⟨WᵀW, HHᵀ⟩, without a dense users × items array.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from pipeline.crew import Crew
from pipeline.kernels import compiled
from pipeline.solvers.halves import Cells, Factor, Floats, Outcome, Sweeps, half_step, padded

__all__ = ["Factorization", "OnIteration", "Penalty", "factorize", "factorize_rows", "fold_in"]

OnIteration = Callable[[int, float], None]

WINDOW = 10  # iterations over which the loss must fall by more than tol
TRAIN = Sweeps(most=2, ratio=0.1)
GENTLE = 6  # iterations of one sweep: solving a random start exactly leads to worse minima
BETA, GROW, GROW_MOST, SHRINK = 0.4, 1.02, 1.005, 1.5  # the extrapolation's length (Ang & Gillis 2019, algorithm 2)
POLISH, POLISH_TOL = 1000, {"float32": 1e-6, "float64": 1e-10}  # sweeps, and the relative move they stop at
NARROW_BYTES = 2**20  # factors under this lie in the cache at full width
NARROW_UNTIL = 1e-6  # relative fall of the loss under which rounding of the fetched factors would show


@dataclass(frozen=True)
class Penalty:
    """l1 and l2 of both factors, scaled already (see the objective)."""

    l1_w: float = 0.0
    l2_w: float = 0.0
    l1_h: float = 0.0
    l2_h: float = 0.0


@dataclass(frozen=True, eq=False)
class Factorization:
    """W (m, k), H (k, n); `losses[i]` after iteration i + 1; `loss` and `error` = ‖X − WH‖ of W and H as they are here.

    `interrupted`: a KeyboardInterrupt ended it, and what was found by then was asked for.
    """

    W: Floats
    H: Floats
    n_iter: int
    converged: bool
    loss: float
    error: float
    losses: list[float]
    interrupted: bool = False


class _Problem:
    """X by row and by column, ‖X‖², the penalties: everything that stays while the factors change."""

    def __init__(self, X: Any, k: int, penalty: Penalty, *, columns: bool = True) -> None:
        self.penalty = penalty
        if sparse.issparse(X):
            self.rows = Cells.of(X.tocsr(), k)
            self.columns = Cells.of(X.T.tocsr(), k) if columns else None
            self.square = float(np.einsum("i,i", X.data, X.data, dtype=np.float64))  # vdot would copy in float64
        else:
            X = np.ascontiguousarray(X)
            self.rows, self.columns = Cells.of(X, k), Cells.of(X.T, k) if columns else None
            self.square = float(np.vdot(X.astype(np.float64), X))

    def solve_w(self, crew: Crew, H: Factor, W: Factor, sweeps: Sweeps, **how: Any) -> Outcome:
        return half_step(crew, self.rows, H, W, sweeps, l1=self.penalty.l1_w, l2=self.penalty.l2_w, **how)

    def solve_h(self, crew: Crew, W: Factor, H: Factor, sweeps: Sweeps, **how: Any) -> Outcome:
        assert self.columns is not None  # noqa: S101 - fold-in has no use for them
        return half_step(crew, self.columns, W, H, sweeps, l1=self.penalty.l1_h, l2=self.penalty.l2_h, **how)

    def error(self, outcome: Outcome) -> float:
        """‖X − W·H‖² of the other factor's `own` and this one's `new`; rounding is kept from making it negative."""
        return max(self.square - 2 * outcome.cross + outcome.quadratic, 0.0)

    def loss(self, error: float, square_W: float, total_W: float, square_H: float, total_H: float) -> float:
        """√(2L), with error = ‖X − W·H‖² and Σ and Σ² of the factors."""
        p = self.penalty
        return math.sqrt(error + p.l2_w * square_W + p.l2_h * square_H + 2 * (p.l1_w * total_W + p.l1_h * total_H))


def factorize(X: Any, W: Floats, H: Floats, **options: Any) -> Factorization:
    """Both factors, from a start: W (m, k) and H (k, n) ≥ 0, of X's type, never altered.

    `X` and `options` as `factorize_rows` takes them.
    """
    return factorize_rows(X, padded(W), padded(H.T), W.shape[1], **options)


def factorize_rows(
    X: Any,
    W: Floats,
    Ht: Floats,
    k: int,
    *,
    penalty: Penalty | None = None,
    max_iter: int = 200,
    tol: float = 1e-4,
    accelerate: bool = True,
    n_threads: int | None = None,
    on_iteration: OnIteration | None = None,
    keep_interrupted: bool = False,
) -> Factorization:
    """Both factors, from a start by row that is overwritten: no copy of it needs memory.

    Parameters
    ----------
    X : CSR (canonical) or dense (m, n), float32 or float64, ≥ 0 and finite; never altered
    W, Ht : (m, width) and (n, width), `padded` from k components
    max_iter : most iterations, each a half-step for W and one for H
    tol : accelerated, stop when the loss has fallen by less than tol·loss in `WINDOW` iterations; plain,
        scikit-learn's rule: when Σ |projected gradient| is under tol times that of the first iteration
    accelerate : several sweeps for each product with X, extrapolation with restart, W solved against the
        final H at the end; if not, exactly one sweep a half-step, ending on H, which are scikit-learn's steps
    n_threads : default, the cores this process may use; the result is the same for any number
    on_iteration : called with the iteration, from 1, and the loss after it; what it raises ends the fit
    keep_interrupted : a KeyboardInterrupt ends the fit with the best factors so far instead of losing them;
        the next one goes through
    """
    penalty = penalty or Penalty()
    losses: list[float] = []

    def tell(loss: float) -> None:
        losses.append(loss)
        if on_iteration is not None:
            on_iteration(len(losses), loss)

    problem = _Problem(X, k, penalty)
    left, right = Factor(W, k), Factor(Ht, k)
    del W, Ht
    with Crew(n_threads) as crew:
        run = _accelerated if accelerate else _plain
        try:
            converged = run(crew, problem, left, right, max_iter, tol, losses, tell)
            interrupted = False
        except KeyboardInterrupt:
            if not keep_interrupted:
                raise
            converged, interrupted = False, True
        problem.columns = None
        error, loss = _finish(crew, problem, left, right, ends_on_w=accelerate)
    found_W = np.ascontiguousarray(left.new[:, :k])
    found_H = np.ascontiguousarray(right.new[:, :k]).T
    return Factorization(found_W, found_H, len(losses), converged, loss, math.sqrt(error), losses, interrupted)


def _plain(
    crew: Crew, problem: _Problem, W: Factor, H: Factor, max_iter: int, tol: float, losses: list[float], tell: Any
) -> bool:
    """scikit-learn's steps and its stopping rule; returns whether it held."""
    for factor in (W, H):
        factor.keep(crew, narrow=False, apart=False)
    first = 0.0
    while True:
        on_W = problem.solve_w(crew, H, W, Sweeps())
        on_H = problem.solve_h(crew, W, H, Sweeps())
        violation = on_W.violation + on_H.violation
        tell(problem.loss(problem.error(on_H), on_W.square_new, on_W.total_new, on_H.square_new, on_H.total_new))
        first = first or violation
        if violation <= tol * first:
            return True
        if len(losses) == max_iter:
            return False


def _accelerated(
    crew: Crew, problem: _Problem, W: Factor, H: Factor, max_iter: int, tol: float, losses: list[float], tell: Any
) -> bool:
    """Several sweeps a product and extrapolation, taken back when the loss rises (Ang & Gillis 2019).

    The iterate is (W.own, H.new): feasible, and its loss is known exactly. An iteration that raises it is
    undone and followed by a plain one, which can't; so the loss never rises. Leaves the best H.new; returns
    whether the fall of the loss is under `tol`.
    """
    large = W.new.nbytes + H.new.nbytes >= NARROW_BYTES
    narrow = large and problem.rows.dense is None and W.new.dtype == np.float32 and compiled().has_half()
    W.keep(crew, narrow=narrow)
    H.keep(crew, narrow=narrow)
    spare_W, spare_H = np.empty_like(W.own), np.empty_like(H.new)
    best_H = H.new  # never written to while it is the best
    best, beta, most, plain, converged = math.inf, BETA, 1.0, True, False
    try:
        while len(losses) < max_iter and not converged:
            own, new = W.own, H.new
            sweeps = TRAIN if len(losses) >= GENTLE else Sweeps()
            on_W = problem.solve_w(crew, H, W, sweeps, beta=0.0 if plain else beta, into=(spare_W, W.new))
            on_H = problem.solve_h(crew, W, H, sweeps, beta=beta, into=(H.own, spare_H))
            square_W = float(np.trace(W.gram))
            loss = problem.loss(problem.error(on_H), square_W, on_W.total_own, on_H.square_new, on_H.total_new)
            fall = best - loss
            if fall >= 0:
                best, best_H, spare_W, spare_H = loss, H.new, own, new
                beta, most, plain = min(beta * GROW, most), min(most * GROW_MOST, 1.0), False
            else:
                spare_W, spare_H, W.own, H.new = W.own, H.new, own, new
                H.keep(crew, narrow=narrow)
                converged = plain and not narrow  # a plain step that gains nothing: rounding is all that is left
                beta, most, plain = beta / SHRINK, beta, True
            if narrow and fall < NARROW_UNTIL * best:
                narrow = False
                W.own, W.scale = _widened(W), 1.0
                H.keep(crew, narrow=False)
                spare_W = np.empty_like(W.own)
            tell(best)
            standing = len(losses) > WINDOW and losses[-1 - WINDOW] - best <= tol * best
            converged = converged or standing or best == 0
    finally:
        H.new = best_H
    return converged


def _finish(crew: Crew, problem: _Problem, W: Factor, H: Factor, *, ends_on_w: bool) -> tuple[float, float]:
    """‖X − WH‖² and the loss of W.new and H.new, W being solved against H before, where it is to be."""
    on_W = _finish_w(crew, problem, W, H) if ends_on_w else _as_it_is(crew, problem, W, H)
    error = problem.error(on_W)
    square_H, total_H = float(np.trace(H.gram)), float(H.new.sum(dtype=np.float64))
    return error, problem.loss(error, on_W.square_new, on_W.total_new, square_H, total_H)


def _as_it_is(crew: Crew, problem: _Problem, W: Factor, H: Factor) -> Outcome:
    """What a half-step of W would tell, no sweep done."""
    for factor in (W, H):
        factor.keep(crew, narrow=False, apart=False)
    return problem.solve_w(crew, H, W, Sweeps(most=0))


def _widened(factor: Factor) -> Floats:
    """`own` at full width, with its scale put back."""
    out: Floats = factor.own.view(np.float16).astype(np.float32) * np.float32(factor.scale)
    return out


def _finish_w(crew: Crew, problem: _Problem, W: Factor, H: Factor) -> Outcome:
    """W to tolerance against H as it is, from X and H alone: a row depends on its own cells only."""
    H.keep(crew, narrow=False, apart=False)
    W.own, W.scale = W.new, 1.0
    sweeps = Sweeps(most=POLISH, tol=POLISH_TOL[W.new.dtype.name])
    return problem.solve_w(crew, H, W, sweeps, fresh=True)


def fold_in(
    X: Any,
    H: Floats,
    *,
    penalty: Penalty | None = None,
    max_iter: int = 200,
    tol: float = 1e-4,
    accelerate: bool = True,
    n_threads: int | None = None,
) -> Floats:
    """W (m, k) for rows of X given H (k, n), with the penalties of W.

    Accelerated, the last half-step of `factorize`: a row of X that H was trained on gets its row of W
    again, and `max_iter` and `tol` don't matter. Plain, scikit-learn's sweeps from 0 and its stopping rule.
    """
    k = H.shape[0]
    problem = _Problem(X, k, penalty or Penalty(), columns=False)
    W = Factor(np.zeros((X.shape[0], padded(H[:, :1].T).shape[1]), H.dtype), k)
    right = Factor(padded(H.T), k)
    with Crew(n_threads) as crew:
        if accelerate:
            _finish_w(crew, problem, W, right)
        else:
            for factor in (W, right):
                factor.keep(crew, narrow=False, apart=False)
            first = 0.0
            for _ in range(max_iter):
                violation = problem.solve_w(crew, right, W, Sweeps()).violation
                first = first or violation
                if violation <= tol * first:
                    break
    return np.ascontiguousarray(W.new[:, :k])
