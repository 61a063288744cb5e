"""The first iterations of the weighted alternation, compiled: steps of rows given the other factor. It imports numba.

The problem of `pipeline.kernels.weighted`, for which no A is formed: a step costs two passes over the row's cells, a
few multiply-adds for each component and cell. With A's diagonal a and the gradient g at w, the direction is

    d = max(−w, −FAR·g/a)

and a step goes to (1 + β)·w + α·d for the best α and β that keep it ≥ 0 (Bertsekas' projected direction of 1982
with an exact search, in a plane instead of on a line). All factors are ≥ 0, so that A's largest eigenvalue by far
lies near the direction of w itself: with w in the plane it no longer keeps α short. Two such steps are worth as much as
coordinate descent while a row is far from its solution.

Factors are (rows, width), their `width` a multiple of 16 with zeros past k components. Every row is computed on its
own and every sum is taken in an order fixed by (lo, hi).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pipeline.kernels.arguments import CsrRows, RowTerms
from pipeline.kernels.half_step import SMALLEST
from pipeline.kernels.jit import jit_inlined, jit_reassociating
from pipeline.kernels.simd import element, fill, lanes, load, store
from pipeline.kernels.simd_arithmetic import madd, total
from pipeline.kernels.simd_gather import sums8
from pipeline.kernels.weighted import AIM, BLOCK, SHARE, TILE, fetch

__all__ = ["FAR", "PARALLEL", "step_rows"]

FAR = 3.0  # steps of single coordinates that the direction takes at once: what is to become 0 does
PARALLEL = 1e-4  # share of the plane's determinant below which w and d are one direction


class Row(NamedTuple):
    """Working memory for one row, in the type of the factors.

    tile : (room, width), rows of the other factor for some of the row's cells
    line : (4, longest + 32), of each cell: ŷ, c − w₀, c·x, and d·h or (c − w₀)·ŷ − c·x
    vectors : (6, width), named by the numbers below
    """

    tile: Any
    line: Any
    vectors: Any


Y, Q = 0, 3  # rows of `line`, beside SHARE and AIM
# Of `vectors`: the row, its gradient, A's diagonal, the direction, and w₀·G times the row and times the direction.
W, SLOPE, CURVE, AHEAD, SHARED, AHEAD_SHARED = 0, 1, 2, 3, 4, 5


@jit_inlined
def _products(n: int, at: int, row: Row, vector: int, out: int) -> None:
    """line[out] = h·v of n cells, from `at` on; v is a row of `vectors`."""
    tile, line, vectors = row.tile, row.line, row.vectors
    zero = fill(tile, 0, 64)
    for j in range(0, n, 8):
        a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
        for t in range(0, tile.shape[1], lanes(tile, 64)):
            v = load(vectors, vector, t, 64)
            a0 = madd(load(tile, j, t, 64), v, a0)
            a1 = madd(load(tile, j + 1, t, 64), v, a1)
            a2 = madd(load(tile, j + 2, t, 64), v, a2)
            a3 = madd(load(tile, j + 3, t, 64), v, a3)
            a4 = madd(load(tile, j + 4, t, 64), v, a4)
            a5 = madd(load(tile, j + 5, t, 64), v, a5)
            a6 = madd(load(tile, j + 6, t, 64), v, a6)
            a7 = madd(load(tile, j + 7, t, 64), v, a7)
        store(line, out, at + j, sums8(a0, a1, a2, a3, a4, a5, a6, a7))


@jit_inlined
def _add_slopes(n: int, at: int, row: Row) -> None:
    """Add n cells' part Σ ((c − w₀)·ŷ − c·x)·h to the gradient."""
    tile, line, vectors = row.tile, row.line, row.vectors
    width, group = tile.shape[1], lanes(tile, 64)
    zero = fill(tile, 0, 64)
    for j in range(0, n, group):
        minus = madd(-1, load(line, AIM, at + j, 64), zero)
        store(line, Q, at + j, madd(load(line, Y, at + j, 64), load(line, SHARE, at + j, 64), minus))
    t = 0
    while t + lanes(tile, 256) <= width:
        slope = load(vectors, SLOPE, t, 256)
        for j in range(n):
            slope = madd(element(line, Q, at + j), load(tile, j, t, 256), slope)
        store(vectors, SLOPE, t, slope)
        t += lanes(tile, 256)
    while t < width:
        part = load(vectors, SLOPE, t, 64)
        for j in range(n):
            part = madd(element(line, Q, at + j), load(tile, j, t, 64), part)
        store(vectors, SLOPE, t, part)
        t += group


@jit_inlined
def _add_curves(n: int, at: int, row: Row) -> None:
    """Add n cells' part Σ (c − w₀)·h² to A's diagonal."""
    tile, line, vectors = row.tile, row.line, row.vectors
    zero = fill(tile, 0, 64)
    for t in range(0, tile.shape[1], lanes(tile, 64)):
        even, odd = load(vectors, CURVE, t, 64), zero
        for j in range(0, n, 2):  # the tile has zeros after the last cell
            h, g = load(tile, j, t, 64), load(tile, j + 1, t, 64)
            even = madd(madd(element(line, SHARE, at + j), h, zero), h, even)
            odd = madd(madd(element(line, SHARE, at + j + 1), g, zero), g, odd)
        store(vectors, CURVE, t, madd(1, odd, even))


@jit_inlined
def _share(terms: RowTerms, row: Row, vector: int, out: int) -> None:
    """vectors[out] = w₀·G·v; v is a row of `vectors`, and many of its components are 0."""
    vectors, gram = row.vectors, terms.gram
    width = vectors.shape[1]
    t = 0
    while t + lanes(vectors, 256) <= width:
        whole = fill(vectors, 0, 256)
        for r in range(terms.k):
            v = element(vectors, vector, r)
            if v != 0:
                whole = madd(v, load(gram, r, t, 256), whole)
        store(vectors, out, t, whole)
        t += lanes(vectors, 256)
    while t < width:
        part = fill(vectors, 0, 64)
        for r in range(terms.k):
            part = madd(element(vectors, vector, r), load(gram, r, t, 64), part)
        store(vectors, out, t, part)
        t += lanes(vectors, 64)


@jit_inlined
def _set_shared_slopes(terms: RowTerms, lam: Any, row: Row) -> Any:
    """SLOPE without the cells; returns w₀·½ w·G·w and the penalty."""
    vectors = row.vectors
    zero = fill(vectors, 0, 64)
    halves = zero
    for t in range(0, vectors.shape[1], lanes(vectors, 64)):
        w, shared = load(vectors, W, t, 64), load(vectors, SHARED, t, 64)
        own, pull = madd(load(terms.share, 0, t, 64), w, zero), load(terms.pull, 0, t, 64)
        halves = madd(w, madd(lam, madd(-2, pull, own), shared), halves)
        store(vectors, SLOPE, t, madd(lam, madd(-1, pull, own), shared))
    return 0.5 * total(halves)


@jit_inlined
def _begin(number: int, cells: CsrRows, other: Any, terms: RowTerms, start: Any, row: Row) -> Any:
    """Set the row's memory; returns ½ w·A·w − b·w."""
    vectors, line, gram, lam = row.vectors, row.line, terms.gram, terms.lam[number]
    group, room = lanes(vectors, 64), row.tile.shape[0]
    zero = fill(vectors, 0, 64)
    for t in range(0, vectors.shape[1], group):
        store(vectors, W, t, load(start, number, t, 64))
    _share(terms, row, W, SHARED)
    value = _set_shared_slopes(terms, lam, row)
    for t in range(terms.k):
        vectors[CURVE, t] = gram[t, t] + lam * terms.share[0, t]
    first, end = cells.indptr[number], cells.indptr[number + 1]
    for begin in range(first, end, room):
        n, at = min(room, end - begin), begin - first
        fetch(cells, begin, n, at, other, terms, row)
        _products(n, at, row, W, Y)
        _add_slopes(n, at, row)
        _add_curves(n, at, row)
    at_cells = zero
    for j in range(0, end - first, group):
        y, aim = load(line, Y, j, 64), load(line, AIM, j, 64)
        half = madd(0.5, madd(y, load(line, SHARE, j, 64), zero), zero)
        at_cells = madd(y, madd(-1, aim, half), at_cells)
    return value + total(at_cells)


@jit_inlined
def _look_ahead(number: int, cells: CsrRows, other: Any, terms: RowTerms, row: Row) -> Any:
    """Set AHEAD and what belongs to it; returns g·d, g·w, d·A·d, w·A·d and w·A·w."""
    vectors, line, lam = row.vectors, row.line, terms.lam[number]
    group, room = lanes(vectors, 64), row.tile.shape[0]
    zero = fill(vectors, 0, 64)
    for t in range(terms.k):
        w, curve = vectors[W, t], vectors[CURVE, t]
        d = -FAR * vectors[SLOPE, t] / curve if curve > SMALLEST else 0.0
        vectors[AHEAD, t] = max(d, -w)
    _share(terms, row, AHEAD, AHEAD_SHARED)
    gd, gw, dd, wd, ww = zero, zero, zero, zero, zero
    for t in range(0, vectors.shape[1], group):
        w, g, d = load(vectors, W, t, 64), load(vectors, SLOPE, t, 64), load(vectors, AHEAD, t, 64)
        penalty = madd(lam, load(terms.share, 0, t, 64), zero)
        bent = madd(penalty, d, load(vectors, AHEAD_SHARED, t, 64))
        gd, gw, dd, wd = madd(g, d, gd), madd(g, w, gw), madd(bent, d, dd), madd(bent, w, wd)
        ww = madd(madd(penalty, w, load(vectors, SHARED, t, 64)), w, ww)
    first, end = cells.indptr[number], cells.indptr[number + 1]
    for begin in range(first, end, room):
        n, at = min(room, end - begin), begin - first
        if end - first > room:
            fetch(cells, begin, n, at, other, terms, row)
        _products(n, at, row, AHEAD, Q)
    for j in range(0, end - first, group):
        y, q, share = load(line, Y, j, 64), load(line, Q, j, 64), load(line, SHARE, j, 64)
        bent = madd(share, q, zero)
        dd, wd, ww = madd(bent, q, dd), madd(bent, y, wd), madd(madd(share, y, zero), y, ww)
    return total(gd), total(gw), total(dd), total(wd), total(ww)


@jit_inlined
def _lengths(gd: float, gw: float, dd: float, wd: float, ww: float) -> Any:
    """The best α and β with α ≤ 1 + β."""
    determinant = dd * ww - wd * wd
    if determinant > PARALLEL * dd * ww:
        alpha, beta = (gw * wd - gd * ww) / determinant, (gd * wd - gw * dd) / determinant
        if 0 < alpha <= 1 + beta:
            return alpha, beta
        if alpha > 0 and 1 + beta > 0:  # then the best multiple of w + d
            multiple = max((ww - gw + wd - gd) / (ww + 2 * wd + dd), 0.0)
            return multiple, multiple - 1
    return min(-gd / dd, 1.0), 0.0


@jit_inlined
def _go(alpha: float, beta: float, terms: RowTerms, row: Row) -> None:
    """Set W to (1 + β)·w + α·d."""
    vectors = row.vectors
    for t in range(terms.k):
        w, d = vectors[W, t], vectors[AHEAD, t]
        moved = (1 + beta) * w + alpha * d
        vectors[W, t] = 0 if moved <= 0 or (alpha >= 1 + beta and d == -w) else moved


@jit_inlined
def _set_slopes(number: int, alpha: float, beta: float, cells: CsrRows, other: Any, terms: RowTerms, row: Row) -> None:
    """Set SLOPE after a step."""
    vectors, line = row.vectors, row.line
    group, room, stay = lanes(vectors, 64), row.tile.shape[0], 1 + beta
    zero = fill(vectors, 0, 64)
    for t in range(0, vectors.shape[1], group):
        kept = madd(stay, load(vectors, SHARED, t, 64), zero)
        store(vectors, SHARED, t, madd(alpha, load(vectors, AHEAD_SHARED, t, 64), kept))
    _set_shared_slopes(terms, terms.lam[number], row)
    first, end = cells.indptr[number], cells.indptr[number + 1]
    for j in range(0, end - first, group):
        kept = madd(stay, load(line, Y, j, 64), zero)
        store(line, Y, j, madd(alpha, load(line, Q, j, 64), kept))
    for begin in range(first, end, room):
        n, at = min(room, end - begin), begin - first
        if end - first > room:
            fetch(cells, begin, n, at, other, terms, row)
        _add_slopes(n, at, row)


@jit_reassociating
def step_rows(cells: CsrRows, other: Any, terms: RowTerms, start: Any, new: Any, steps: int, sums: Any) -> None:
    """Rows cells.lo … cells.hi − 1: `steps` steps from `start`; no component may be fixed.

    Parameters
    ----------
    other : (columns, width) the fixed factor
    terms : its arrays and numbers in the type of the factors
    start, new : (rows, width) where the steps begin, and their result; may be one array
    sums : (1,) float64, to which is added: Σ over rows ½ w·A·w − b·w at the result
    """
    kind, width = new.dtype, new.shape[1]
    longest = np.int64(1)
    for number in range(cells.lo, cells.hi):
        longest = max(longest, cells.indptr[number + 1] - cells.indptr[number])
    room = (min(longest, max(TILE // width, BLOCK)) + 15) // 16 * 16
    row = Row(np.zeros((room, width), kind), np.zeros((4, longest + 32), kind), np.zeros((6, width), kind))
    for number in range(cells.lo, cells.hi):
        value = _begin(number, cells, other, terms, start, row)
        for s in range(steps):
            gd, gw, dd, wd, ww = _look_ahead(number, cells, other, terms, row)
            if not (gd < 0 and dd > 0):
                break
            alpha, beta = _lengths(gd, gw, dd, wd, ww)
            value += alpha * gd + beta * gw + 0.5 * (alpha * alpha * dd + beta * (2 * alpha * wd + beta * ww))
            _go(alpha, beta, terms, row)
            if s + 1 < steps:
                _set_slopes(number, alpha, beta, cells, other, terms, row)
        sums[0] += value
        for t in range(0, width, lanes(new, 64)):
            store(new, number, t, load(row.vectors, W, t, 64))
