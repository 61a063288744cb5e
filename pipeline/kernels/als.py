"""One half of alternating least squares, compiled: rows of one factor given the other. Importing it imports numba.

A row x solves (w₀·G + λ·I)·x + Σ_i (c_i − w₀)·h_i·(h_i·x) = Σ_i c_i·s_i·h_i, with i over the row's cells and their
scores s, c and w₀ as in `pipeline.models.objective`, G = HᵀH (Hu, Koren & Volinsky 2008). Both factors are first
rotated into the eigenbasis of G, so that w₀·G is a diagonal: a step of conjugate gradients then costs one pass over the
row's cells and nothing of k², and the preconditioner 1 / (w₀·Λ + λ) leaves a condition number of at most max(c) / w₀. A
step or two from where the row was are all that an iteration needs (Takács, Pilászy & Tikk 2011).

Factors are (rows, width) float32, their `width` a multiple of 16 with zeros past k components. Every row is computed on
its own and every sum is taken in an order fixed by (lo, hi).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pipeline.kernels.arguments import AlsTerms, CsrRows
from pipeline.kernels.jit import jit_reassociating
from pipeline.kernels.simd import WIDE, element, fill, lanes, load, prefetch, store
from pipeline.kernels.simd_arithmetic import madd, total
from pipeline.kernels.simd_gather import spread, sums8

__all__ = ["rotate_rows", "step_rows"]

TILE = 2**20  # bytes of a row's cells that are copied next to one another, to stay in the second cache
SOON = 12  # cells between asking for a row and copying it
SUMMED = 512  # cells of a row that are summed in float32 before they are added to its others
TINY = 1e-30  # a residual of less is rounding


class Row(NamedTuple):
    """Working memory for one row.

    tile : (room, width), rows of the other factor for the row's cells
    line : (3, longest + 16), of each cell: w₀ − c, c·s, 0
    vectors : (7, width), named by the numbers below
    """

    tile: Any
    line: Any
    vectors: Any


X = 0  # the row
REST = 1  # b − A·x
AHEAD = 2  # the direction of the next step
CURVED = 3  # A·ahead
DIAGONAL = 4  # w₀·Λ + λ
INVERSE = 5  # the preconditioner
PART = 6  # a sum over some cells


@jit_reassociating
def rotate_rows(lo: int, hi: int, rows: Any, basis: Any, out: Any) -> None:
    """out[lo:hi] = rows[lo:hi] · basis (width, width), six rows at a time; `out` is another array than `rows`."""
    width = rows.shape[1]
    step = lanes(rows, 64)
    zero = fill(rows, 0, 64)
    for first in range(lo, hi, 6):
        last = hi - 1
        r1, r2, r3 = min(first + 1, last), min(first + 2, last), min(first + 3, last)
        r4, r5 = min(first + 4, last), min(first + 5, last)
        for c in range(0, width, step):
            a0, a1, a2, a3, a4, a5 = zero, zero, zero, zero, zero, zero
            for t in range(width):
                q = load(basis, t, c, 64)
                a0 = madd(element(rows, first, t), q, a0)
                a1 = madd(element(rows, r1, t), q, a1)
                a2 = madd(element(rows, r2, t), q, a2)
                a3 = madd(element(rows, r3, t), q, a3)
                a4 = madd(element(rows, r4, t), q, a4)
                a5 = madd(element(rows, r5, t), q, a5)
            store(out, first, c, a0)
            store(out, r1, c, a1)
            store(out, r2, c, a2)
            store(out, r3, c, a3)
            store(out, r4, c, a4)
            store(out, r5, c, a5)


@jit_reassociating
def _copy_cells(indices: Any, first: int, n: int, other: Any, tile: Any) -> None:
    """The rows of `other` that n cells name, into `tile`; zeros up to a multiple of eight rows."""
    width = other.shape[1]
    step = lanes(other, 64)
    last = first + n - 1
    for j in range(n):
        soon = np.intp(indices[min(first + j + SOON, last)])
        row = np.intp(indices[first + j])
        for t in range(0, width, step):
            prefetch(other, soon, t)
            store(tile, j, t, load(other, row, t, 64))
    zero = fill(other, 0, 64)
    for j in range(n, (n + 7) // 8 * 8):
        for t in range(0, width, step):
            store(tile, j, t, zero)


@jit_reassociating
def _add_cells(row: Row, lo: int, hi: int, at: int, aims: int, x: int, out: int) -> Any:
    """out += Σ_j (aim_j + share_j·(h_j·x))·h_j over lo ≤ j < hi, eight at a time; returns Σ_j aim_j·(h_j·x).

    at : place in `line` of the tile's first cell: share_j is in its row 0, aim_j in its row `aims`
    x, out : rows of `vectors`
    """
    tile, line, vectors = row.tile, row.line, row.vectors
    width = tile.shape[1]
    step = lanes(tile, WIDE)
    zero = fill(tile, 0, WIDE)
    aimed = fill(tile, 0, 32)
    for j in range(lo, hi, 8):
        a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
        for t in range(0, width, step):
            q = load(vectors, x, t, WIDE)
            a0 = madd(load(tile, j, t, WIDE), q, a0)
            a1 = madd(load(tile, j + 1, t, WIDE), q, a1)
            a2 = madd(load(tile, j + 2, t, WIDE), q, a2)
            a3 = madd(load(tile, j + 3, t, WIDE), q, a3)
            a4 = madd(load(tile, j + 4, t, WIDE), q, a4)
            a5 = madd(load(tile, j + 5, t, WIDE), q, a5)
            a6 = madd(load(tile, j + 6, t, WIDE), q, a6)
            a7 = madd(load(tile, j + 7, t, WIDE), q, a7)
        y = sums8(a0, a1, a2, a3, a4, a5, a6, a7)
        aim = load(line, aims, at + j, 32)
        aimed = madd(y, aim, aimed)
        d = madd(y, load(line, 0, at + j, 32), aim)
        s0, s1, s2, s3 = spread(d, 0, zero), spread(d, 1, zero), spread(d, 2, zero), spread(d, 3, zero)
        s4, s5, s6, s7 = spread(d, 4, zero), spread(d, 5, zero), spread(d, 6, zero), spread(d, 7, zero)
        for t in range(0, width, step):
            even = madd(s0, load(tile, j, t, WIDE), load(vectors, out, t, WIDE))
            odd = madd(s1, load(tile, j + 1, t, WIDE), zero)
            even = madd(s2, load(tile, j + 2, t, WIDE), even)
            odd = madd(s3, load(tile, j + 3, t, WIDE), odd)
            even = madd(s4, load(tile, j + 4, t, WIDE), even)
            odd = madd(s5, load(tile, j + 5, t, WIDE), odd)
            even = madd(s6, load(tile, j + 6, t, WIDE), even)
            odd = madd(s7, load(tile, j + 7, t, WIDE), odd)
            store(vectors, out, t, madd(1, odd, even))
    return total(aimed)


@jit_reassociating
def _all_cells(number: int, cells: CsrRows, other: Any, row: Row, aims: int, x: int, out: int) -> Any:
    """`_add_cells` for a whole row, from out = 0; a row with more cells than the tile has room for is copied anew."""
    vectors, first = row.vectors, cells.indptr[number]
    n = cells.indptr[number + 1] - first
    room, width, step = row.tile.shape[0], vectors.shape[1], lanes(vectors, 64)
    zero = fill(vectors, 0, 64)
    for t in range(0, width, step):
        store(vectors, out, t, zero)
    if n <= min(SUMMED, room):
        return _add_cells(row, 0, n, 0, aims, x, out)
    aimed = 0.0
    for at in range(0, n, room):
        some = min(room, n - at)
        if n > room:
            _copy_cells(cells.indices, first + at, some, other, row.tile)
        for begin in range(0, some, SUMMED):
            for t in range(0, width, step):
                store(vectors, PART, t, zero)
            aimed += _add_cells(row, begin, min(begin + SUMMED, some), at, aims, x, PART)
            for t in range(0, width, step):
                store(vectors, out, t, madd(1, load(vectors, PART, t, 64), load(vectors, out, t, 64)))
    return aimed


@jit_reassociating
def _begin(number: int, cells: CsrRows, other: Any, terms: AlsTerms, rows: Any, row: Row) -> tuple[float, float]:
    """Set the row's memory; returns ½ x·A·x − b·x and the squared residual, in the norm of the preconditioner."""
    line, vectors, data = row.line, row.vectors, cells.data
    first = cells.indptr[number]
    n = cells.indptr[number + 1] - first
    for j in range(n):
        score = data[first + j]
        c = 1 + terms.confidence * score if score != 0 else terms.zero
        line[0, j] = terms.weight - c
        line[1, j] = c * score
    for j in range(n, (n + 7) // 8 * 8):
        line[0, j] = 0
        line[1, j] = 0
    eigenvalues, lam, least = terms.eigenvalues, terms.lam[number], terms.least
    for t in range(rows.shape[1]):
        vectors[DIAGONAL, t] = eigenvalues[t] + lam
        vectors[INVERSE, t] = 1 / max(eigenvalues[t] + lam, least)
        vectors[X, t] = rows[number, t]
    if n <= row.tile.shape[0]:
        _copy_cells(cells.indices, first, n, other, row.tile)
    aimed = _all_cells(number, cells, other, row, 1, X, REST)
    zero = fill(vectors, 0, 64)
    left, along = zero, zero
    for t in range(0, rows.shape[1], lanes(rows, 64)):
        x = load(vectors, X, t, 64)
        own = madd(load(vectors, DIAGONAL, t, 64), x, zero)
        r = madd(-1, own, load(vectors, REST, t, 64))
        z = madd(load(vectors, INVERSE, t, 64), r, zero)
        store(vectors, REST, t, r)
        store(vectors, AHEAD, t, z)
        left = madd(r, z, left)
        along = madd(r, x, along)
    return -0.5 * (aimed + total(along)), total(left)


@jit_reassociating
def _step(number: int, cells: CsrRows, other: Any, row: Row, left: float) -> tuple[float, float]:
    """One step of conjugate gradients; returns how much ½ x·A·x − b·x has fallen, and the residual as `_begin`."""
    vectors = row.vectors
    step, width = lanes(vectors, 64), vectors.shape[1]
    zero = fill(vectors, 0, 64)
    _all_cells(number, cells, other, row, 2, AHEAD, CURVED)
    bent = zero
    for t in range(0, width, step):
        p = load(vectors, AHEAD, t, 64)
        a = madd(-1, load(vectors, CURVED, t, 64), madd(load(vectors, DIAGONAL, t, 64), p, zero))
        store(vectors, CURVED, t, a)
        bent = madd(p, a, bent)
    curvature = total(bent)
    if not curvature > 0:
        return 0.0, 0.0
    length = left / curvature
    now = zero
    for t in range(0, width, step):
        store(vectors, X, t, madd(length, load(vectors, AHEAD, t, 64), load(vectors, X, t, 64)))
        r = madd(-length, load(vectors, CURVED, t, 64), load(vectors, REST, t, 64))
        store(vectors, REST, t, r)
        now = madd(madd(load(vectors, INVERSE, t, 64), r, zero), r, now)
    still_left = total(now)
    for t in range(0, width, step):
        z = madd(load(vectors, INVERSE, t, 64), load(vectors, REST, t, 64), zero)
        store(vectors, AHEAD, t, madd(still_left / left, load(vectors, AHEAD, t, 64), z))
    return 0.5 * length * left, still_left


@jit_reassociating
def step_rows(cells: CsrRows, other: Any, terms: AlsTerms, steps: int, rows: Any, sums: Any) -> None:
    """Rows cells.lo … cells.hi − 1 of `rows`, in place: `steps` steps of conjugate gradients from where they are.

    Parameters
    ----------
    other : (columns, width) the fixed factor, in its own eigenbasis
    rows : (rows, width), in the same basis
    sums : (2,) float64, to which is added: Σ over rows ½ x·A·x − b·x at the result, and Σ ½λ·‖x‖²
    """
    indptr, lam = cells.indptr, terms.lam
    width = rows.shape[1]
    longest = np.int64(0)
    for number in range(cells.lo, cells.hi):
        longest = max(longest, indptr[number + 1] - indptr[number])
    room = min(max(TILE // (4 * width) // 8 * 8, 64), (longest + 7) // 8 * 8)
    vectors = np.zeros((7, width), np.float32)
    row = Row(np.empty((room, width), np.float32), np.zeros((3, longest + 16), np.float32), vectors)
    for number in range(cells.lo, cells.hi):
        value, left = _begin(number, cells, other, terms, rows, row)
        for _ in range(steps):
            if not left > TINY:
                break
            fallen, left = _step(number, cells, other, row, left)
            value -= fallen
        square = fill(rows, 0, 64)
        for t in range(0, width, lanes(rows, 64)):
            x = load(vectors, X, t, 64)
            square = madd(x, x, square)
            store(rows, number, t, x)
        sums[0] += value
        sums[1] += 0.5 * lam[number] * total(square)
