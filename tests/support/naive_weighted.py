"""The plain twins of the weighted solver: the formulas over whole dense float64 arrays, a component at a time.

`X` is a dense array with NaN where nothing was observed.
"""

from __future__ import annotations

import numpy as np


def weights(X, o):
    """Weight and target of every cell: c and x where observed, w₀ and 0 elsewhere."""
    seen = ~np.isnan(X)
    C = np.where(seen, 1 + o.confidence * X, o.unobserved_weight)
    C[X == 0] = o.dislike_weight
    return C, np.where(seen, X, 0.0)


def lam(X, alpha, o):
    """λ of each row."""
    seen = np.count_nonzero(~np.isnan(X), axis=1)
    return alpha * (seen + o.unobserved_weight * (X.shape[1] - seen)) ** o.reg_exponent


def roles(k, o, items):
    """'' for a component, 'bias' or 'fixed'."""
    names = [""] * k
    if o.biases:
        names[k - 2], names[k - 1] = ("bias", "fixed") if items else ("fixed", "bias")
    return names


def penalty(row, size, k, o, items):
    """A row's."""
    total = 0.0
    for t, role in enumerate(roles(k, o, items)):
        if role == "bias":
            total += size * 0.5 * (row[t] - o.bias_prior) ** 2
        elif role == "":
            total += size * (o.l1_ratio * row[t] + 0.5 * (1 - o.l1_ratio) * row[t] ** 2)
    return total


def loss(X, W, H, o):
    """L: the cells, and the penalties of users and items."""
    W, H = np.array(W, np.float64), np.array(H, np.float64)
    C, T = weights(X, o)
    k = W.shape[1]
    cells = np.sum(0.5 * C * (T - W @ H) ** 2)
    users = sum(penalty(W[u], size, k, o, False) for u, size in enumerate(lam(X, o.alpha_W, o)))
    items = sum(penalty(H[:, i], size, k, o, True) for i, size in enumerate(lam(X.T, o.alpha_H, o)))
    return cells + users + items


def slope(X, F, W, o, items, t):
    """∂L/∂W[:, t] (m,) for X (m, n) ≈ W·Fᵀ; 0 for a fixed component."""
    role = roles(W.shape[1], o, items)[t]
    if role == "fixed":
        return np.zeros(len(W))
    C, T = weights(X, o)
    of_cells = (C * (W @ F.T - T)) @ F[:, t]
    sizes = lam(X, o.alpha_H if items else o.alpha_W, o)
    if role == "bias":
        return of_cells + sizes * (W[:, t] - o.bias_prior)
    return of_cells + sizes * (o.l1_ratio + (1 - o.l1_ratio) * W[:, t])


def gradient(X, F, W, o, items=False):
    """∂L/∂W (m, k)."""
    F, W = np.array(F, np.float64), np.array(W, np.float64)
    return np.stack([slope(X, F, W, o, items, t) for t in range(W.shape[1])], axis=1)


def sweep(X, F, W, o, items=False, sweeps=1):
    """Coordinate descent on the rows of W (m, k); what is 0, and whose slope at W would not let it grow, rests."""
    F, W = np.array(F, np.float64), np.array(W, np.float64)
    C, _ = weights(X, o)
    sizes = lam(X, o.alpha_H if items else o.alpha_W, o)
    rests = (W == 0) & (gradient(X, F, W, o, items) >= 0)
    for _ in range(sweeps):
        for t, role in enumerate(roles(W.shape[1], o, items)):
            if role == "fixed":
                continue
            slopes = slope(X, F, W, o, items, t)
            share = 1.0 if role == "bias" else 1 - o.l1_ratio
            curvatures = C @ F[:, t] ** 2 + sizes * share
            for u, curvature in enumerate(curvatures):
                if rests[u, t] and (role != "bias" or o.bias_prior == 0):
                    continue
                if curvature > 0:
                    W[u, t] = max(W[u, t] - slopes[u] / curvature, 0.0)
                else:
                    W[u, t] = o.bias_prior if role == "bias" else 0.0
    return W


def step(X, F, W, o, items=False, steps=1):
    """Steps of the rows of W (m, k) to the best (1 + b)·w + a·d ≥ 0 with d = max(-w, -3·gradient / curvature)."""
    F, W = np.array(F, np.float64), np.array(W, np.float64)
    C, _ = weights(X, o)
    ridge = lam(X, o.alpha_H if items else o.alpha_W, o) * (1 - o.l1_ratio)
    for _ in range(steps):
        slopes = gradient(X, F, W, o, items)
        for u, (w, g) in enumerate(zip(W, slopes, strict=True)):
            A = (F.T * C[u]) @ F + ridge[u] * np.eye(len(w))
            curves = np.where(np.diag(A) > 0, np.diag(A), np.inf)
            d = np.maximum(-w, -3 * g / curves)
            if not (g @ d < 0 and d @ A @ d > 0):
                continue
            plane = np.stack([d, w])
            bent, along = plane @ A @ plane.T, plane @ g
            a, b = min(-along[0] / bent[0, 0], 1), 0
            if np.linalg.det(bent) > 1e-4 * bent[0, 0] * bent[1, 1]:
                inner = np.linalg.solve(bent, -along)
                if 0 < inner[0] <= 1 + inner[1]:
                    a, b = inner
                elif inner[0] > 0 and inner[1] > -1:  # the best multiple of w + d
                    a = max(0, (w + d) @ (A @ w - g) / ((w + d) @ A @ (w + d)))
                    b = a - 1
            W[u] = np.maximum((1 + b) * w + a * d, 0)
    return W


def kkt(X, F, W, o, items=False):
    """The largest breach of w ≥ 0, gradient ≥ 0, w·gradient = 0, over the size of the data's part of it."""
    slope = gradient(X, F, W, o, items)
    C, T = weights(X, o)
    assert (W >= 0).all()
    return np.abs(np.where(W > 0, slope, np.minimum(slope, 0))).max() / max((C * T @ F).max(), 1e-300)
