"""Non-negative factorization under the weighted objective of `pipeline.objective`: its alternation, on arrays.

Observed cells count by their confidence, all the others by `unobserved_weight`, biases may be among the components.
The loss of an iterate, L as in `pipeline.objective`, is known exactly from what the half-step of H computes:

    Σ_obs ½c·x² + Σ_i (½ h·A_i·h − b_i·h) + the penalty of W

where A and b are those of `pipeline.kernels.weighted`. No users × items array is made.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import sparse

from pipeline.crew import Crew
from pipeline.errors import UsageError
from pipeline.objective import Objective
from pipeline.solvers.halves import Floats
from pipeline.solvers.nmf import Factorization, OnIteration, Penalty, factorize, fold_in
from pipeline.solvers.weighted_halves import WeightedFactor, WeightedHalf

__all__ = ["factorize_weighted", "fold_in_weighted", "mean_score"]

WINDOW = 10  # iterations over which the loss must fall by more than tol
SWEEPS = 4  # of a half-step: all but the first pass over a row's few components that are not 0
GENTLE = 2  # iterations of one sweep: from a random start exact solutions are not worth their time
BETA, GROW, GROW_MOST, SHRINK = 0.5, 1.02, 1.005, 1.5  # the extrapolation's length (Ang & Gillis 2019, algorithm 2)


def mean_score(X: Any, objective: Objective) -> float:
    """The score that alone fits best, Σ c·x / (Σ_obs c + w₀·unobserved cells): X's mean for the plain objective."""
    x = X.data.astype(np.float64)
    c = 1 + objective.confidence * x
    cells = float(c.sum()) + objective.unobserved_weight * (math.prod(X.shape) - x.size)
    return float(np.dot(c, x)) / cells if cells > 0 else 0.0


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
    keep_interrupted: bool = False,
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
    keep_interrupted : as in `pipeline.solvers.nmf.factorize_rows`

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
            on_iteration=on_iteration, keep_interrupted=keep_interrupted,
        )  # fmt: skip
    _check(objective, k)
    rows = WeightedHalf.of(X, k, objective, items=False)
    columns = WeightedHalf.of(X.T.tocsr(), k, objective, items=True)
    x = X.data.astype(np.float64)
    base = 0.5 * float(np.dot((1 + objective.confidence * x) * x, x)) + rows.constant + columns.constant
    left, right = WeightedFactor.of(W.astype(X.dtype, copy=False)), WeightedFactor.of(H.T.astype(X.dtype, copy=False))
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
        converged = interrupted = False
        try:
            converged = _alternate(crew, rows, columns, left, right, base, max_iter, tol, losses, tell)
        except KeyboardInterrupt:  # H.new is the best so far at any moment, and W is solved for it below
            if not keep_interrupted:
                raise
            interrupted = True
        columns.keep(crew, right, right.new, right.own, 0.0)
        value = rows.solve(crew, right, left.new)
        rows.keep(crew, left, left.new, left.own, 0.0)
    loss, data = base + value + right.penalty, base + value - left.penalty - rows.constant - columns.constant
    if losses and not math.isfinite(losses[-1]):
        loss = math.inf
    return Factorization(
        np.ascontiguousarray(left.new[:, :k]), np.ascontiguousarray(right.new[:, :k].T), len(losses), converged,
        _root(loss), _root(data), losses, interrupted,
    )  # fmt: skip


def _alternate(
    crew: Crew,
    rows: WeightedHalf,
    columns: WeightedHalf,
    W: WeightedFactor,
    H: WeightedFactor,
    base: float,
    max_iter: int,
    tol: float,
    losses: list[float],
    tell: Any,
) -> bool:
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
    rows = WeightedHalf.of(X, k, objective, items=False)
    right = WeightedFactor.of(H.T)
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
