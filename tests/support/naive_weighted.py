"""The slow, obvious twins of the weighted solver: loops over cells of dense float64 arrays.

`X` is a dense array with NaN where nothing was observed.
"""

from __future__ import annotations

import numpy as np


def weights(X, o):
    """Weight and target of every cell: c and x where observed, w₀ and 0 elsewhere."""
    C, T = np.empty(X.shape), np.empty(X.shape)
    for u in range(X.shape[0]):
        for i in range(X.shape[1]):
            seen = not np.isnan(X[u, i])
            C[u, i] = 1 + o.confidence * X[u, i] if seen else o.unobserved_weight
            if X[u, i] == 0:
                C[u, i] = o.dislike_weight
            T[u, i] = X[u, i] if seen else 0.0
    return C, T


def lam(X, alpha, o):
    """λ of each row."""
    out = []
    for row in X:
        seen = sum(not np.isnan(x) for x in row)
        out.append(alpha * (seen + o.unobserved_weight * (len(row) - seen)) ** o.reg_exponent)
    return np.array(out)


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
    """L, cell by cell."""
    W, H = np.array(W, np.float64), np.array(H, np.float64)
    C, T = weights(X, o)
    k = W.shape[1]
    cells = sum(0.5 * C[u, i] * (T[u, i] - W[u] @ H[:, i]) ** 2 for u in range(len(X)) for i in range(X.shape[1]))
    users = sum(penalty(W[u], size, k, o, False) for u, size in enumerate(lam(X, o.alpha_W, o)))
    items = sum(penalty(H[:, i], size, k, o, True) for i, size in enumerate(lam(X.T, o.alpha_H, o)))
    return cells + users + items


def gradient(X, F, W, o, items=False):
    """∂L/∂W (m, k) for X (m, n) ≈ W·Fᵀ; fixed components 0."""
    F, W = np.array(F, np.float64), np.array(W, np.float64)
    C, T = weights(X, o)
    sizes = lam(X, o.alpha_H if items else o.alpha_W, o)
    slopes = np.zeros(W.shape)
    for u in range(len(W)):
        for t, role in enumerate(roles(W.shape[1], o, items)):
            if role == "fixed":
                continue
            slopes[u, t] = sum(C[u, i] * (W[u] @ F[i] - T[u, i]) * F[i, t] for i in range(len(F)))
            if role == "bias":
                slopes[u, t] += sizes[u] * (W[u, t] - o.bias_prior)
            else:
                slopes[u, t] += sizes[u] * (o.l1_ratio + (1 - o.l1_ratio) * W[u, t])
    return slopes


def sweep(X, F, W, o, items=False, sweeps=1):
    """Coordinate descent on the rows of W (m, k); after the first sweep what is 0 rests."""
    F, W = np.array(F, np.float64), np.array(W, np.float64)
    C, _ = weights(X, o)
    sizes = lam(X, o.alpha_H if items else o.alpha_W, o)
    for number in range(sweeps):
        for t, role in enumerate(roles(W.shape[1], o, items)):
            if role == "fixed":
                continue
            slope = gradient(X, F, W, o, items)[:, t]
            for u in range(len(W)):
                if number > 0 and W[u, t] == 0:
                    continue
                share = 1.0 if role == "bias" else 1 - o.l1_ratio
                curvature = sum(C[u, i] * F[i, t] ** 2 for i in range(len(F))) + sizes[u] * share
                if curvature > 0:
                    W[u, t] = max(W[u, t] - slope[u] / curvature, 0.0)
                else:
                    W[u, t] = o.bias_prior if role == "bias" else 0.0
    return W


def kkt(X, F, W, o, items=False):
    """The largest breach of w ≥ 0, gradient ≥ 0, w·gradient = 0, over the size of the data's part of it."""
    slope = gradient(X, F, W, o, items)
    C, T = weights(X, o)
    assert (W >= 0).all()
    return np.abs(np.where(W > 0, slope, np.minimum(slope, 0))).max() / max((C * T @ F).max(), 1e-300)
