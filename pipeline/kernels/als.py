"""One half of alternating least squares, compiled: rows of one factor given the other. Importing it imports numba.

A row x solves (w₀·G + λ·I)·x + Σ_i (c_i − w₀)·h_i·(h_i·x) = Σ_i c_i·s_i·h_i, with i over the row's cells and their
scores s, c and w₀ as in `pipeline.models.objective`, G = HᵀH (Hu, Koren & Volinsky 2008). Both factors are first
rotated into the eigenbasis of G, so that w₀·G is a diagonal: a step of conjugate gradients then costs one pass over the
row's cells and nothing of k², and the preconditioner 1 / (w₀·Λ + λ) leaves a condition number of at most max(c) / w₀. A
few steps from where the row was are all that an iteration needs (Takács, Pilászy & Tikk 2011).

Factors are (rows, width) float32, their `width` a multiple of 16 with zeros past k components. Every row is computed on
its own and every sum is taken in an order fixed by (lo, hi).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pipeline.kernels.arguments import AlsTerms, CsrRows
from pipeline.kernels.jit import jit_inlined, jit_reassociating
from pipeline.kernels.scratch import scratch, unset
from pipeline.kernels.simd import WIDE, element, fill, lanes, load, place, prefetch, store
from pipeline.kernels.simd_arithmetic import madd, total
from pipeline.kernels.simd_gather import spread, sums8

__all__ = ["rotate_rows", "step_rows"]

TILE = 2**20  # bytes of a row's cells that are copied next to one another, to stay in the second cache
SOON = 16  # cells between asking for a row and copying it
SUMMED = 512  # cells of a row that are summed in float32 before they are added to its others
TINY = 1e-30  # a residual of less is rounding


class Row(NamedTuple):
    """Working memory for one row.

    tile : (groups, 8 · width), rows of the other factor for the row's cells, eight by eight: the first `WIDE` bytes of
        all eight, then the next ones, which takes one pointer instead of eight
    line : (3, longest + 16 … 31), of each cell: w₀ − c, c·s, 0
    vectors : (7, width), named by the numbers below
    """

    tile: Any
    line: Any
    vectors: Any


X = 0  # the row
REST = 1  # b − A·x
AHEAD = 2  # the direction of the next step
CURVED = 3  # the cells' part of −A·ahead
DIAGONAL = 4  # w₀·Λ + λ
INVERSE = 5  # the preconditioner
PART = 6  # a sum over some cells
NOWHERE = -1  # no sum is wanted
SHARES, AIMS, NO_AIMS = 0, 1, 2  # rows of `line`


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


@jit_inlined
def _copied(other: Any, cell: int, t: int, tile: Any, group: int, at: int) -> Any:
    """`WIDE` bytes of a cell's row of `other`, which are put into the tile as well."""
    vector = load(other, cell, t, WIDE)
    store(tile, group, at, vector)
    return vector


@jit_inlined
def _copied_products(indices: Any, p: int, end: int, group: int, other: Any, row: Row, x: int) -> Any:
    """h·x of the cells p … p + 7, whose rows of `other` are put into the tile; past `end` the last cell's."""
    tile, vectors, width, step = row.tile, row.vectors, row.vectors.shape[1], lanes(row.tile, WIDE)
    last = indices.shape[0] - 1
    for s in range(p + SOON, p + SOON + 8):
        soon = place(indices, min(s, last))
        for t in range(0, width, lanes(tile, 64)):
            prefetch(other, soon, t)
    c0, c1 = place(indices, p), place(indices, min(p + 1, end))
    c2, c3 = place(indices, min(p + 2, end)), place(indices, min(p + 3, end))
    c4, c5 = place(indices, min(p + 4, end)), place(indices, min(p + 5, end))
    c6, c7 = place(indices, min(p + 6, end)), place(indices, min(p + 7, end))
    zero = fill(tile, 0, WIDE)
    a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
    for t in range(0, width, step):
        q, at = load(vectors, x, t, WIDE), 8 * t
        a0 = madd(_copied(other, c0, t, tile, group, at), q, a0)
        a1 = madd(_copied(other, c1, t, tile, group, at + step), q, a1)
        a2 = madd(_copied(other, c2, t, tile, group, at + 2 * step), q, a2)
        a3 = madd(_copied(other, c3, t, tile, group, at + 3 * step), q, a3)
        a4 = madd(_copied(other, c4, t, tile, group, at + 4 * step), q, a4)
        a5 = madd(_copied(other, c5, t, tile, group, at + 5 * step), q, a5)
        a6 = madd(_copied(other, c6, t, tile, group, at + 6 * step), q, a6)
        a7 = madd(_copied(other, c7, t, tile, group, at + 7 * step), q, a7)
    return sums8(a0, a1, a2, a3, a4, a5, a6, a7)


@jit_inlined
def _products(group: int, row: Row, x: int) -> Any:
    """h·x of the tile's eight cells in a group."""
    tile, vectors, step = row.tile, row.vectors, lanes(row.tile, WIDE)
    zero = fill(tile, 0, WIDE)
    a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
    for t in range(0, vectors.shape[1], step):
        q, at = load(vectors, x, t, WIDE), 8 * t
        a0 = madd(load(tile, group, at, WIDE), q, a0)
        a1 = madd(load(tile, group, at + step, WIDE), q, a1)
        a2 = madd(load(tile, group, at + 2 * step, WIDE), q, a2)
        a3 = madd(load(tile, group, at + 3 * step, WIDE), q, a3)
        a4 = madd(load(tile, group, at + 4 * step, WIDE), q, a4)
        a5 = madd(load(tile, group, at + 5 * step, WIDE), q, a5)
        a6 = madd(load(tile, group, at + 6 * step, WIDE), q, a6)
        a7 = madd(load(tile, group, at + 7 * step, WIDE), q, a7)
    return sums8(a0, a1, a2, a3, a4, a5, a6, a7)


@jit_inlined
def _add_rows(group: int, d: Any, row: Row, out: int) -> None:
    """vectors[out] += Σ d_j·h_j over the tile's eight cells in a group."""
    tile, vectors, step = row.tile, row.vectors, lanes(row.tile, WIDE)
    zero = fill(tile, 0, WIDE)
    s0, s1, s2, s3 = spread(d, 0, zero), spread(d, 1, zero), spread(d, 2, zero), spread(d, 3, zero)
    s4, s5, s6, s7 = spread(d, 4, zero), spread(d, 5, zero), spread(d, 6, zero), spread(d, 7, zero)
    for t in range(0, vectors.shape[1], step):
        at = 8 * t
        even = madd(s0, load(tile, group, at, WIDE), load(vectors, out, t, WIDE))
        odd = madd(s1, load(tile, group, at + step, WIDE), zero)
        even = madd(s2, load(tile, group, at + 2 * step, WIDE), even)
        odd = madd(s3, load(tile, group, at + 3 * step, WIDE), odd)
        even = madd(s4, load(tile, group, at + 4 * step, WIDE), even)
        odd = madd(s5, load(tile, group, at + 5 * step, WIDE), odd)
        even = madd(s6, load(tile, group, at + 6 * step, WIDE), even)
        odd = madd(s7, load(tile, group, at + 7 * step, WIDE), odd)
        store(vectors, out, t, madd(1, odd, even))


@jit_reassociating
def _add_cells(number: int, cells: CsrRows, other: Any, row: Row, aims: int, x: int, out: int) -> tuple[float, float]:
    """vectors[out] = Σ_j d_j·h_j, d_j = aim_j + share_j·y_j, y_j = h_j·x; returns Σ aim_j·y_j and Σ share_j·y_j².

    share_j is in row 0 of `line`, aim_j in its row `aims`. The tile is filled where `aims` is `AIMS`, and by a row of
    more cells than it has room for. `out` may be `NOWHERE`.
    """
    tile, line, vectors = row.tile, row.line, row.vectors
    first, end = cells.indptr[number], cells.indptr[number + 1]
    n, groups, width, step = end - first, tile.shape[0], vectors.shape[1], lanes(vectors, 64)
    zero, filling = fill(vectors, 0, 64), aims == AIMS or n > 8 * groups
    aimed, bent = 0.0, 0.0
    if out != NOWHERE:
        for t in range(0, width, step):
            store(vectors, out, t, zero)
    for begin in range(0, n, SUMMED):
        into = out if begin == 0 else PART
        if begin and out != NOWHERE:
            for t in range(0, width, step):
                store(vectors, PART, t, zero)
        some_aimed, some_bent = fill(tile, 0, 32), fill(tile, 0, 32)
        for at in range(begin, min(n, begin + SUMMED), 8):
            group = at // 8 % groups
            if filling:
                y = _copied_products(cells.indices, first + at, end - 1, group, other, row, x)
            else:
                y = _products(group, row, x)
            share, aim = load(line, SHARES, at, 32), load(line, aims, at, 32)
            part = madd(y, share, fill(tile, 0, 32))
            some_aimed, some_bent = madd(y, aim, some_aimed), madd(y, part, some_bent)
            if out != NOWHERE:
                _add_rows(group, madd(1, part, aim), row, into)
        aimed, bent = aimed + total(some_aimed), bent + total(some_bent)
        if begin and out != NOWHERE:
            for t in range(0, width, step):
                store(vectors, out, t, madd(1, load(vectors, PART, t, 64), load(vectors, out, t, 64)))
    return aimed, bent


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
    aimed, _ = _add_cells(number, cells, other, row, AIMS, X, REST)
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
def _step(number: int, cells: CsrRows, other: Any, row: Row, left: float, last: bool) -> tuple[float, float]:
    """One step of conjugate gradients; returns how much ½ x·A·x − b·x has fallen, and the residual as `_begin`.

    The last step needs no residual, and 0 is told.
    """
    vectors = row.vectors
    step, width = lanes(vectors, 64), vectors.shape[1]
    zero = fill(vectors, 0, 64)
    _, at_cells = _add_cells(number, cells, other, row, NO_AIMS, AHEAD, NOWHERE if last else CURVED)
    own = zero
    for t in range(0, width, step):
        p = load(vectors, AHEAD, t, 64)
        own = madd(p, madd(load(vectors, DIAGONAL, t, 64), p, zero), own)
    curvature = total(own) - at_cells
    if not curvature > 0:
        return 0.0, 0.0
    length = left / curvature
    for t in range(0, width, step):
        store(vectors, X, t, madd(length, load(vectors, AHEAD, t, 64), load(vectors, X, t, 64)))
    if last:
        return 0.5 * length * left, 0.0
    now = zero
    for t in range(0, width, step):
        own = madd(load(vectors, DIAGONAL, t, 64), load(vectors, AHEAD, t, 64), zero)
        curved = madd(-1, load(vectors, CURVED, t, 64), own)
        r = madd(-length, curved, load(vectors, REST, t, 64))
        store(vectors, REST, t, r)
        now = madd(madd(load(vectors, INVERSE, t, 64), r, zero), r, now)
    still_left = total(now)
    for t in range(0, width, step):
        z = madd(load(vectors, INVERSE, t, 64), load(vectors, REST, t, 64), zero)
        store(vectors, AHEAD, t, madd(still_left / left, load(vectors, AHEAD, t, 64), z))
    return 0.5 * length * left, still_left


@jit_reassociating
def step_rows(cells: CsrRows, other: Any, terms: AlsTerms, steps: int, rows: Any, results: Any, sums: Any) -> None:
    """Rows cells.lo … cells.hi − 1 of `rows`, in place: `steps` steps of conjugate gradients from where they are.

    A row x goes to x' + β·(x' − x), with x' the result of the steps and β = terms.beyond.

    Parameters
    ----------
    other : (columns, width) the fixed factor, in its own eigenbasis
    rows : (rows, width), in the same basis
    results : (rows, width), out: x'; or `rows` where nobody asks for it
    sums : (2,) float64, to which is added: Σ over rows ½ x·A·x − b·x at x', and Σ ½λ·‖x‖² where the rows end
    """
    indptr, lam = cells.indptr, terms.lam
    width = rows.shape[1]
    longest = np.int64(0)
    for number in range(cells.lo, cells.hi):
        longest = max(longest, indptr[number + 1] - indptr[number])
    groups = min(max(TILE // (32 * width), 8), (longest + 7) // 8)
    kind = rows.dtype
    vectors = scratch(7, width, kind)
    row = Row(unset(groups, 8 * width, kind), scratch(3, (longest + 31) // 16 * 16, kind), vectors)
    for number in range(cells.lo, cells.hi):
        value, left = _begin(number, cells, other, terms, rows, row)
        for taken in range(steps):
            if not left > TINY:
                break
            fallen, left = _step(number, cells, other, row, left, taken + 1 == steps)
            value -= fallen
        square = fill(rows, 0, 64)
        for t in range(0, width, lanes(rows, 64)):
            x = load(vectors, X, t, 64)
            further = madd(terms.beyond, madd(-1, load(rows, number, t, 64), x), x)
            square = madd(further, further, square)
            store(results, number, t, x)
            store(rows, number, t, further)
        sums[0] += value
        sums[1] += 0.5 * lam[number] * total(square)
