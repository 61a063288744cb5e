"""Rows of one factor given the other, as ridge regressions of scores: solved, or drawn from their posterior.

Row u has cells (j, r). With f_j, the first d numbers of `known.rows[j]` from column `first` on, and o_j, the number
after them:

    x_u  minimises  Σ_j (r − o_j − f_j·x)² + ridge_u·‖x‖²

and with noise x_u is drawn from N(x̂, A⁻¹), A = Σ f_j·f_jᵀ + ridge_u·I: the posterior of a row with the prior
N(0, I / ridge_u), where a score has variance 1. A row with fewer cells than d takes the system of its cells, which is
smaller: x̂ = Fᵀ(F·Fᵀ + ridge·I)⁻¹(r − o), and its draw as Bhattacharya, Chakraborty and Mallick 2016, algorithm 1.

Importing it imports numba.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pipeline.kernels.arguments import CsrRows, RatingRows, RowNoise
from pipeline.kernels.jit import jit_reassociating

__all__ = ["solve_rows", "squared_errors"]

AT_ONCE = 4  # cells that are added to A in one pass over it


@jit_reassociating
def _solve(A: Any, b: Any, z: Any, n: int) -> None:
    """b ← A⁻¹·b + U⁻¹·z with A = Uᵀ·U, of the upper triangle of A[:n, :n], which becomes U."""
    for j in range(n):
        root = math.sqrt(max(A[j, j], 1e-300))
        for r in range(j, n):
            A[j, r] /= root
        for i in range(j + 1, n):
            share = A[j, i]
            for r in range(i, n):
                A[i, r] -= share * A[j, r]
    for j in range(n):
        b[j] /= A[j, j]
        for r in range(j + 1, n):
            b[r] -= A[j, r] * b[j]
    for j in range(n):
        b[j] += z[j]
    for j in range(n - 1, -1, -1):
        total = b[j]
        for r in range(j + 1, n):
            total -= A[j, r] * b[r]
        b[j] = total / A[j, j]


@jit_reassociating
def _add_cells(A: Any, b: Any, F: Any, left: Any, d: int) -> None:
    """Add AT_ONCE cells, the rows of F with what is left of their scores, to A's upper triangle and to b."""
    for t in range(d):
        f0, f1, f2, f3 = F[0, t], F[1, t], F[2, t], F[3, t]
        b[t] += f0 * left[0] + f1 * left[1] + f2 * left[2] + f3 * left[3]
        for r in range(t, d):
            A[t, r] += f0 * F[0, r] + f1 * F[1, r] + f2 * F[2, r] + f3 * F[3, r]


@jit_reassociating
def _by_components(cells: CsrRows, u: int, known: RatingRows, ridge: float, space: Any, z: Any) -> None:
    """space.b[:d] ← the row, by its d × d system."""
    A, b, F, left = space
    d, first = known.width, known.first
    for t in range(d):
        b[t] = 0.0
        for r in range(t, d):
            A[t, r] = 0.0
        A[t, t] = ridge
    lo, hi = cells.indptr[u], cells.indptr[u + 1]
    for start in range(lo, hi, AT_ONCE):
        for s in range(AT_ONCE):
            p = start + s
            if p < hi:
                j = cells.indices[p]
                for t in range(d):
                    F[s, t] = known.rows[j, first + t]
                left[s] = np.float64(cells.data[p]) - known.rows[j, first + d]
            else:
                for t in range(d):
                    F[s, t] = 0.0
                left[s] = 0.0
        _add_cells(A, b, F, left, d)
    _solve(A, b, z, d)


@jit_reassociating
def _by_cells(cells: CsrRows, u: int, known: RatingRows, ridge: float, space: Any, z: Any, noise: Any) -> None:
    """space.b[:d] ← the row, by the system of its n < d cells."""
    A, b, F, left = space
    d, first = known.width, known.first
    lo = cells.indptr[u]
    n = cells.indptr[u + 1] - lo
    spread = 1.0 / math.sqrt(ridge)
    for t in range(d):
        b[t] = z[t] * spread
    for s in range(n):
        j = cells.indices[lo + s]
        total = np.float64(cells.data[lo + s]) - known.rows[j, first + d]
        for t in range(d):
            F[s, t] = known.rows[j, first + t]
        for t in range(d):
            total -= F[s, t] * b[t]
        left[s] = total
        if noise.size:
            left[s] -= noise[lo + s]
    for s in range(n):
        for q in range(s, n):
            total = 0.0
            for t in range(d):
                total += F[s, t] * F[q, t]
            A[s, q] = total
        A[s, s] += ridge
    _solve(A, left, np.zeros(n), n)
    for s in range(n):
        for t in range(d):
            b[t] += F[s, t] * left[s]


@jit_reassociating
def solve_rows(cells: CsrRows, known: RatingRows, ridge: Any, noise: RowNoise, scale: float, out: Any) -> None:
    """out[u, first : first + d] ← scale · x_u for the rows cells.lo … cells.hi − 1.

    ridge : (n,) float64, > 0
    """
    d, first = known.width, known.first
    size = max(d, AT_ONCE)
    space = (np.zeros((size, size)), np.zeros(size), np.zeros((size, size)), np.zeros(size))
    zeros = np.zeros(d)
    z = np.zeros(d)
    drawn = noise.rows.size > 0
    for u in range(cells.lo, cells.hi):
        if drawn:
            for t in range(d):
                z[t] = noise.rows[u, t]
        own = z if drawn else zeros
        if cells.indptr[u + 1] - cells.indptr[u] < d:
            _by_cells(cells, u, known, ridge[u], space, own, noise.cells)
        else:
            _by_components(cells, u, known, ridge[u], space, own)
        for t in range(d):
            out[u, first + t] = scale * space[1][t]


@jit_reassociating
def squared_errors(cells: CsrRows, P: Any, Q: Any, out: Any) -> None:
    """out[u] ← Σ (r − r̂)² over the cells of row u, with r̂ = p_u·q_j and both biases, the last number of each row.

    P, Q : (n, k + 1) float32; out : (n,) float64
    """
    k = P.shape[1] - 1
    for u in range(cells.lo, cells.hi):
        errors = 0.0
        for c in range(cells.indptr[u], cells.indptr[u + 1]):
            j = cells.indices[c]
            product = P[u, k] + Q[j, k]
            for t in range(k):
                product += P[u, t] * Q[j, t]
            errors += (cells.data[c] - np.float64(product)) ** 2
        out[u] = errors
