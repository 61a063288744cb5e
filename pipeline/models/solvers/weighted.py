"""Non-negative factorization under the weighted objective of `pipeline.models.objective`: its alternation, on arrays.

Observed cells count by their confidence, all the others by `unobserved_weight`, biases may be among the components.
The loss of an iterate, L as in `pipeline.models.objective`, is known exactly from what the half-step of H computes:

    Σ_obs ½c·x² + Σ_i (½ h·A_i·h − b_i·h) + the penalty of W

where A and b are those of `pipeline.kernels.weighted`. No users × items array is made.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from pipeline.errors import UsageError
from pipeline.models.objective import Objective
from pipeline.models.solvers.engine import LOCAL
from pipeline.models.solvers.half_steps import Floats, at_line
from pipeline.models.solvers.iterations import Extrapolation, Factorization, Iterations
from pipeline.models.solvers.nmf import Penalty, factorize, fold_in
from pipeline.models.solvers.steps import Engine, OpenEngine, State
from pipeline.models.solvers.stored_side import sum_over
from pipeline.models.solvers.weighted_half_steps import Penalties, WeightedFactor, WeightedHalf

__all__ = ["factorize_weighted", "fold_in_weighted", "mean_score"]

SWEEPS = 4  # of a half-step, over a row's few components that are not at rest
EARLY, STEPS = (
    12,
    2,
)  # iterations of cheaper steps, and their number: until then exact solutions are not worth their time
GENTLE = 1  # iterations of one sweep, where there are no cheaper steps
BETA = 0.5  # the first extrapolation


def mean_score(X: Any, objective: Objective) -> float:
    """The score that alone fits best, Σ c·x / (Σ_obs c + w₀·unobserved cells): X's mean for the plain objective."""
    total = sum_over(X, lambda x: float(np.einsum("i,i", objective.weights(x), x)))
    cells = sum_over(X, lambda x: float(objective.weights(x).sum()))
    cells += objective.unobserved_weight * (math.prod(X.shape) - X.data.size)
    return total / cells if cells > 0 else 0.0


def factorize_weighted(
    X: sparse.csr_matrix,
    W: Floats,
    H: Floats,
    objective: Objective,
    *,
    n_threads: int | None = None,
    engine: Engine = LOCAL,
    **limits: Any,
) -> Factorization:
    """Both factors, from a start, ending on W solved to tolerance against the final H.

    Parameters
    ----------
    X : CSR (canonical) (m, n), float32 or float64, ≥ 0 and finite; its stored cells are the observed ones, a
        stored 0 too; never altered
    W, H : (m, k) and (k, n) ≥ 0, the start, of X's type; never altered. With biases the last two components
        are theirs: those of W's column k − 1 and of H's row k − 2 are the start, the other two become 1
    n_threads : default, the cores this process may use; the result is the same for any number
    engine : carries out the half-steps
    limits : fields of `Iterations`; they stop when √(2L) has fallen by less than tol·√(2L) in ten iterations

    Returns
    -------
    `losses` and `loss` are √(2L), never rising; infinite where the scores are too large for the type. `error` is L's
    part without penalties, as √(2·): ‖X − W·H‖_F for the plain objective, which the solver of that fits.
    """
    k = W.shape[1]
    if objective.plain:
        plain = _plain_penalty(objective, *X.shape)
        return factorize(X, W, H, penalty=plain, n_threads=n_threads, engine=engine, **limits)
    iterations = Iterations(**limits)
    _check(objective, k)
    converged = False
    with np.errstate(over="ignore", invalid="ignore"), engine.open(n_threads) as at_work:
        problem = _Problem.of(at_work, X, k, objective)
        left, right = _start(problem, W.astype(X.dtype, copy=False), H.T.astype(X.dtype, copy=False))
        with iterations.interruptible():  # H.new is the best so far at any moment, and `_finish` solves for W
            converged = _alternate(at_work, problem, left, right, iterations)
        losses = iterations.losses
        error, loss = _finish(at_work, problem, left, right, finite=all(map(math.isfinite, losses[-1:])))
    return Factorization(
        np.ascontiguousarray(left.new[:, :k]), np.ascontiguousarray(right.new[:, :k].T), len(losses), converged,
        _root(loss), _root(error), losses, iterations.interrupted,
    )  # fmt: skip


class _Problem(NamedTuple):
    """Both halves of a fit, and the part of the loss that no factor changes."""

    rows: WeightedHalf
    columns: WeightedHalf
    base: float

    @classmethod
    def of(cls, engine: OpenEngine, X: sparse.csr_matrix, k: int, objective: Objective) -> _Problem:
        users, items = engine.sides(X, k)
        assert items is not None  # noqa: S101 - asked for
        rows = WeightedHalf.on(users, X.shape[1], k, objective, items=False)
        columns = WeightedHalf.on(items, X.shape[0], k, objective, items=True)
        squares = sum_over(X, lambda x: float(np.einsum("i,i", (1 + objective.confidence * x) * x, x)))
        return cls(rows, columns, 0.5 * squares + rows.constant + columns.constant)


def _start(problem: _Problem, W: Floats, H: Floats) -> tuple[WeightedFactor, WeightedFactor]:
    """The start as padded factors, users then items, both by row; a component that a half holds fixed is 1 in it."""
    left, right = WeightedFactor.of(W), WeightedFactor.of(H)
    for half, factor in ((problem.rows, left), (problem.columns, right)):
        for t in np.flatnonzero(~half.free):
            factor.new[:, t] = 1
            factor.own[:, t] = 1
    return left, right


def _finish(
    engine: OpenEngine, problem: _Problem, left: WeightedFactor, right: WeightedFactor, *, finite: bool
) -> tuple[float, float]:
    """Solve W to tolerance against the final H; the part of L without penalties, and L (infinite unless `finite`)."""
    rows, columns, base = problem
    columns.keep(engine.threads, right, right.new, right.own, 0.0)
    value = rows.solve(engine, right, left.new)
    rows.keep(engine.threads, left, left.new, left.own, 0.0)
    error = base + value - left.penalty - rows.constant - columns.constant
    return error, base + value + right.penalty if finite else math.inf


def _alternate(
    engine: OpenEngine, problem: _Problem, W: WeightedFactor, H: WeightedFactor, iterations: Iterations
) -> bool:
    """Half-steps with extrapolation, taken back when the loss rises (Ang & Gillis 2019); whether `tol` was reached.

    The iterate is (W.own, H.new): feasible, and its loss is known exactly. An iteration that raises it is undone
    and followed by a plain one, which can't; so the loss never rises. Ends with the best iterate in place.
    """
    rows, columns, base = problem
    best, ahead, converged = math.inf, Extrapolation(BETA), False
    if (state := engine.resume(f"weighted {rows.objective} {iterations.tol}", (W.new, H.new))) is None:
        columns.keep(engine.threads, H, H.new, H.own, 0.0)
    else:
        best, converged = _go_on(state, W, H, ahead, iterations)
    spare_W, spare_H = at_line(W.own.shape, W.own.dtype), at_line(H.new.shape, H.new.dtype)
    while iterations.left and not converged:
        own, new = W.own, H.new
        done, past = len(iterations.losses), W.new.copy()
        of_rows = _improve(rows, engine, H, own, W.new, done)
        rows.keep(engine.threads, W, past, spare_W, 0.0 if ahead.plain else ahead.beta)
        value = _improve(columns, engine, W, H.own, spare_H, done)
        # A row whose gradient overflowed became 0, and the columns' half would not show it.
        loss = _root(base + value + W.penalty) if math.isfinite(of_rows) else math.inf
        if not math.isfinite(min(best, loss)):
            iterations.add(math.inf)
            return False
        if loss <= best:
            best, spare_W, H.new = loss, own, spare_H
            columns.keep(engine.threads, H, new, H.own, ahead.beta)
            spare_H = new
            ahead.lengthen()
        else:
            spare_W, W.own = W.own, own
            columns.keep(engine.threads, H, new, H.own, 0.0)
            converged = ahead.plain  # a plain step that gains nothing: rounding is all that is left
            ahead.shorten()
        iterations.add(best)
        converged = converged or iterations.stalled
        rest = {"best": best, "converged": converged, **vars(ahead), "losses": iterations.losses}
        engine.keep({**W.as_state("W"), **H.as_state("H"), **rest})
    return converged


def _improve(
    half: WeightedHalf, engine: OpenEngine, other: WeightedFactor, start: Floats, into: Floats, done: int
) -> float:
    """A half-step after so many iterations; returns as `WeightedHalf.sweep`.

    Where empty cells don't count, a row's few cells leave A nearly singular, and the cheaper steps would be short.
    """
    if done < EARLY and half.objective.unobserved_weight > 0:
        return half.step(engine, other, start, into, STEPS)
    return half.sweep(engine, other, start, into, SWEEPS if done >= GENTLE else 1)


def _go_on(
    state: State, W: WeightedFactor, H: WeightedFactor, ahead: Extrapolation, iterations: Iterations
) -> tuple[float, bool]:
    """Put everything back as it was at the end of an iteration; returns best and converged."""
    W.put_back(state, "W")
    H.put_back(state, "H")
    iterations.put_back(state)
    ahead.put_back(state)
    return float(state["best"]), bool(state["converged"])


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
    W = np.zeros((X.shape[0], right.new.shape[1]), H.dtype)
    with LOCAL.open(n_threads) as engine:
        none = np.zeros((1, right.new.shape[1]))
        right.keep(engine.threads, right.new, right.own, 0.0, Penalties(np.zeros(H.shape[1]), none, none))
        rows.solve(engine, right, W)
    return np.ascontiguousarray(W[:, :k])


def _plain_penalty(objective: Objective, m: int, n: int) -> Penalty:
    on_w, on_h, rho = n * objective.alpha_W, m * objective.alpha_H, objective.l1_ratio
    return Penalty(on_w * rho, on_w * (1 - rho), on_h * rho, on_h * (1 - rho))


def _check(objective: Objective, k: int) -> None:
    if objective.biases and objective.unobserved_weight != 0:
        raise UsageError(
            "biases describe observed scores alone: they need unobserved_weight = 0, "
            f"got {objective.unobserved_weight:g}"
        )
    if objective.dislike_weight < objective.unobserved_weight:
        raise UsageError(
            f"a cell of score 0 must count at least as much as an empty one: dislike_weight is "
            f"{objective.dislike_weight:g}, unobserved_weight {objective.unobserved_weight:g}"
        )
    if objective.biases and k < 2:
        raise UsageError(f"biases are two of the components: n_components must be at least 2, got {k}")
