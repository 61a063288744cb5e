"""Rows of one factor given the other, solved to tolerance under the weighted objective. Importing it imports numba.

The problem of `pipeline.kernels.weighted`, with its A (k × k) formed in float64 for each row: coordinate descent finds
which components are 0, and the others are solved for at once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pipeline.kernels.arguments import CsrRows, ExactRule, RowTerms
from pipeline.kernels.half_step import SMALLEST, add_gram
from pipeline.kernels.jit import jit_reassociating
from pipeline.kernels.simd import accumulate, fill, lanes, load, store
from pipeline.kernels.simd_arithmetic import madd

__all__ = ["BLOCK", "form_row", "solve_rows"]

BLOCK = 64  # a row's cells summed in their own width before they go into float64
FACTORED = 30  # sweeps between two attempts to solve for the components that are not 0


@jit_reassociating
def _solve_active(A: Any, b: Any, w: Any, free: Any, factor: Any, active: Any, limit: float) -> bool:
    """Solve for the components that are not 0, by Cholesky; True, with w set, where that is the row's solution.

    A, b, w : (width, width), (1, width), (1, width) float64; free : (k,) bool
    factor, active : (k, k) float64 and (k,) int64, working memory
    limit : how far a gradient may be under 0 at a component that is 0
    """
    k = free.shape[0]
    n = 0
    for t in range(k):
        if free[t] and w[0, t] > 0:
            active[n] = t
            n += 1
    z = np.empty(n)
    for i in range(n):
        t = active[i]
        right = b[0, t]
        for r in range(k):
            if not free[r]:
                right -= A[t, r] * w[0, r]
        for j in range(i + 1):
            s = A[t, active[j]]
            for p in range(j):
                s -= factor[i, p] * factor[j, p]
            if i > j:
                factor[i, j] = s / factor[j, j]
            elif s > 1e-12 * A[t, t]:
                factor[i, i] = math.sqrt(s)
            else:
                return False
        for p in range(i):
            right -= factor[i, p] * z[p]
        z[i] = right / factor[i, i]
    for i in range(n - 1, -1, -1):
        s = z[i]
        for p in range(i + 1, n):
            s -= factor[p, i] * z[p]
        z[i] = s / factor[i, i]
        if not z[i] > 0:
            return False
    for t in range(k):
        if free[t] and not w[0, t] > 0:
            gradient = -b[0, t]
            for r in range(k):
                if not free[r]:
                    gradient += A[t, r] * w[0, r]
            for i in range(n):
                gradient += A[t, active[i]] * z[i]
            if not gradient >= -limit:
                return False
    for i in range(n):
        w[0, active[i]] = z[i]
    return True


@jit_reassociating
def form_row(row: int, cells: CsrRows, other: Any, terms: RowTerms, rows: Any, A: Any, b: Any) -> None:
    """Set the upper triangle of A (width, width) and b (1, width) float64 to those of one row.

    other : (columns, width) the fixed factor; terms : its arrays and numbers in float64
    rows : (BLOCK, width) in the type of `other`, working memory
    """
    indices, data, gram, lam = cells.indices, cells.data, terms.gram, terms.lam
    first, end = cells.indptr[row], cells.indptr[row + 1]
    width = other.shape[1]
    group = lanes(other, 64)
    zero = fill(other, 0, 64)
    for t in range(width):
        for r in range(width):
            A[t, r] = gram[t, r]
        b[0, t] = lam[row] * terms.pull[0, t]
        A[t, t] += lam[row] * terms.share[0, t]
    for block in range(first, end, BLOCK):
        n = min(BLOCK, end - block)
        for t in range(0, width, group):
            aim = zero
            for j in range(n):
                x = data[block + j]
                c = 1 + terms.confidence * x if x != 0 else terms.zero
                h = load(other, np.intp(indices[block + j]), t, 64)
                aim = madd(c * x, h, aim)
                store(rows, j, t, madd(math.sqrt(c - terms.weight), h, zero))
            accumulate(b, 0, t, aim)
        add_gram(rows, 0, n, width, A)


@jit_reassociating
def solve_rows(cells: CsrRows, other: Any, terms: RowTerms, begin: Any, rule: ExactRule, new: Any, sums: Any) -> None:
    """Rows cells.lo … cells.hi − 1 to tolerance, from nothing but their cells and `other`.

    Parameters
    ----------
    other : (columns, width) the fixed factor
    terms : its arrays and numbers in float64
    begin : (1, width) float64, where the sweeps begin: 1 for a component that is fixed, the prior for a bias, else 0
    new : (rows, width) out
    sums : (1,) float64, to which is added: Σ over rows ½ w·A·w − b·w at the result
    """
    k, free = terms.k, terms.free
    tol = rule.tol
    width = new.shape[1]
    eight = lanes(terms.gram, 64)
    rows = np.zeros((BLOCK, width), new.dtype)
    A = np.empty((width, width))
    b = np.empty((1, width))
    w = np.empty((1, width))
    rest = np.empty((1, width))  # b − A·w
    factor = np.empty((k, k))
    active = np.empty(k, np.int64)
    for row in range(cells.lo, cells.hi):
        form_row(row, cells, other, terms, rows, A, b)
        size = 0.0
        for t in range(k):
            for r in range(t):
                A[t, r] = A[r, t]
            size = max(size, abs(b[0, t]))
        for t in range(width):
            w[0, t] = begin[0, t]
        for t in range(width):
            rest[0, t] = b[0, t]
        for t in range(k):
            if w[0, t] != 0:
                for r in range(0, width, eight):
                    store(rest, 0, r, madd(-w[0, t], load(A, t, r, 64), load(rest, 0, r, 64)))
        for s in range(rule.sweeps):
            moved = 0.0
            length = 0.0
            for t in range(k):
                a = A[t, t]
                if free[t] and a > SMALLEST:
                    old = w[0, t]
                    now = old + rest[0, t] / a
                    now = 0.0 if now <= 0 else now
                    step = now - old
                    if step != 0:
                        w[0, t] = now
                        for r in range(0, width, eight):
                            store(rest, 0, r, madd(-step, load(A, t, r, 64), load(rest, 0, r, 64)))
                        moved += a * step * step
                    length += a * now * now
            if not moved > tol * tol * length:
                break
            if s % FACTORED == FACTORED - 1 and _solve_active(A, b, w, free, factor, active, 1e-9 * size):
                break
        value = 0.0
        for t in range(k):
            now = 0.0
            for r in range(k):
                now += A[t, r] * w[0, r]
            value += w[0, t] * (0.5 * now - b[0, t])
        sums[0] += value
        for t in range(width):
            new[row, t] = w[0, t] if t < k else 0.0
