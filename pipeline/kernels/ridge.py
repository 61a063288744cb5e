"""Rows of one factor given the other, of any sign, each solved at once. Importing it imports numba.

The problem of `pipeline.kernels.weighted` without w ≥ 0: A·w = b, by Cholesky in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pipeline.kernels.arguments import CsrRows, RowTerms
from pipeline.kernels.jit import jit_reassociating
from pipeline.kernels.simd import fill, lanes, load, store
from pipeline.kernels.simd_arithmetic import madd
from pipeline.kernels.weighted_exact import BLOCK, form_row

__all__ = ["SINGULAR", "solve_rows"]

SINGULAR = 1e-6  # share of A's diagonal under which a pivot is rounding: nothing is known of that component


@jit_reassociating
def _take_off(A: Any, b: Any, pivot: int, row: int) -> None:
    """Take one finished row of U off another."""
    eight, width, share = lanes(A, 64), A.shape[1], -A[pivot, row]
    b[0, row] += share * b[0, pivot]
    for r in range(row // eight * eight, width, eight):
        store(A, row, r, madd(share, load(A, pivot, r, 64), load(A, row, r, 64)))


@jit_reassociating
def _solve(A: Any, b: Any, k: int) -> None:
    """b (1, width) becomes the w with A·w = b; the upper triangle of A (width, width) is destroyed.

    A = UᵀU by Cholesky: four rows of U, which are then taken off all rows below. A component without a pivot is 0.
    """
    width, eight = A.shape[1], lanes(A, 64)
    zero = fill(A, 0.0, 64)
    least = np.empty(k)
    for t in range(k):
        least[t] = SINGULAR * A[t, t]
    for first in range(0, k, 4):
        end = min(first + 4, k)
        for t in range(first, end):
            for pivot in range(first, t):
                _take_off(A, b, pivot, t)
            scale = 1 / math.sqrt(A[t, t]) if A[t, t] > max(least[t], 1e-300) else 0.0
            for r in range(t // eight * eight, width, eight):
                store(A, t, r, madd(scale, load(A, t, r, 64), zero))
            b[0, t] *= scale
        for i in range(end, k):
            s0, s1, s2, s3 = -A[first, i], -A[first + 1, i], -A[first + 2, i], -A[first + 3, i]
            b[0, i] += s0 * b[0, first] + s1 * b[0, first + 1] + s2 * b[0, first + 2] + s3 * b[0, first + 3]
            for r in range(i // eight * eight, width, eight):
                rest = madd(s0, load(A, first, r, 64), load(A, i, r, 64))
                rest = madd(s1, load(A, first + 1, r, 64), rest)
                rest = madd(s2, load(A, first + 2, r, 64), rest)
                store(A, i, r, madd(s3, load(A, first + 3, r, 64), rest))
    for t in range(k - 1, -1, -1):
        value = b[0, t]
        for r in range(t + 1, k):
            value -= A[t, r] * b[0, r]
        b[0, t] = value / A[t, t] if A[t, t] > 0 else 0.0


@jit_reassociating
def solve_rows(cells: CsrRows, other: Any, terms: RowTerms, new: Any) -> None:
    """Rows cells.lo … cells.hi − 1 of `new`, (rows, k), from nothing but their cells and `other`.

    Parameters
    ----------
    other : (columns, width) the fixed factor
    terms : its arrays and numbers in float64; every component is free
    """
    width = other.shape[1]
    rows = np.zeros((BLOCK, width), other.dtype)
    A = np.empty((width, width))
    b = np.empty((1, width))
    for row in range(cells.lo, cells.hi):
        form_row(row, cells, other, terms, rows, A, b)
        _solve(A, b, terms.k)
        for t in range(terms.k):
            new[row, t] = b[0, t]
