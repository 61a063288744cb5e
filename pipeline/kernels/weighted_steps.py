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
from pipeline.kernels.scratch import scratch, unset
from pipeline.kernels.simd import WIDE, element, fill, lanes, load, load_as, place, prefetch, store
from pipeline.kernels.simd_arithmetic import filled, higher, inverse, lowest, madd, total
from pipeline.kernels.simd_gather import sums8
from pipeline.kernels.weighted import AIM, BLOCK, SHARE, TILE, fetch, weigh

__all__ = ["FAR", "PARALLEL", "step_rows"]

FAR = 3.0  # steps of single coordinates that the direction takes at once: what is to become 0 does
PARALLEL = 1e-4  # share of the plane's determinant below which w and d are one direction
SOON = 16  # cells between asking for a row and using it
WORD = 64  # components that a word of `filled` tells of


class Row(NamedTuple):
    """Working memory for one row, in the type of the factors.

    tile : (room, width), rows of the other factor for some of the row's cells
    line : (4, longest + 32), of each cell: ŷ, c − w₀, −c·x, and d·h or (c − w₀)·ŷ − c·x
    vectors : (6, width), named by the numbers below
    words : (width / 64,) uint64, which components are not 0
    """

    tile: Any
    line: Any
    vectors: Any
    words: Any


Y, Q = 0, 3  # rows of `line`, beside SHARE and AIM
# Of `vectors`: the row, its gradient, A's diagonal (then 1 over it), the direction, and w₀·G times the row and times
# the direction.
W, SLOPE, CURVE, AHEAD, SHARED, AHEAD_SHARED = 0, 1, 2, 3, 4, 5


@jit_inlined
def _products(n: int, at: int, row: Row, vector: int, out: int) -> None:
    """line[out] = h·v of n cells, from `at` on; v is a row of `vectors`."""
    tile, line, vectors = row.tile, row.line, row.vectors
    zero = fill(tile, 0, WIDE)
    for j in range(0, n, 8):
        a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
        for t in range(0, tile.shape[1], lanes(tile, WIDE)):
            v = load(vectors, vector, t, WIDE)
            a0 = madd(load(tile, j, t, WIDE), v, a0)
            a1 = madd(load(tile, j + 1, t, WIDE), v, a1)
            a2 = madd(load(tile, j + 2, t, WIDE), v, a2)
            a3 = madd(load(tile, j + 3, t, WIDE), v, a3)
            a4 = madd(load(tile, j + 4, t, WIDE), v, a4)
            a5 = madd(load(tile, j + 5, t, WIDE), v, a5)
            a6 = madd(load(tile, j + 6, t, WIDE), v, a6)
            a7 = madd(load(tile, j + 7, t, WIDE), v, a7)
        store(line, out, at + j, sums8(a0, a1, a2, a3, a4, a5, a6, a7))


@jit_inlined
def _add_slopes(n: int, at: int, row: Row) -> None:
    """Add n cells' part Σ ((c − w₀)·ŷ − c·x)·h to the gradient."""
    tile, line, vectors = row.tile, row.line, row.vectors
    width, group = tile.shape[1], lanes(tile, 64)
    zero = fill(tile, 0, 64)
    for j in range(0, n, group):
        share, aim = load(line, SHARE, at + j, 64), load(line, AIM, at + j, 64)
        store(line, Q, at + j, madd(load(line, Y, at + j, 64), share, aim))
    t = 0
    while t + lanes(tile, 256) <= width:
        even, odd = load(vectors, SLOPE, t, 256), fill(tile, 0, 256)
        for j in range(0, n, 2):  # the tile has zeros after the last cell
            even = madd(element(line, Q, at + j), load(tile, j, t, 256), even)
            odd = madd(element(line, Q, at + j + 1), load(tile, j + 1, t, 256), odd)
        store(vectors, SLOPE, t, madd(1, odd, even))
        t += lanes(tile, 256)
    while t < width:
        even, odd = load(vectors, SLOPE, t, 64), zero
        for j in range(0, n, 2):
            even = madd(element(line, Q, at + j), load(tile, j, t, 64), even)
            odd = madd(element(line, Q, at + j + 1), load(tile, j + 1, t, 64), odd)
        store(vectors, SLOPE, t, madd(1, odd, even))
        t += group


@jit_inlined
def _first_pass(cells: CsrRows, begin: int, n: int, at: int, other: Any, row: Row) -> None:
    """Set `tile` and Y of n cells, and add these to the gradient and to A's diagonal.

    Eight cells at a time, so that there is arithmetic to do while the memory brings the next ones.
    """
    tile, line, vectors, indices = row.tile, row.line, row.vectors, cells.indices
    last, end = indices.shape[0] - 1, begin + n - 1
    zero = fill(tile, 0, WIDE)
    for j in range(0, n, 8):
        p = begin + j  # past the last cell that one comes again, with SHARE and AIM of 0
        c0, c1 = place(indices, p), place(indices, min(p + 1, end))
        c2, c3 = place(indices, min(p + 2, end)), place(indices, min(p + 3, end))
        c4, c5 = place(indices, min(p + 4, end)), place(indices, min(p + 5, end))
        c6, c7 = place(indices, min(p + 6, end)), place(indices, min(p + 7, end))
        p += SOON
        s0, s1 = place(indices, min(p, last)), place(indices, min(p + 1, last))
        s2, s3 = place(indices, min(p + 2, last)), place(indices, min(p + 3, last))
        a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
        for t in range(0, tile.shape[1], lanes(tile, WIDE)):
            v = load(vectors, W, t, WIDE)
            prefetch(other, s0, t)
            prefetch(other, s1, t)
            a0 = madd(_copied(other, c0, tile, j, t), v, a0)
            a1 = madd(_copied(other, c1, tile, j + 1, t), v, a1)
            a2 = madd(_copied(other, c2, tile, j + 2, t), v, a2)
            a3 = madd(_copied(other, c3, tile, j + 3, t), v, a3)
            prefetch(other, s2, t)
            prefetch(other, s3, t)
            a4 = madd(_copied(other, c4, tile, j + 4, t), v, a4)
            a5 = madd(_copied(other, c5, tile, j + 5, t), v, a5)
            a6 = madd(_copied(other, c6, tile, j + 6, t), v, a6)
            a7 = madd(_copied(other, c7, tile, j + 7, t), v, a7)
        y = sums8(a0, a1, a2, a3, a4, a5, a6, a7)
        store(line, Y, at + j, y)
        store(line, Q, at + j, madd(load_as(line, SHARE, at + j, y), y, load_as(line, AIM, at + j, y)))
        s4, s5 = place(indices, min(p + 4, last)), place(indices, min(p + 5, last))
        s6, s7 = place(indices, min(p + 6, last)), place(indices, min(p + 7, last))
        for t in range(0, tile.shape[1], lanes(tile, WIDE)):
            slopes, curves = (load(vectors, SLOPE, t, WIDE), zero), (load(vectors, CURVE, t, WIDE), zero)
            prefetch(other, s4, t)
            slopes, curves = _added_pair(slopes, curves, row, j, at + j, t)
            prefetch(other, s5, t)
            slopes, curves = _added_pair(slopes, curves, row, j + 2, at + j + 2, t)
            prefetch(other, s6, t)
            slopes, curves = _added_pair(slopes, curves, row, j + 4, at + j + 4, t)
            prefetch(other, s7, t)
            slopes, curves = _added_pair(slopes, curves, row, j + 6, at + j + 6, t)
            store(vectors, SLOPE, t, madd(1, slopes[1], slopes[0]))
            store(vectors, CURVE, t, madd(1, curves[1], curves[0]))


@jit_inlined
def _copied(other: Any, column: int, tile: Any, j: int, t: int) -> Any:
    """A vector of a row of `other`, which it also stores in the tile."""
    h = load(other, column, t, WIDE)
    store(tile, j, t, h)
    return h


@jit_inlined
def _added_pair(slopes: Any, curves: Any, row: Row, j: int, at: int, t: int) -> Any:
    """The two sums of each with the cells j and j + 1 of the tile, whose numbers in `line` lie from `at` on."""
    line = row.line
    h, g = load(row.tile, j, t, WIDE), load(row.tile, j + 1, t, WIDE)
    zero = fill(row.tile, 0, WIDE)
    curves = (
        madd(madd(element(line, SHARE, at), h, zero), h, curves[0]),
        madd(madd(element(line, SHARE, at + 1), g, zero), g, curves[1]),
    )
    slopes = madd(element(line, Q, at), h, slopes[0]), madd(element(line, Q, at + 1), g, slopes[1])
    return slopes, curves


@jit_inlined
def _share(terms: RowTerms, row: Row, vector: int, out: int) -> None:
    """vectors[out] = w₀·G·v; v is a row of `vectors`, and many of its components are 0."""
    vectors, gram, words = row.vectors, terms.gram, row.words
    width = vectors.shape[1]
    for b in range(words.shape[0]):
        word = np.uint64(0)
        for t in range(WORD * b, min(WORD * b + WORD, width), lanes(vectors, 64)):
            word |= filled(load(vectors, vector, t, 64)) << np.uint64(t - WORD * b)
        words[b] = word
    t = 0
    while t + lanes(vectors, 256) <= width:
        even, odd = fill(vectors, 0, 256), fill(vectors, 0, 256)
        for b in range(words.shape[0]):
            word = words[b]
            while word != 0:
                r = WORD * b + lowest(word)
                even = madd(element(vectors, vector, r), load(gram, r, t, 256), even)
                word &= word - np.uint64(1)
                if word == 0:
                    break
                r = WORD * b + lowest(word)
                odd = madd(element(vectors, vector, r), load(gram, r, t, 256), odd)
                word &= word - np.uint64(1)
        store(vectors, out, t, madd(1, odd, even))
        t += lanes(vectors, 256)
    while t < width:
        part = fill(vectors, 0, 64)
        for b in range(words.shape[0]):
            word = words[b]
            while word != 0:
                r = WORD * b + lowest(word)
                part = madd(element(vectors, vector, r), load(gram, r, t, 64), part)
                word &= word - np.uint64(1)
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
def _begin(number: int, cells: CsrRows, other: Any, terms: RowTerms, diagonal: Any, start: Any, row: Row) -> Any:
    """Set the row's memory; returns ½ w·A·w − b·w."""
    vectors, line, lam = row.vectors, row.line, terms.lam[number]
    group, room = lanes(vectors, 64), row.tile.shape[0]
    for t in range(0, vectors.shape[1], group):
        store(vectors, W, t, load(start, number, t, 64))
        store(vectors, CURVE, t, madd(lam, load(terms.share, 0, t, 64), load(diagonal, 0, t, 64)))
    _share(terms, row, W, SHARED)
    value = _set_shared_slopes(terms, lam, row)
    first, end = cells.indptr[number], cells.indptr[number + 1]
    for begin in range(first, end, room):
        n, at = min(room, end - begin), begin - first
        weigh(cells, begin, n, at, terms, row)
        _first_pass(cells, begin, n, at, other, row)
    at_cells = fill(vectors, 0, 64)
    for j in range(0, end - first, group):
        y, aim = load(line, Y, j, 64), load(line, AIM, j, 64)
        at_cells = madd(y, madd(1, aim, madd(y, load(line, SHARE, j, 64), aim)), at_cells)
    for t in range(0, vectors.shape[1], group):
        store(vectors, CURVE, t, inverse(load(vectors, CURVE, t, 64), SMALLEST))
    return value + 0.5 * total(at_cells)


@jit_inlined
def _look_ahead(number: int, cells: CsrRows, other: Any, terms: RowTerms, row: Row) -> Any:
    """Set AHEAD and what belongs to it; returns g·d, g·w, d·A·d, w·A·d and w·A·w."""
    vectors, line, lam = row.vectors, row.line, terms.lam[number]
    group, room = lanes(vectors, 64), row.tile.shape[0]
    zero = fill(vectors, 0, 64)
    for t in range(0, vectors.shape[1], group):
        downhill = madd(-FAR, madd(load(vectors, SLOPE, t, 64), load(vectors, CURVE, t, 64), zero), zero)
        store(vectors, AHEAD, t, higher(downhill, madd(-1, load(vectors, W, t, 64), zero)))
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
            fetch(cells, begin, n, other, row.tile)
        _products(n, at, row, AHEAD, Q)
    for j in range(0, end - first, group):
        y, q, share = load(line, Y, j, 64), load(line, Q, j, 64), load(line, SHARE, j, 64)
        bent = madd(share, q, zero)
        dd, wd, ww = madd(bent, q, dd), madd(bent, y, wd), madd(madd(share, y, zero), y, ww)
    return total(gd), total(gw), total(dd), total(wd), total(ww)


@jit_inlined
def _lengths(gd: float, gw: float, dd: float, wd: float, ww: float) -> Any:
    """The best α and 1 + β with α ≤ 1 + β."""
    determinant = dd * ww - wd * wd
    if determinant > PARALLEL * dd * ww:
        alpha, stay = (gw * wd - gd * ww) / determinant, 1 + (gd * wd - gw * dd) / determinant
        if 0 < alpha <= stay:
            return alpha, stay
        if alpha > 0 and stay > 0:  # then the best multiple of w + d
            multiple = max((ww - gw + wd - gd) / (ww + 2 * wd + dd), 0.0)
            return multiple, multiple
    return min(-gd / dd, 1.0), 1.0


@jit_inlined
def _go(alpha: float, stay: float, row: Row) -> None:
    """Set W to (1 + β)·w + α·d, which is exactly 0 where w + d is 0 and α = 1 + β."""
    vectors = row.vectors
    zero = fill(vectors, 0, 64)
    for t in range(0, vectors.shape[1], lanes(vectors, 64)):
        w = load(vectors, W, t, 64)
        reached = madd(1, load(vectors, AHEAD, t, 64), w)
        store(vectors, W, t, madd(alpha, reached, madd(stay - alpha, w, zero)))


@jit_inlined
def _set_slopes(number: int, alpha: float, stay: float, cells: CsrRows, other: Any, terms: RowTerms, row: Row) -> None:
    """Set SLOPE after a step."""
    vectors, line = row.vectors, row.line
    group, room = lanes(vectors, 64), row.tile.shape[0]
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
            fetch(cells, begin, n, other, row.tile)
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
    row = Row(
        unset(room, width, kind), scratch(4, (longest + 47) // 16 * 16, kind), scratch(6, width, kind),
        np.zeros((width + WORD - 1) // WORD, np.uint64),
    )  # fmt: skip
    diagonal = scratch(1, width, kind)
    for t in range(terms.k):
        diagonal[0, t] = terms.gram[t, t]
    for number in range(cells.lo, cells.hi):
        value = _begin(number, cells, other, terms, diagonal, start, row)
        for s in range(steps):
            gd, gw, dd, wd, ww = _look_ahead(number, cells, other, terms, row)
            if not (gd < 0 and dd > 0):
                break
            alpha, stay = _lengths(gd, gw, dd, wd, ww)
            beta = stay - 1
            value += alpha * gd + beta * gw + 0.5 * (alpha * alpha * dd + beta * (2 * alpha * wd + beta * ww))
            _go(alpha, stay, row)
            if s + 1 < steps:
                _set_slopes(number, alpha, stay, cells, other, terms, row)
        sums[0] += value
        for t in range(0, width, lanes(new, 64)):
            store(new, number, t, load(row.vectors, W, t, 64))
