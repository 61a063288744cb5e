"""The slow, obvious twin of alternating least squares: one system of equations a row, from a dense array in float64.

`X` is a dense array with NaN where nothing was observed; formulas as in `naive_weighted`.
"""

from __future__ import annotations

import numpy as np

from support.naive_weighted import lam, loss, weights


def solve(X, F, objective, items=False):
    """Each row's w (m, k) of least loss for X (m, n) ≈ W·Fᵀ, by Cholesky."""
    C, T = weights(X, objective)
    sizes = lam(X, objective.alpha_H if items else objective.alpha_W, objective)
    F = np.asarray(F, np.float64)
    rows = []
    for c, target, size in zip(C, T, sizes, strict=True):
        L = np.linalg.cholesky((F.T * c) @ F + size * np.eye(F.shape[1]))
        rows.append(np.linalg.solve(L.T, np.linalg.solve(L, F.T @ (c * target))))
    return np.array(rows)


def alternate(X, W, H, objective, iterations):
    """H (n, k), and √(2L) after each iteration: users, then items, each solved exactly and over-relaxed but at the end.

    The losses are from before the items' rows go beyond.
    """
    losses = []
    for i in range(iterations):
        beyond = min(i / (i + 2), 0.75) if i + 1 < iterations else 0.0
        exact_W = solve(X, H, objective)
        W = exact_W + beyond * (exact_W - W)
        exact_H = solve(X.T, W, objective, items=True)
        H = exact_H + beyond * (exact_H - H)
        losses.append(np.sqrt(2 * loss(X, W, exact_H.T, objective)))
    return exact_H, losses
