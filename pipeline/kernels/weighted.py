"""One half of the weighted alternation, compiled: rows of one factor given the other. Importing it imports numba.

Given H, a row w of W (a user; items are the same on Xᵀ) is a problem of its own:

    minimise over w ≥ 0   ½ w·A·w − b·w,   A = w₀·G + Σ_i (c_i − w₀)·h_i·h_iᵀ + λ·share,   b = Σ_i c_i·x_i·h_i + λ·pull

with i over the row's cells, c = 1 + confidence·x, G = H·Hᵀ, and `share` and `pull` a number for each component:
1 − ρ and −ρ, or 1 and the prior for a bias, or 0 for a component that is fixed (Hu, Koren & Volinsky 2008, with
non-negativity and the penalties of `pipeline.models.objective`). A is another one for each row. Three ways through it:

* `pipeline.kernels.weighted_steps` forms no A: two cheap steps a half-step, for the first iterations.
* `sweep_rows` takes the row's gradient where it begins, and lets the components that are 0 and would stay so rest: two
  in three. For the others A is formed, and coordinate descent on that costs a few vectors a step. For the alternation,
  where a few sweeps from where the row was are all that pays.
* `pipeline.kernels.weighted_exact` forms all of A (k²/2 for a cell) and solves in float64 to tolerance: for the end,
  and for folding in.

Factors are (rows, width), their `width` a multiple of 16 with zeros past k components. Every row is computed on its
own and every sum is taken in an order fixed by (lo, hi).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pipeline.kernels.arguments import CsrRows, RowTerms, WeightedStep
from pipeline.kernels.half_step import SMALLEST, add_gram
from pipeline.kernels.jit import jit_inlined, jit_reassociating
from pipeline.kernels.scratch import scratch, unset
from pipeline.kernels.simd import element, fill, lanes, load, load_line, prefetch, store, transpose8
from pipeline.kernels.simd_arithmetic import chosen, madd, relu, total
from pipeline.kernels.simd_gather import pick, sums8

__all__ = ["AIM", "BLOCK", "SHARE", "TILE", "fetch", "keep_rows", "sweep_rows", "weigh"]

BLOCK = 64  # rows summed in their own width before they go into float64, and cells of a row at a time
TILE = 2**17  # numbers of a row's cells that are copied next to one another, to stay in the second cache
AHEAD = 16  # cells between asking for a row and using it


class Row(NamedTuple):
    """Working memory for one row, in the type of the factors.

    tile : (room, width), rows of the other factor for some of the row's cells
    line : (3, room), of each of these cells: its pull q = (c − w₀)·ŷ − c·x, c − w₀, −c·x
    vectors : (4, width), named by the numbers below
    A : (width, width), of the active components
    active : (1, width) int32, the components that are not at rest
    """

    tile: Any
    line: Any
    vectors: Any
    A: Any
    active: Any


Q, SHARE, AIM = 0, 1, 2  # rows of `line`
W, SLOPE, CURVE, INVERSE = 0, 1, 2, 3  # of `vectors`: the row, its gradient, A's diagonal a, −1/a; then of the active


@jit_inlined
def weigh(cells: CsrRows, begin: int, n: int, at: int, terms: RowTerms, row: Any) -> None:
    """Set SHARE and AIM of `line` from `at` on, for n cells; up to a multiple of 16 they are 0."""
    line, data = row.line, cells.data
    group = lanes(line, 64)
    one, zero = fill(line, 1, 64), fill(line, 0, 64)
    whole = n // group * group
    for j in range(0, whole, group):
        x = load_line(data, begin + j, 64)
        c = chosen(x, madd(terms.confidence, x, one), terms.zero)
        store(line, SHARE, at + j, madd(-terms.weight, one, c))
        store(line, AIM, at + j, madd(c, madd(-1, x, zero), zero))
    for j in range(whole, (n + 15) // 16 * 16, group):
        store(line, SHARE, at + j, zero)
        store(line, AIM, at + j, zero)
    for j in range(whole, n):
        x = data[begin + j]
        c = 1 + terms.confidence * x if x != 0 else terms.zero
        line[SHARE, at + j] = c - terms.weight
        line[AIM, at + j] = -c * x


@jit_inlined
def fetch(cells: CsrRows, begin: int, n: int, other: Any, tile: Any) -> None:
    """Set n rows of `tile`; up to a multiple of 8 they are 0."""
    indices = cells.indices
    last = indices.shape[0] - 1
    width, group = tile.shape[1], lanes(tile, 64)
    for j in range(n):
        column, soon = np.intp(indices[begin + j]), np.intp(indices[min(begin + j + AHEAD, last)])
        for t in range(0, width, group):
            prefetch(other, soon, t)
            store(tile, j, t, load(other, column, t, 64))
    zero = fill(tile, 0, 64)
    for j in range(n, (n + 7) // 8 * 8):
        for t in range(0, width, group):
            store(tile, j, t, zero)


@jit_inlined
def _add_slopes(n: int, row: Row) -> Any:
    """Add n cells' part Σ q·h to the gradient; returns Σ ½(c − w₀)·ŷ² − c·x·ŷ."""
    tile, line, vectors = row.tile, row.line, row.vectors
    width, group = tile.shape[1], lanes(tile, 64)
    zero = fill(tile, 0, 64)
    for j in range(0, n, 8):
        a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
        for t in range(0, width, group):
            w = load(vectors, W, t, 64)
            a0 = madd(load(tile, j, t, 64), w, a0)
            a1 = madd(load(tile, j + 1, t, 64), w, a1)
            a2 = madd(load(tile, j + 2, t, 64), w, a2)
            a3 = madd(load(tile, j + 3, t, 64), w, a3)
            a4 = madd(load(tile, j + 4, t, 64), w, a4)
            a5 = madd(load(tile, j + 5, t, 64), w, a5)
            a6 = madd(load(tile, j + 6, t, 64), w, a6)
            a7 = madd(load(tile, j + 7, t, 64), w, a7)
        store(line, Q, j, sums8(a0, a1, a2, a3, a4, a5, a6, a7))
    at_cells = zero
    for j in range(0, n, group):
        y, aim = load(line, Q, j, 64), load(line, AIM, j, 64)
        q = madd(y, load(line, SHARE, j, 64), aim)
        store(line, Q, j, q)
        at_cells = madd(y, madd(1, aim, q), at_cells)
    t = 0
    while t + lanes(tile, 256) <= width:
        slope = load(vectors, SLOPE, t, 256)
        for j in range(n):
            slope = madd(element(line, Q, j), load(tile, j, t, 256), slope)
        store(vectors, SLOPE, t, slope)
        t += lanes(tile, 256)
    while t < width:
        part = load(vectors, SLOPE, t, 64)
        for j in range(n):
            part = madd(element(line, Q, j), load(tile, j, t, 64), part)
        store(vectors, SLOPE, t, part)
        t += group
    return 0.5 * total(at_cells)


@jit_inlined
def _begin(number: int, cells: CsrRows, other: Any, terms: RowTerms, start: Any, row: Row) -> Any:
    """Set W and SLOPE to the row and its gradient; returns ½ w·A·w − b·w."""
    vectors, gram, lam = row.vectors, terms.gram, terms.lam[number]
    width, group = vectors.shape[1], lanes(vectors, 64)
    zero = fill(vectors, 0, 64)
    for t in range(0, width, group):
        store(vectors, W, t, load(start, number, t, 64))
        store(vectors, SLOPE, t, zero)
    for r in range(terms.k):
        if vectors[W, r] != 0:
            for t in range(0, width, group):
                store(vectors, SLOPE, t, madd(vectors[W, r], load(gram, r, t, 64), load(vectors, SLOPE, t, 64)))
    halves = zero
    for t in range(0, width, group):
        w, slope = load(vectors, W, t, 64), load(vectors, SLOPE, t, 64)
        own, pull = madd(load(terms.share, 0, t, 64), w, zero), load(terms.pull, 0, t, 64)
        halves = madd(w, madd(lam, madd(-2, pull, own), slope), halves)
        store(vectors, SLOPE, t, madd(lam, madd(-1, pull, own), slope))
    value = 0.5 * total(halves)
    first, end, room = cells.indptr[number], cells.indptr[number + 1], row.tile.shape[0]
    for begin in range(first, end, room):
        n = min(room, end - begin)
        weigh(cells, begin, n, 0, terms, row)
        fetch(cells, begin, n, other, row.tile)
        value += _add_slopes(n, row)
    return value


@jit_inlined
def _activate(terms: RowTerms, row: Row) -> int:
    """Set `active`, and pack W and SLOPE to those; returns their number."""
    vectors, active, free, pull = row.vectors, row.active, terms.free, terms.pull
    n = 0
    for t in range(terms.k):
        if free[t] and not (vectors[W, t] == 0 and vectors[SLOPE, t] >= 0 and pull[0, t] <= 0):
            active[0, n] = t
            vectors[W, n] = vectors[W, t]
            vectors[SLOPE, n] = vectors[SLOPE, t]
            n += 1
    for i in range(n, (n + 15) // 16 * 16):
        active[0, i] = active[0, 0]  # any one will do: its sums are left out
    return n


@jit_inlined
def _form(number: int, cells: CsrRows, other: Any, terms: RowTerms, row: Row, n: int) -> None:
    """Set A for the n active components, up to a multiple of 16."""
    A, active, gram, tile, line = row.A, row.active, terms.gram, row.tile, row.line
    room, wide, group = tile.shape[0], (n + 15) // 16 * 16, lanes(A, 64)
    zero = fill(A, 0, 64)
    for t in range(0, wide, group):
        for i in range(min(n, t + group)):
            store(A, i, t, pick(gram, np.intp(active[0, i]), active, t, zero))
    first, end = cells.indptr[number], cells.indptr[number + 1]
    for begin in range(first, end, room):
        m = min(room, end - begin)
        if end - first > room:
            weigh(cells, begin, m, 0, terms, row)
            fetch(cells, begin, m, other, tile)
        for j in range(m):
            line[Q, j] = math.sqrt(line[SHARE, j])
        for t in range(0, wide, group):
            for j in range(m):
                store(tile, j, t, madd(element(line, Q, j), pick(tile, j, active, t, zero), zero))
        for block in range(0, m, BLOCK):
            add_gram(tile, block, min(BLOCK, m - block), n, A)
    for t in range(0, wide, 8):
        for r in range(t // group * group + group, wide, 8):
            transpose8(A, t, r, A, r, t)
    for i in range(n):
        A[i, i] += terms.lam[number] * terms.share[0, active[0, i]]


@jit_inlined
def _descend(terms: RowTerms, row: Row, n: int, sweeps: int) -> Any:
    """Sweeps over the n active components; returns how much ½ w·A·w − b·w has changed.

    SLOPE becomes the steps −gradient / a that would each be best alone, and A's columns are divided by −a likewise:
    from one step to the next a comparison and a multiply-add wait for each other, and no division.
    """
    A, vectors, active = row.A, row.vectors, row.active
    wide, group = (n + 15) // 16 * 16, lanes(row.A, 64)
    zero = fill(A, 0, 64)
    for i in range(wide):
        a = A[i, i]
        vectors[CURVE, i] = a
        depends = i < n and a > SMALLEST
        vectors[INVERSE, i] = -1 / a if depends else 0
        vectors[SLOPE, i] *= vectors[INVERSE, i]
        if i < n and not depends:
            vectors[W, i] = max(terms.pull[0, active[0, i]], 0)
    for i in range(n):
        for t in range(0, wide, group):
            store(A, i, t, madd(load(A, i, t, 64), load(vectors, INVERSE, t, 64), zero))
    change = 0.0
    for _ in range(sweeps):
        moved = False
        for i in range(n):
            best, old = vectors[SLOPE, i], vectors[W, i]
            step = -old if best <= -old else best
            if step != 0:
                moved = True
                vectors[W, i] = old + step
                for t in range(0, wide, group):
                    store(vectors, SLOPE, t, madd(step, load(A, i, t, 64), load(vectors, SLOPE, t, 64)))
                change += np.float64(step) * np.float64(vectors[CURVE, i]) * (0.5 * np.float64(step) - best)
        if not moved:
            break
    return change


@jit_reassociating
def sweep_rows(cells: CsrRows, other: Any, terms: RowTerms, start: Any, new: Any, sweeps: int, sums: Any) -> None:
    """Rows cells.lo … cells.hi − 1: `sweeps` rounds of coordinate descent from `start`.

    They leave out the components that are 0 and whose gradient at `start` would not let them grow.

    Parameters
    ----------
    other : (columns, width) the fixed factor
    terms : its arrays and numbers in the type of the factors
    start, new : (rows, width) where the sweeps begin, and their result; may be one array
    sums : (1,) float64, to which is added: Σ over rows ½ w·A·w − b·w at the result
    """
    kind, width = new.dtype, new.shape[1]
    longest = np.int64(1)
    for number in range(cells.lo, cells.hi):
        longest = max(longest, cells.indptr[number + 1] - cells.indptr[number])
    room = (min(longest, max(TILE // width, BLOCK)) + 15) // 16 * 16
    row = Row(
        unset(room, width, kind), scratch(3, room, kind), scratch(4, width, kind), scratch(width, width, kind),
        np.zeros((1, width), np.int32),
    )  # fmt: skip
    zero = fill(new, 0, 64)
    for number in range(cells.lo, cells.hi):
        value = _begin(number, cells, other, terms, start, row)
        for t in range(0, width, lanes(new, 64)):
            store(new, number, t, zero)
        for t in range(terms.k):
            if not terms.free[t]:
                new[number, t] = row.vectors[W, t]
        n = _activate(terms, row)
        if n > 0:
            _form(number, cells, other, terms, row, n)
            value += _descend(terms, row, n, sweeps)
        sums[0] += value
        for i in range(n):
            new[number, row.active[0, i]] = row.vectors[W, i]


@jit_reassociating
def keep_rows(lo: int, hi: int, step: WeightedStep, lam: Any, share: Any, pull: Any, gram: Any, sums: Any) -> None:
    """step.own = max(0, new + beta·(new − past)) for the rows lo … hi − 1, as the other half-step will fetch it.

    To the upper triangle of gram (width, width) float64 is added ownᵀ·own, to sums (1,) float64
    Σ λ·(½ share·w² − pull·w). lam, share, pull : as in `RowTerms`, in the type of the factors.
    """
    new, past, own, beta = step.new, step.past, step.own, step.beta
    width = new.shape[1]
    zero = fill(new, 0, 64)
    for block in range(lo, hi, BLOCK):
        n = min(BLOCK, hi - block)
        for row in range(block, block + n):
            penalty = zero
            for t in range(0, width, lanes(new, 64)):
                now = load(new, row, t, 64)
                extrapolated = relu(madd(beta, madd(-1, load(past, row, t, 64), now), now))
                store(own, row, t, extrapolated)
                half = madd(0.5, load(share, 0, t, 64), zero)
                penalty = madd(extrapolated, madd(half, extrapolated, madd(-1, load(pull, 0, t, 64), zero)), penalty)
            sums[0] += lam[row] * total(penalty)
        add_gram(own, block, n, width, gram)
