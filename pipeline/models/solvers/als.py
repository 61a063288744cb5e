"""Alternating least squares under the weighted objective of `pipeline.models.objective`, factors of any sign.

Each half-step takes every row some steps of conjugate gradients from where it was (`pipeline.kernels.als`). They find
the best x' among some directions, and the row goes on to x' + β·(x' − x), which is over-relaxation (Young 1971): the
iterations to a loss are half as many. A row's part of the loss falls by 1 − β² of what it falls to x', so it never
rises. The loss of over-relaxed rows of W and of the x' of H is known exactly from what the half-step of H computes:

    L = Σ_obs ½c·x² + Σ_i (½ h·A_i·h − b_i·h) + Σ_u ½λ_u·‖w_u‖²

These H are the result. No users × items array is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.kernels import compiled
from pipeline.kernels.arguments import AlsTerms
from pipeline.models.objective import Objective
from pipeline.models.solvers.engine import LOCAL
from pipeline.models.solvers.half_steps import PaddedFactor, padded
from pipeline.models.solvers.iterations import Iterations
from pipeline.models.solvers.steps import Engine, OpenEngine, Side, Step
from pipeline.models.solvers.stored_side import sum_over
from pipeline.runtime.blas import one_blas_thread
from pipeline.runtime.threads import ThreadPool

__all__ = ["AlsResult", "factorize_als"]

Floats = NDArray[np.float32]
STEPS = 3  # of conjugate gradients in a half-step: from where a row was, more are not worth their time
BEYOND = 0.75  # the most that β becomes; iteration i, from 0, has i / (i + 2)
PIECE = 4096  # rows that are rotated at a time
LEAST = 1e-6  # share of the largest eigenvalue that the preconditioner counts at least


class AlsResult(NamedTuple):
    """H (k, n_items) in C order, and √(2L) after each iteration, the least so far, of W as it was then."""

    H: Floats
    losses: list[float]
    converged: bool
    interrupted: bool


@dataclass(eq=False)
class _Half:
    """One half-step: a side of X, λ of each row, and the factor that it solves for.

    Attributes
    ----------
    lam : (rows,) float32
    rows, spare : (rows, width) float32, the factor, and what it is rotated into
    out : further arrays (rows, width), or none: what the next half-step finds, before it goes beyond
    """

    side: Side
    lam: Floats
    rows: Floats
    spare: Floats
    out: tuple[Floats, ...] = ()

    @classmethod
    def of(cls, side: Side, columns: int, start: Floats, alpha: float, objective: Objective) -> _Half:
        n = side.counts.astype(np.float64)
        if start.shape[0] != n.size:  # a compiled kernel would write past its end
            raise ValueError(f"A start of {n.size} rows is needed, got {start.shape}")
        weight = n + objective.unobserved_weight * (columns - n)
        rows = padded(start)
        lam = (alpha * weight**objective.reg_exponent).astype(np.float32)
        return cls(side, lam, rows, padded(start))

    def gram(self, threads: ThreadPool) -> NDArray[np.float64]:
        """rowsᵀ·rows (width, width)."""
        factor = PaddedFactor(self.rows, self.rows.shape[1])
        factor.keep(threads, narrow=False, apart=False)
        return factor.gram

    def rotate(self, threads: ThreadPool, basis: Floats) -> None:
        """Multiply the rows by `basis` (width, width)."""
        kernel, n, rows, out = compiled("als").rotate_rows, self.rows.shape[0], self.rows, self.spare
        threads.run(lambda i: kernel(i * PIECE, min(n, (i + 1) * PIECE), rows, basis, out), -(-n // PIECE))
        self.rows, self.spare = out, rows


def factorize_als(
    X: sparse.csr_matrix,
    W: Floats,
    H: Floats,
    objective: Objective,
    *,
    n_threads: int | None = None,
    engine: Engine = LOCAL,
    **limits: Any,
) -> AlsResult:
    """H from a start.

    Parameters
    ----------
    X : CSR (canonical) (m, n) float32, finite, ≥ 0; its stored cells are the observed ones
    W, H : (m, k) and (n, k) float32, the start; never altered
    objective : without L1 and biases
    n_threads : default, the cores this process may use; the result is the same for any number
    engine : carries out the half-steps
    limits : fields of `Iterations`; they stop when √(2L) has fallen by less than tol·√(2L) in ten iterations

    Raises
    ------
    ValueError
        Where a start has another number of rows than X has users, or items.
    """
    iterations, k, converged = Iterations(**limits), W.shape[1], False
    base = 0.5 * sum_over(X, lambda x: float(np.einsum("i,i", (1 + objective.confidence * x) * x, x)))

    with one_blas_thread(), engine.open(n_threads) as at_work:
        by_user, by_item = at_work.sides(X, k)
        assert by_item is not None  # noqa: S101 - asked for
        users = _Half.of(by_user, X.shape[1], W, objective.alpha_W, objective)
        items = _Half.of(by_item, X.shape[0], H, objective.alpha_H, objective)
        best, items.out = padded(H), (padded(H),)
        # The most iterations decide which one is the last.
        if (state := at_work.resume(f"als {objective} {iterations.tol} {iterations.max_iter}", (W, H))) is not None:
            users.rows, items.rows, best = state["users"], state["items"], state["best"]
            iterations.put_back(state)
            converged = bool(state["converged"])
        with iterations.interruptible():
            while iterations.left and not converged:
                i, converged = len(iterations.losses), iterations.stalled
                # The last iteration goes nowhere beyond: that takes out what the others have left to vanish.
                beyond = 0.0 if converged or i + 1 == iterations.max_iter else min(i / (i + 2), BEYOND)
                _, penalty = _half_step(at_work, users, items, objective, k, beyond)
                value, _ = _half_step(at_work, items, users, objective, k, beyond)
                loss = base + value + penalty
                told = math.sqrt(2 * max(loss, 0.0)) if math.isfinite(loss) else math.inf
                least = min(iterations.losses, default=math.inf)
                if told <= least:
                    best, items.out = items.out[0], (best,)
                iterations.add(min(told, least) if math.isfinite(loss) else math.inf)
                if not math.isfinite(loss):
                    break
                rest = {"best": best, "converged": converged, "losses": iterations.losses}
                at_work.keep({"users": users.rows, "items": items.rows, **rest})
    converged = converged or iterations.stalled
    return AlsResult(np.ascontiguousarray(best[:, :k].T), iterations.losses, converged, iterations.interrupted)


def _half_step(
    engine: OpenEngine, solved: _Half, fixed: _Half, objective: Objective, k: int, beyond: float
) -> tuple[float, float]:
    """Set the rows of `solved`; returns Σ over `out` ½ x·A·x − b·x, and Σ over the rows ½λ·‖x‖²."""
    kind, width = np.float32, fixed.rows.shape[1]
    gram = objective.unobserved_weight * fixed.gram(engine.threads)[:k, :k]
    if not np.isfinite(gram).all():
        return math.inf, math.inf
    eigenvalues, vectors = np.linalg.eigh(gram)
    basis, values = np.zeros((width, width), kind), np.zeros(width, kind)
    basis[:k, :k], values[:k] = vectors, np.maximum(eigenvalues, 0)
    fixed.rotate(engine.threads, basis)
    solved.rotate(engine.threads, basis)
    least = kind(max(LEAST * float(values.max()), 1e-30))
    weights = kind(objective.unobserved_weight), kind(objective.confidence), kind(objective.dislike_weight)
    terms = AlsTerms(values, *weights, solved.lam[:0], least, kind(beyond))
    step = Step("als", (fixed.rows, terms, STEPS), (solved.rows, solved.lam), (solved.rows, *solved.out), sums=2)
    value, penalty = engine.run(solved.side, step).sums.sum(axis=0)
    return float(value), float(penalty)
