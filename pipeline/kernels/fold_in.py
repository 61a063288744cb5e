"""Users' factors given the item factors, compiled, for every objective but the plain one. Imports numba.

Under the plain objective all rows share one matrix A, and `kernels.half_step` solves them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.kernels.arguments import CsrRows, FoldInTerms
from pipeline.kernels.jit import jit

__all__ = ["solve_rows"]

SMALLEST = 1e-300  # a component with a smaller curvature is left as it is


@jit
def solve_rows(cells: CsrRows, terms: FoldInTerms, sweeps: int, tol: float, out: Any, slow: Any) -> None:
    """Rows cells.lo … cells.hi − 1 of `out`, (n, k) float32: each w ≥ 0 minimises ½·w·A·w − b·w.

    A and b are those of `pipeline.models.fold_in`. Coordinate descent does at most `sweeps` sweeps, and ends when one
    moves the row by less than `tol` of its length, both in the norm Σ A_tt·w_t². slow (n,) bool: out, True for a row
    that still moves after the last sweep, whose A is nearly singular.
    """
    indptr, indices, data = cells.indptr, cells.indices, cells.data
    items, gram, unobserved, confidence = terms.items, terms.gram, terms.unobserved, terms.confidence
    zero = terms.zero
    l1, l2, towards, start, free = terms.l1, terms.l2, terms.towards, terms.start, terms.free
    k = gram.shape[0]
    A = np.empty((k, k), np.float64)
    slope = np.empty(k, np.float64)  # A·w − b, updated at every step
    w = np.empty(k, np.float64)
    h = np.empty(k, np.float64)
    for u in range(cells.lo, cells.hi):
        for t in range(k):
            slope[t] = l1[u, t] - towards[u, t]
            for r in range(k):
                A[t, r] = unobserved * gram[t, r]
            A[t, t] += l2[u, t]
        for p in range(indptr[u], indptr[u + 1]):
            score = np.float64(data[p])
            weight = 1 + confidence * score if score != 0 else zero
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
        slow[u] = True
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
                slow[u] = False
                break
        for t in range(k):
            out[u, t] = w[t]
