"""The slow, obvious twins of `pipeline.models.biased_mf` and `bayesian_mf`: row by row and cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.models.bayesian_mf import draw_prior

__all__ = ["als", "gibbs", "loss", "sgd_epoch", "solved_row"]

Cells = Sequence[tuple[int, int, float]]  # user, item, score
Floats = NDArray[np.float64]


def _predicted(P: Any, Q: Any, u: int, i: int) -> float:
    k = P.shape[1] - 1
    return float(P[u, k]) + float(Q[i, k]) + sum(float(P[u, t]) * float(Q[i, t]) for t in range(k))


def loss(cells: Cells, P: Any, Q: Any, strength: float, exponent: float) -> float:
    """½ Σ (r − r̂)² + ½ Σ strength·n^exponent·‖row‖² over the rows of both sides."""
    total = sum((r - _predicted(P, Q, u, i)) ** 2 for u, i, r in cells)
    for side, rows in enumerate((P, Q)):
        for row in range(len(rows)):
            n = max(1, sum(cell[side] == row for cell in cells))
            total += strength * n**exponent * sum(float(x) ** 2 for x in rows[row])
    return total / 2


def sgd_epoch(cells: Cells, P: Any, Q: Any, rate: float, shrink: Sequence[Any]) -> tuple[Floats, Floats]:
    """A step at each cell, in order: both rows move by what the rows were before it."""
    P, Q = P.astype(np.float64), Q.astype(np.float64)
    k = P.shape[1] - 1
    for u, i, r in cells:
        error = r - _predicted(P, Q, u, i)
        p, q = P[u].copy(), Q[i].copy()
        for t in range(k + 1):
            P[u, t] += rate * (error * (q[t] if t < k else 1) - shrink[0][u] * p[t])
            Q[i, t] += rate * (error * (p[t] if t < k else 1) - shrink[1][i] * q[t])
    return P, Q


def solved_row(features: Any, left: Any, ridge: float, z: Any = 0.0, of_cells: Any = None) -> Floats:
    """x̂ = (FᵀF + ridge·I)⁻¹Fᵀ·left; with noise a draw from N(x̂, (FᵀF + ridge·I)⁻¹).

    Rows with fewer cells than features are drawn by way of the prior (Bhattacharya et al. 2016, algorithm 1).
    """
    F, y = np.asarray(features, np.float64), np.asarray(left, np.float64)
    d = F.shape[1]
    A = F.T @ F + ridge * np.eye(d)
    if of_cells is not None and len(y) < d:
        start = np.asarray(z, np.float64) / ridge**0.5
        weights = np.linalg.solve(F @ F.T / ridge + np.eye(len(y)), y - F @ start - of_cells)
        return start + F.T @ weights / ridge
    upper = np.linalg.cholesky(A).T
    return np.linalg.solve(A, F.T @ y) + np.linalg.solve(upper, np.broadcast_to(z, d))


def als(cells: Cells, P: Any, Q: Any, strength: float, exponent: float) -> tuple[Floats, Floats]:
    """Every user's row given the items', then every item's given the users'."""
    P, Q = P.astype(np.float64), Q.astype(np.float64)
    for side, (own, other) in enumerate(((P, Q), (Q, P))):
        for row in range(len(own)):
            rated = [(cell[1 - side], cell[2]) for cell in cells if cell[side] == row]
            F = np.array([[*other[j, :-1], 1.0] for j, _ in rated]).reshape(-1, own.shape[1])
            left = np.array([r - other[j, -1] for j, r in rated])
            own[row] = solved_row(F, left, strength * max(1, len(rated)) ** exponent)
    return P, Q


def gibbs(
    cells: Cells, P: Any, Q: Any, alpha: float, rng: np.random.Generator, iterations: int
) -> tuple[Floats, Floats, float]:
    """Both sides and α after so many iterations, drawn with the numbers that `bayesian_mf.sample` draws, in its order.

    cells : by user, then by item
    """
    P, Q = P.astype(np.float64), Q.astype(np.float64)
    d = P.shape[1]
    for _ in range(iterations):
        for side, (own, other) in enumerate(((P, Q), (Q, P))):
            mean, precision, _ = draw_prior(own.astype(np.float32), rng)
            z_rows = rng.standard_normal(own.shape, np.float32)
            z_cells = iter(rng.standard_normal(len(cells), np.float32))
            lower = np.linalg.cholesky(precision)
            for row in range(len(own)):
                rated = sorted((cell[1 - side], cell[2]) for cell in cells if cell[side] == row)
                F = np.array([[*other[j, :-1], 1.0] for j, _ in rated]).reshape(-1, d)
                left = np.array([r - other[j, -1] for j, r in rated]) - F @ mean
                noise = np.array([next(z_cells) for _ in rated])
                white = F @ np.linalg.inv(lower).T
                z = solved_row(alpha**0.5 * white, alpha**0.5 * left, 1.0, z_rows[row], noise)
                own[row] = mean + np.linalg.solve(lower.T, z)
        errors = sum((r - _predicted(P, Q, u, i)) ** 2 for u, i, r in cells)
        alpha = float(rng.gamma(len(cells) / 2 + 1, 1 / (errors / 2 + 1)))
    return P, Q, alpha
