"""The slow, obvious twins of models that are linear in a user's history."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ease_scores", "elsa_items", "elsa_loss", "elsa_scores"]


def ease_scores(histories: ArrayLike, regularization: float, fitted_to: ArrayLike | None = None) -> NDArray[np.float64]:
    """Scores (n, n_items) of EASE (Steck 2019), item by item: ridge regression of its column on all the others."""
    x = np.asarray(histories, np.float64)
    cells = x if fitted_to is None else np.asarray(fitted_to, np.float64)
    n = cells.shape[1]
    weights = np.zeros((n, n))
    for item in range(n):
        others = [j for j in range(n) if j != item]
        if others:
            a = cells[:, others]
            ridge = a.T @ a + regularization * np.eye(n - 1)
            weights[others, item] = np.linalg.solve(ridge, a.T @ cells[:, item])
    return x @ weights


def elsa_scores(histories: ArrayLike, items: ArrayLike) -> NDArray[np.float64]:
    """X(AAᵀ − I), (n, n_items)."""
    x, a = np.asarray(histories, np.float64), np.asarray(items, np.float64)
    return x @ (a @ a.T - np.eye(a.shape[0]))


def elsa_loss(rows: ArrayLike, x: ArrayLike) -> float:
    """Mean squared distance of each user's history and scores, both of length 1; `rows` have any length."""
    rows, x = np.asarray(rows, np.float64), np.asarray(x, np.float64)
    y = elsa_scores(x, rows / np.linalg.norm(rows, axis=1, keepdims=True))
    unit_x, unit_y = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))
    return float(((unit_x - unit_y) ** 2).sum(axis=1).mean())


def elsa_items(x: ArrayLike, k: int, rate: float, steps: int, seed: int) -> tuple[NDArray[np.float64], list[float]]:
    """A after so many steps of Nadam, each on a tenth of the users, and the losses; gradients by differences."""
    x = np.asarray(x, np.float64)
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(x.shape[1], k))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    mean, square = np.zeros_like(rows), np.zeros_like(rows)
    size, losses = -(-len(x) // 10), []
    for t in range(1, steps + 1):
        part = (t - 1) % 10
        if part == 0:
            order = rng.permutation(len(x))
        users = order[part * size : (part + 1) * size]
        batch = x[users if len(users) else order[:size]]
        losses.append(elsa_loss(rows, batch))
        gradient = np.zeros_like(rows)
        for place in np.ndindex(rows.shape):
            moved = rows.copy()
            moved[place] += 1e-5
            up = elsa_loss(moved, batch)
            moved[place] -= 2e-5
            gradient[place] = (up - elsa_loss(moved, batch)) / 2e-5
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        ahead = 0.9 * mean / (1 - 0.9 ** (t + 1)) + 0.1 * gradient / (1 - 0.9**t)
        rows = rows - rate * ahead / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), losses
