"""Rows of user factors against item factors that stay, compiled, for every objective but the plain one.

Importing it imports numba. The plain objective's rows all share one matrix: `kernels.halfstep` solves it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

__all__ = ["rows"]

_compiled: Callable[[Callable[..., Any]], Any] = numba.njit(nogil=True, error_model="numpy", cache=True)

SMALLEST = 1e-300  # a curvature under this is none


@_compiled
def rows(
    lo: int, hi: int, indptr: Any, indices: Any, data: Any, items: Any, gram: Any, unobserved: float, confidence: float,
    l1: Any, l2: Any, towards: Any, start: Any, free: Any, sweeps: int, tol: float, out: Any,
) -> None:  # fmt: skip
    """Row u of `out`, lo ≤ u < hi, by coordinate descent on ½·w·A·w − b·w over w ≥ 0 (see `pipeline.foldin`).

    Parameters
    ----------
    indptr, indices, data : CSR of the scores, int64, int32, float32
    items : (n_items, k) float32; gram : (k, k) float64, itemsᵀ·items
    unobserved, confidence : w₀ and how much a cell's weight grows with its score
    l1, l2, towards : (n, k) float64, what a row's b loses, what is added to A's diagonal, what b gains
    start : (k,) float64 where the sweeps begin; free : (k,) which components move
    sweeps, tol : at most so many sweeps, or until one moves the row by less than tol of its length, both in the
        norm Σ A_tt·w_t²
    out : (n, k) float32
    """
    k = gram.shape[0]
    A = np.empty((k, k), np.float64)
    slope = np.empty(k, np.float64)  # A·w − b, kept up to date
    w = np.empty(k, np.float64)
    h = np.empty(k, np.float64)
    for u in range(lo, hi):
        for t in range(k):
            slope[t] = l1[u, t] - towards[u, t]
            for r in range(k):
                A[t, r] = unobserved * gram[t, r]
            A[t, t] += l2[u, t]
        for p in range(indptr[u], indptr[u + 1]):
            score = np.float64(data[p])
            weight = 1 + confidence * score
            for t in range(k):
                h[t] = items[indices[p], t]
                slope[t] -= weight * score * h[t]
            for t in range(k):
                share = (weight - unobserved) * h[t]
                if share != 0:
                    for r in range(k):
                        A[t, r] += share * h[r]
        for t in range(k):
            w[t] = start[t]
            if w[t] != 0:
                for r in range(k):
                    slope[r] += w[t] * A[t, r]
        for _ in range(sweeps):
            moved = 0.0
            length = 0.0
            for t in range(k):
                if free[t] and A[t, t] > SMALLEST:
                    new = max(0.0, w[t] - slope[t] / A[t, t])
                    change = new - w[t]
                    if change != 0:
                        for r in range(k):
                            slope[r] += change * A[t, r]
                        w[t] = new
                    moved += A[t, t] * change * change
                    length += A[t, t] * new * new
            if moved <= tol * tol * length:
                break
        for t in range(k):
            out[u, t] = w[t]
