"""The slow, obvious twins of the NMF solver: loops over dense float64 arrays, one coordinate at a time."""

from __future__ import annotations

import numpy as np


def half_step(X, F, W, sweeps=1, l1=0.0, l2=0.0):
    """Coordinate descent on the rows of W (m, k) for X (m, n) ≈ W·Fᵀ, F (n, k) → W, Σ |projected gradient|."""
    X, F, W = (np.array(a, np.float64) for a in (X, F, W))
    k = W.shape[1]
    violation = 0.0
    for u in range(len(W)):
        for sweep in range(sweeps):
            for t in range(k):
                gradient = -sum((X[u, i] - W[u] @ F[i]) * F[i, t] for i in range(len(F))) + l1 + l2 * W[u, t]
                curvature = sum(F[i, t] ** 2 for i in range(len(F))) + l2
                if sweep == 0:
                    violation += abs(min(0.0, gradient) if W[u, t] == 0 else gradient)
                if curvature > 0:
                    W[u, t] = max(W[u, t] - gradient / curvature, 0.0)
    return W, violation


def alternate(X, W, H, iterations, penalty=(0.0, 0.0, 0.0, 0.0)):
    """`iterations` times a sweep over W and one over H; penalty is l1_W, l2_W, l1_H, l2_H."""
    l1_W, l2_W, l1_H, l2_H = penalty
    for _ in range(iterations):
        W, _ = half_step(X, H.T, W, 1, l1_W, l2_W)
        Ht, _ = half_step(np.asarray(X).T, W, H.T, 1, l1_H, l2_H)
        H = Ht.T
    return W, H


def loss(X, W, H, penalty=(0.0, 0.0, 0.0, 0.0)):
    """√(2L), cell by cell."""
    X, W, H = (np.array(a, np.float64) for a in (X, W, H))
    l1_W, l2_W, l1_H, l2_H = penalty
    cells = sum((X[u, i] - W[u] @ H[:, i]) ** 2 for u in range(len(X)) for i in range(X.shape[1]))
    return np.sqrt(
        cells + l2_W * (W**2).sum() + l2_H * (H**2).sum() + 2 * (l1_W * np.abs(W).sum() + l1_H * np.abs(H).sum())
    )


def kkt(X, F, W, l1=0.0, l2=0.0):
    """The largest breach of w ≥ 0, gradient ≥ 0, w·gradient = 0, over the size of b: 0 at the solution for W."""
    X, F, W = (np.array(a, np.float64) for a in (X, F, W))
    b = X @ F
    gradient = W @ (F.T @ F) - b + l1 + l2 * W
    assert (W >= 0).all()
    return np.abs(np.where(W > 0, gradient, np.minimum(gradient, 0))).max() / max(b.max(), 1e-300)
