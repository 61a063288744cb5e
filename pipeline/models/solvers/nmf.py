"""Non-negative matrix factorization X ≈ W·H: the alternation of half-steps and its stopping rules, on arrays.

The objective is scikit-learn's, over all cells, the empty ones as 0:

    L(W, H) = ½‖X − W·H‖² + l1_W·ΣW + l1_H·ΣH + ½·l2_W·‖W‖² + ½·l2_H·‖H‖²

and a *loss* is √(2L): ‖X − W·H‖_F where nothing is penalised. It is had for nothing from what a half-step
computes, ‖X‖² − 2⟨X·Hᵀ, W⟩ + ⟨WᵀW, HHᵀ⟩, without a dense users × items array.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels import compiled
from pipeline.models.solvers.engine import LOCAL
from pipeline.models.solvers.half_steps import (
    Arrays,
    Floats,
    HalfStepResult,
    PaddedFactor,
    Penalty,
    Sweeps,
    at_line,
    half_step,
    padded,
)
from pipeline.models.solvers.iterations import Extrapolation, Factorization, Iterations
from pipeline.models.solvers.sample import begun_with, distance, engine_of, extended, merging, sampled_rows
from pipeline.models.solvers.steps import Engine, OpenEngine, State
from pipeline.models.solvers.stored_side import sum_over
from pipeline.runtime.blas import one_blas_thread

__all__ = ["Factorization", "Penalty", "factorize", "factorize_rows", "fold_in"]

MOST = 2  # sweeps of an iteration
WATCHED = Sweeps(watched=True)
SAMPLED = 12  # iterations over a sample of the rows
PARTS = 8  # of a product of a factor with a small matrix
GENTLE = 6  # iterations of one sweep: solving a random start exactly leads to worse minima
BETA = 0.4  # the first extrapolation
POLISH, POLISH_TOL = 1000, {"float32": 1e-6, "float64": 1e-10}  # sweeps, and the relative move they stop at
NARROW_BYTES = 2**20  # factors under this lie in the cache at full width
NARROW_UNTIL = 1e-6  # relative fall of the loss under which rounding of the fetched factors would show


class _Problem:
    """X by row and by column, ‖X‖², the penalties: everything that stays while the factors change."""

    def __init__(self, engine: OpenEngine, X: Any, k: int, penalty: Penalty, *, columns: bool = True) -> None:
        self.penalty = penalty
        self.rows, self.columns = engine.sides(X, k, columns=columns)
        dense = isinstance(X, np.ndarray)
        self.square = float(np.vdot(X.astype(np.float64), X)) if dense else sum_over(X, _squares)

    def solve_w(
        self, engine: OpenEngine, H: PaddedFactor, W: PaddedFactor, sweeps: Sweeps, into: Arrays | None = None
    ) -> HalfStepResult:
        return half_step(engine, self.rows, H, W, sweeps, (self.penalty.l1_w, self.penalty.l2_w), into)

    def solve_h(
        self, engine: OpenEngine, W: PaddedFactor, H: PaddedFactor, sweeps: Sweeps, into: Arrays | None = None
    ) -> HalfStepResult:
        assert self.columns is not None  # noqa: S101 - fold-in has no use for them
        return half_step(engine, self.columns, W, H, sweeps, (self.penalty.l1_h, self.penalty.l2_h), into)

    def error(self, outcome: HalfStepResult) -> float:
        """‖X − W·H‖² of the other factor's `own` and this one's `new`; rounding is kept from making it negative."""
        return max(self.square - 2 * outcome.cross + outcome.quadratic, 0.0)

    def loss(self, error: float, square_W: float, total_W: float, square_H: float, total_H: float) -> float:
        """√(2L), with error = ‖X − W·H‖² and Σ and Σ² of the factors."""
        p = self.penalty
        return math.sqrt(error + p.l2_w * square_W + p.l2_h * square_H + 2 * (p.l1_w * total_W + p.l1_h * total_H))


def _squares(scores: NDArray[np.float64]) -> float:
    return float(np.einsum("i,i", scores, scores))


def factorize(
    X: Any,
    W: Floats,
    H: Floats,
    *,
    penalty: Penalty | None = None,
    accelerate: bool = True,
    random_start: bool = False,
    n_threads: int | None = None,
    engine: Engine = LOCAL,
    **limits: Any,
) -> Factorization:
    """Both factors, from a start: W (m, k) and H (k, n) ≥ 0, of X's type, never altered.

    `limits` are fields of `Iterations`; the other arguments are those of `factorize_rows`.
    """
    k = W.shape[1]
    left, right = PaddedFactor(padded(W), k), PaddedFactor(padded(H.T), k)
    limited = Iterations(**limits)
    return factorize_rows(X, left, right, penalty or Penalty(), limited, accelerate, random_start, n_threads, engine)


def factorize_rows(
    X: Any,
    W: PaddedFactor,
    H: PaddedFactor,
    penalty: Penalty,
    iterations: Iterations,
    accelerate: bool = True,
    random_start: bool = False,
    n_threads: int | None = None,
    engine: Engine = LOCAL,
) -> Factorization:
    """Both factors, from a start by row that is overwritten: no copy of it needs memory.

    Parameters
    ----------
    X : CSR (canonical) or dense (m, n), float32 or float64, ≥ 0 and finite, or a folder of blocks; never altered
    W, H : the start, `padded`, of m and of n rows
    iterations : accelerated, they stop when the loss has fallen by less than tol·loss in ten iterations; plain, by
        scikit-learn's rule: when Σ |projected gradient| is under tol times that of the first iteration
    accelerate : several sweeps for each product with X, extrapolation with restart, W solved against the
        final H at the end; if not, exactly one sweep a half-step, ending on H, which are scikit-learn's steps
    random_start : W and H tell nothing about X; accelerated, `SAMPLED` iterations over a sample of X's rows, with more
        components, then come first where X is large. `iterations` does not count them. See `sample.py`
    n_threads : default, the cores this process may use; the result is the same for any number
    engine : carries out the half-steps
    """
    k, converged, every = W.k, False, distance(X, W.k) if accelerate and random_start else 0
    if every:
        with iterations.interruptible(), engine_of(X, engine).open(n_threads) as here:
            _begin(X, W, H, every, penalty, iterations.max_iter, here)
    with engine.open(n_threads) as at_work:
        problem = _Problem(at_work, X, k, penalty)
        run = partial(_accelerated, begun=every > 0) if accelerate else _plain
        with iterations.interruptible():
            if not iterations.interrupted:
                converged = run(at_work, problem, W, H, iterations)
        problem.columns = None
        error, loss = _finish(at_work, problem, W, H, ends_on_w=accelerate)
    users, items = np.ascontiguousarray(W.new[:, :k]), np.ascontiguousarray(H.new[:, :k]).T
    losses = iterations.losses
    return Factorization(users, items, len(losses), converged, loss, math.sqrt(error), losses, iterations.interrupted)


def _begin(X: Any, W: PaddedFactor, H: PaddedFactor, every: int, penalty: Penalty, most: int, here: OpenEngine) -> None:
    """The first iterations, with more components, on every so many rows of X: sets these rows of W, and H."""
    k, n = W.k, begun_with(W.k)
    users, items = (PaddedFactor(extended(start, k), n) for start in (W.new[::every], H.new))
    problem = _Problem(here, sampled_rows(X, every), n, penalty.of_sample(every))
    _accelerated(here, problem, users, items, Iterations(min(SAMPLED, most), 0.0))
    for factor in (users, items):
        factor.keep(here.threads, narrow=False, apart=False)
    P, Q = merging(users.gram[:n, :n], items.gram[:n, :n], k)
    with one_blas_thread():
        here.threads.run(partial(_product, users.new[:, :n], P, W.new[::every, :k]), PARTS)
        here.threads.run(partial(_product, items.new[:, :n], Q, H.new[:, :k]), PARTS)


def _product(left: Floats, right: Floats, out: Floats, part: int) -> None:
    """A part of out = left·right, by rows."""
    rows = slice(part * len(out) // PARTS, (part + 1) * len(out) // PARTS)
    out[rows] = left[rows] @ right.astype(out.dtype)


def _plain(engine: OpenEngine, problem: _Problem, W: PaddedFactor, H: PaddedFactor, iterations: Iterations) -> bool:
    """scikit-learn's steps and its stopping rule; returns whether it held."""
    for factor in (W, H):
        factor.keep(engine.threads, narrow=False, apart=False)
    first = 0.0
    while True:
        on_W = problem.solve_w(engine, H, W, WATCHED)
        on_H = problem.solve_h(engine, W, H, WATCHED)
        violation = on_W.violation + on_H.violation
        error = problem.error(on_H)
        iterations.add(problem.loss(error, on_W.square_new, on_W.total_new, on_H.square_new, on_H.total_new))
        first = first or violation
        if violation <= iterations.tol * first:
            return True
        if not iterations.left:
            return False


def _accelerated(
    engine: OpenEngine, problem: _Problem, W: PaddedFactor, H: PaddedFactor, iterations: Iterations, begun: bool = False
) -> bool:
    """Several sweeps a product and extrapolation, taken back when the loss rises (Ang & Gillis 2019).

    The iterate is (W.own, H.new): feasible, and its loss is known exactly. An iteration that raises it is
    undone and followed by a plain one, which can't; so the loss never rises. Leaves the best H.new; returns
    whether the fall of the loss is under `tol`. `begun`: the gentle iterations are done.
    """
    large = W.new.nbytes + H.new.nbytes >= NARROW_BYTES
    narrow = large and problem.rows.dense is None and W.new.dtype == np.float32 and compiled().has_half()
    fit = f"nmf {problem.penalty} {iterations.tol}"
    best, ahead, converged = math.inf, Extrapolation(BETA), False
    if (state := engine.resume(fit, (W.new, H.new))) is None:
        W.keep(engine.threads, narrow=narrow)
        H.keep(engine.threads, narrow=narrow)
    else:
        best, narrow, converged = _go_on(state, W, H, ahead, iterations)
    spare_W, spare_H = at_line(W.own.shape, W.own.dtype), at_line(H.new.shape, H.new.dtype)
    best_H = H.new  # never written to while it is the best
    # A row's product with X takes less time than a sweep where it has fewer cells than components.
    train = Sweeps(MOST, once_under=W.k)
    try:
        while iterations.left and not converged:
            own, new, plain = W.own, H.new, ahead.plain
            sweeps = train if begun or len(iterations.losses) >= GENTLE else Sweeps()
            past_W = replace(sweeps, beta=0.0 if ahead.plain else ahead.beta)
            on_W = problem.solve_w(engine, H, W, past_W, (spare_W, W.new))
            on_H = problem.solve_h(engine, W, H, replace(sweeps, beta=ahead.beta), (H.own, spare_H))
            square_W = float(np.trace(W.gram))
            loss = problem.loss(problem.error(on_H), square_W, on_W.total_own, on_H.square_new, on_H.total_new)
            fall = best - loss
            if fall >= 0:
                best, best_H, spare_W, spare_H = loss, H.new, own, new
                ahead.lengthen()
            else:
                spare_W, spare_H, W.own, H.new = W.own, H.new, own, new
                H.keep(engine.threads, narrow=narrow)
                converged = ahead.plain and not narrow  # a plain step that gains nothing: rounding is all that is left
                ahead.shorten()
            # An extrapolated step that raised the loss tells nothing of rounding: the next, plain one does.
            if narrow and fall < NARROW_UNTIL * best and (fall >= 0 or plain):
                narrow = False
                W.widen()
                H.keep(engine.threads, narrow=False)
                spare_W = at_line(W.own.shape, W.own.dtype)
            iterations.add(best)
            converged = converged or iterations.stalled or best == 0
            rest = {"narrow": narrow, "converged": converged, **vars(ahead), "losses": iterations.losses}
            engine.keep({**W.as_state("W"), **H.as_state("H"), **rest})
    finally:
        H.new = best_H
    return converged


def _go_on(
    state: State, W: PaddedFactor, H: PaddedFactor, ahead: Extrapolation, iterations: Iterations
) -> tuple[float, bool, bool]:
    """Put everything back as it was at the end of an iteration; returns best, narrow and converged."""
    W.put_back(state, "W")
    H.put_back(state, "H")
    iterations.put_back(state)
    ahead.put_back(state)
    return iterations.losses[-1], bool(state["narrow"]), bool(state["converged"])


def _finish(
    engine: OpenEngine, problem: _Problem, W: PaddedFactor, H: PaddedFactor, *, ends_on_w: bool
) -> tuple[float, float]:
    """‖X − WH‖² and the loss of W.new and H.new, W being solved against H before, where it is to be."""
    on_W = _finish_w(engine, problem, W, H) if ends_on_w else _as_it_is(engine, problem, W, H)
    error = problem.error(on_W)
    square_H, total_H = float(np.trace(H.gram)), float(H.new.sum(dtype=np.float64))
    return error, problem.loss(error, on_W.square_new, on_W.total_new, square_H, total_H)


def _as_it_is(engine: OpenEngine, problem: _Problem, W: PaddedFactor, H: PaddedFactor) -> HalfStepResult:
    """What a half-step of W would tell, no sweep done."""
    for factor in (W, H):
        factor.keep(engine.threads, narrow=False, apart=False)
    return problem.solve_w(engine, H, W, Sweeps(most=0))


def _finish_w(engine: OpenEngine, problem: _Problem, W: PaddedFactor, H: PaddedFactor) -> HalfStepResult:
    """W to tolerance against H as it is, from X and H alone: a row depends on its own cells only."""
    H.keep(engine.threads, narrow=False, apart=False)
    W.own, W.scale = W.new, 1.0
    sweeps = Sweeps(most=POLISH, watched=True, tol=POLISH_TOL[W.new.dtype.name], fresh=True)
    return problem.solve_w(engine, H, W, sweeps)


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
    W = PaddedFactor(np.zeros((X.shape[0], padded(H[:, :1].T).shape[1]), H.dtype), k)
    right = PaddedFactor(padded(H.T), k)
    with LOCAL.open(n_threads) as engine:
        problem = _Problem(engine, X, k, penalty or Penalty(), columns=False)
        if accelerate:
            _finish_w(engine, problem, W, right)
        else:
            for factor in (W, right):
                factor.keep(engine.threads, narrow=False, apart=False)
            first = 0.0
            for _ in range(max_iter):
                violation = problem.solve_w(engine, right, W, WATCHED).violation
                first = first or violation
                if violation <= tol * first:
                    break
    return np.ascontiguousarray(W.new[:, :k])
