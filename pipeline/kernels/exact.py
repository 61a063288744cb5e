"""Rows of one factor given the other, solved to tolerance under the weighted objective. Importing it imports numba.

The problem of `pipeline.kernels.weighted`, with its A (k × k) formed in float64 for each row: coordinate descent finds
which components are 0, and the others are solved for at once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pipeline.kernels.halfstep import SMALLEST, _add_gram, _compiled
from pipeline.kernels.vectors import accumulate, fill, lanes, load, madd, store

__all__ = ["solve_rows"]

BLOCK = 64  # a row's cells summed in their own width before they go into float64
FACTORED = 30  # sweeps between two attempts to solve for the components that are not 0


@_compiled
def _settled(A: Any, b: Any, w: Any, free: Any, k: int, room: Any, active: Any, limit: float) -> bool:
    """Solve for the components that are not 0, by Cholesky; True, with w set, where that is the row's solution."""
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
                s -= room[i, p] * room[j, p]
            if i > j:
                room[i, j] = s / room[j, j]
            elif s > 1e-12 * A[t, t]:
                room[i, i] = math.sqrt(s)
            else:
                return False
        for p in range(i):
            right -= room[i, p] * z[p]
        z[i] = right / room[i, i]
    for i in range(n - 1, -1, -1):
        s = z[i]
        for p in range(i + 1, n):
            s -= room[p, i] * z[p]
        z[i] = s / room[i, i]
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


@_compiled
def solve_rows(
    lo: int,
    hi: int,
    indptr: Any,
    indices: Any,
    data: Any,
    other: Any,
    gram: Any,
    weight: float,
    confidence: float,
    lam: Any,
    share: Any,
    pull: Any,
    free: Any,
    fixed: Any,
    new: Any,
    k: int,
    most: int,
    tol: float,
    sums: Any,
) -> None:
    """Rows lo … hi-1 to tolerance, from nothing but their cells and `other`.

    Parameters are `pipeline.kernels.weighted.sweep_rows`'; besides

    gram, share, pull : float64
    fixed : (1, width) float64, where the sweeps begin: 1 for a component that is fixed, the prior for a bias, else 0
    most, tol : sweeps at most; they end when one moves the row by less than `tol` of its length
    """
    width = new.shape[1]
    group = lanes(new, 64)
    eight = lanes(gram, 64)
    rows = np.zeros((BLOCK, width), new.dtype)
    A = np.empty((width, width))
    b = np.empty((1, width))
    w = np.empty((1, width))
    rest = np.empty((1, width))  # b − A·w
    room = np.empty((k, k))
    active = np.empty(k, np.int64)
    zero = fill(new, 0, 64)
    for row in range(lo, hi):
        first, end = indptr[row], indptr[row + 1]
        for t in range(width):
            for r in range(width):
                A[t, r] = gram[t, r]
            b[0, t] = lam[row] * pull[0, t]
            A[t, t] += lam[row] * share[0, t]
            w[0, t] = fixed[0, t]
        for block in range(first, end, BLOCK):
            n = min(BLOCK, end - block)
            for t in range(0, width, group):
                aim = zero
                for j in range(n):
                    x = data[block + j]
                    c = 1 + confidence * x
                    h = load(other, np.intp(indices[block + j]), t, 64)
                    aim = madd(c * x, h, aim)
                    store(rows, j, t, madd(math.sqrt(c - weight), h, zero))
                accumulate(b, 0, t, aim)
            _add_gram(rows, 0, n, A)
        size = 0.0
        for t in range(k):
            for r in range(t):
                A[t, r] = A[r, t]
            size = max(size, abs(b[0, t]))
        for t in range(width):
            rest[0, t] = b[0, t]
        for t in range(k):
            if w[0, t] != 0:
                for r in range(0, width, eight):
                    store(rest, 0, r, madd(-w[0, t], load(A, t, r, 64), load(rest, 0, r, 64)))
        for s in range(most):
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
            if s % FACTORED == FACTORED - 1 and _settled(A, b, w, free, k, room, active, 1e-9 * size):
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
