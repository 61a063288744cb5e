"""One half of the alternation, compiled: rows of one factor given the other. Importing it imports numba.

For X ≈ W·H every row of W is a problem of its own given H:

    minimise over w ≥ 0   ½ w·G·w − b·w,   G = H·Hᵀ + l2·I,   b = Σ_i x_i·h_i − l1   (i: the row's cells)

and coordinate descent solves it: w_t ← max(0, w_t + (b_t − G_t·w) / G_tt) for t = 0 … k-1, which is
Cichocki & Phan's HALS (2009) taken row by row, the steps of scikit-learn's ``cd`` solver. The other
half is the same routine on Xᵀ. What makes it fast:

* b comes from rows of H fetched ahead of use, summed in registers, and never leaves the cache;
* rows lie side by side in SIMD lanes, so a coordinate's step is the same instruction for all;
* the factor that rows are fetched from may be kept in half the width: memory decides that part.

Factors here are (rows, width), their `width` a multiple of 16 with zeros past k components. Every row is
computed on its own and every sum is taken in an order fixed by (lo, hi).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core.registry import cpu_target

from pipeline.kernels.arguments import CsrRows, FixedFactor, SolvedFactor, StepOptions
from pipeline.kernels.jit import jit_reassociating
from pipeline.kernels.simd import (
    PAIR,
    PANEL,
    accumulate,
    element,
    fill,
    lanes,
    load,
    prefetch,
    prefetch_cell,
    prefetch_far,
    store,
    transpose8,
)
from pipeline.kernels.simd_arithmetic import above, madd, relu, total, violation

__all__ = ["half_step", "has_half", "keep_rows"]

BLOCK = 256  # rows at a time: their b, and the factor's rows, stay in the second cache
GRAM = 64  # of these at a time for a Gram matrix: they stay in the first cache
AHEAD = 16  # a row is prefetched so many cells before it is used
LARGE, LARGE_AHEAD = 2**15, 48  # of more cache lines, into the second cache so many cells before
FAR_AHEAD = 256  # a cell is prefetched so many cells before it is used
SMALLEST = 1e-35  # a component whose squared norm is smaller is left as it is


@jit_reassociating
def _gather(row: int, cells: CsrRows, other: Any, scale: float, l1: float, b: Any, place: int) -> None:
    """b[place] = scale·Σ x·other[i] over the row's cells, less l1, in panels that fit the registers.

    Indices are unsigned, since numba tests others for their sign, at every cell.
    """
    indptr, indices, data = cells.indptr, cells.indices, cells.data
    last = indices.shape[0] - 1
    step = lanes(other, 64)
    start, end = indptr[row], indptr[row + 1]
    width = b.shape[1]
    panel = lanes(b, 256)
    large = other.shape[0] * other.shape[1] > LARGE * step
    t = 0
    while t + panel <= width:
        acc = fill(b, 0, 256)
        for p in range(start, end):
            prefetch_cell(indices, p + FAR_AHEAD)
            prefetch_cell(data, p + FAR_AHEAD)
            soon, cell = np.intp(indices[np.uint64(min(p + AHEAD, last))]), np.uint64(p)
            for c in range(t, t + panel, step):
                prefetch(other, soon, c)
            if large:
                later = np.intp(indices[np.uint64(min(p + LARGE_AHEAD, last))])
                for c in range(t, t + panel, step):
                    prefetch_far(other, later, c)
            acc = madd(data[cell], load(other, np.intp(indices[cell]), t, 256), acc)
        store(b, place, t, madd(scale, acc, fill(b, -l1, 256)))
        t += panel
    while t < width:
        part = fill(b, 0, 64)
        for p in range(start, end):
            prefetch(other, np.intp(indices[np.uint64(min(p + AHEAD, last))]), t)
            cell = np.uint64(p)
            part = madd(data[cell], load(other, np.intp(indices[cell]), t, 64), part)
        store(b, place, t, madd(scale, part, fill(b, -l1, 64)))
        t += lanes(b, 64)


def _sweeps_of(*, watched: bool) -> Any:
    """Sweeps over the lanes of w (width, lanes), one row of the factor a lane; `minus` is −gram.

    After the first sweep the lanes go on where `going_on` (1, lanes) is 1 and not 0. Adds to sums[1] the decrease of
    ½ w·G·w − b·w. What only some half-steps need is compiled for these alone: `watched`, it adds to sums[0]
    Σ |projected gradient| before the first sweep, and a lane goes on, whatever `going_on` is, until a sweep moves it by
    less than `tol` of its length (both in the norm Σ G_tt·w_t²).

    Each pass over w computes the gradients of two coordinates, since the multiply-adds of one wait for each
    other. The second gradient is then corrected by the step of the first coordinate: the steps are those of plain
    coordinate descent.
    """

    @jit_reassociating
    def _sweeps(b: Any, w: Any, gram: Any, minus: Any, going_on: Any, options: StepOptions, sums: Any) -> None:
        k, tol = options.k, options.tol
        zero = fill(gram, 0, PANEL)
        active = fill(gram, 1, PANEL)
        gradient = zero
        decrease = zero
        for s in range(options.sweeps):
            moved = zero
            length = zero
            for t in range(0, k, 2):
                step = load(b, t, 0, PANEL)
                next_step = load(b, t + 1, 0, PANEL)
                for r in range(k):
                    x = load(w, r, 0, PANEL)
                    step = madd(element(minus, t, r), x, step)
                    next_step = madd(element(minus, t + 1, r), x, next_step)
                for c in range(t, t + 2):
                    old = load(w, c, 0, PANEL)
                    if watched and s == 0:
                        gradient = madd(1, violation(step, old), gradient)
                    curvature = element(gram, c, c)
                    if curvature > SMALLEST:
                        new = relu(madd(1 / curvature, madd(step, active, zero), old))
                        store(w, c, 0, new)
                        change = madd(-1, old, new)
                        # f(w + d) - f(w) = -step·d + ½ G_tt·d²
                        decrease = madd(madd(-0.5 * curvature, change, step), change, decrease)
                        if c == t:
                            next_step = madd(element(minus, t + 1, t), change, next_step)
                        if watched:
                            moved = madd(madd(curvature, change, zero), change, moved)
                            length = madd(curvature, madd(new, new, zero), length)
                    step = next_step
            if watched:
                active = madd(active, above(moved, madd(tol * tol, length, zero)), zero)
            else:
                active = load(going_on, 0, 0, PANEL)
            if total(active) == 0:
                break
        sums[0] += total(gradient)
        sums[1] += total(decrease)

    return _sweeps


_sweeps, _watched_sweeps = _sweeps_of(watched=False), _sweeps_of(watched=True)


@jit_reassociating
def add_gram(rows: Any, lo: int, n: int, k: int, out: Any) -> None:
    """out += upper triangle of rowsᵀ·rows, of rows lo … lo + n − 1 and their first k columns, in the type of `out`.

    Up to a multiple of 16 columns past k are summed as well, whatever is in them. Four rows of `out` by `PAIR` bytes
    at a time, or eight by 64: eight sums run side by side, and fewer would wait for one another.
    """
    width = (k + 15) // 16 * 16
    step = lanes(rows, PAIR)
    half = lanes(rows, 64)
    for t in range(0, k, 8):
        r = t // half * half
        if (width - r) % step:
            zero1 = fill(rows, 0, 64)
            c0, c1, c2, c3, c4, c5, c6, c7 = zero1, zero1, zero1, zero1, zero1, zero1, zero1, zero1
            for i in range(lo, lo + n):
                y = load(rows, i, r, 64)
                c0 = madd(element(rows, i, t), y, c0)
                c1 = madd(element(rows, i, t + 1), y, c1)
                c2 = madd(element(rows, i, t + 2), y, c2)
                c3 = madd(element(rows, i, t + 3), y, c3)
                c4 = madd(element(rows, i, t + 4), y, c4)
                c5 = madd(element(rows, i, t + 5), y, c5)
                c6 = madd(element(rows, i, t + 6), y, c6)
                c7 = madd(element(rows, i, t + 7), y, c7)
            accumulate(out, t, r, c0)
            accumulate(out, t + 1, r, c1)
            accumulate(out, t + 2, r, c2)
            accumulate(out, t + 3, r, c3)
            accumulate(out, t + 4, r, c4)
            accumulate(out, t + 5, r, c5)
            accumulate(out, t + 6, r, c6)
            accumulate(out, t + 7, r, c7)
            r += half
        while r < width:
            zero = fill(rows, 0, PAIR)
            for u in range(t, min(t + 8, k), 4):
                a0, a1, a2, a3 = zero, zero, zero, zero
                for i in range(lo, lo + n):
                    x = load(rows, i, r, PAIR)
                    a0 = madd(element(rows, i, u), x, a0)
                    a1 = madd(element(rows, i, u + 1), x, a1)
                    a2 = madd(element(rows, i, u + 2), x, a2)
                    a3 = madd(element(rows, i, u + 3), x, a3)
                accumulate(out, u, r, a0)
                accumulate(out, u + 1, r, a1)
                accumulate(out, u + 2, r, a2)
                accumulate(out, u + 3, r, a3)
            r += step


@jit_reassociating
def keep_rows(lo: int, hi: int, source: Any, stored: Any, scale: float, gram: Any) -> None:
    """stored = source / scale, rounded to its width; gram (width, width) float64 += its upper triangle, scaled back."""
    zero = fill(source, 0, 64)
    rows = np.zeros((GRAM, source.shape[1]), source.dtype)
    for block in range(lo, hi, GRAM):
        n = min(GRAM, hi - block)
        for i in range(n):
            for t in range(0, source.shape[1], lanes(source, 64)):
                store(stored, block + i, t, madd(1 / scale, load(source, block + i, t, 64), zero))
                store(rows, i, t, madd(scale, load(stored, block + i, t, 64), zero))
        add_gram(rows, 0, n, source.shape[1], gram)


@jit_reassociating
def half_step(
    cells: CsrRows, fixed: FixedFactor, solved: SolvedFactor, options: StepOptions, gram_own: Any, sums: Any
) -> None:
    """Solve for the rows cells.lo … cells.hi − 1 of one factor.

    Parameters
    ----------
    gram_own : (width, width) float64, to whose upper triangle is added: ownᵀ·own (as stored, times the scale);
        (0, 0) where it is not wanted
    sums : (7,) float64, to which is added: Σ |projected gradient| at the start; the decrease of
        Σ (½ w·G·w − b·w) from the start; Σ b·start; Σ b·new (with l1 added to this b); Σ own; Σ new; Σ new²
    """
    other, other_scale, gram, inverse, product = fixed.rows, fixed.scale, fixed.gram, fixed.inverse, fixed.product
    start, past, own, own_scale, new = solved.start, solved.past, solved.own, solved.scale, solved.new
    k, l1, beta = options.k, options.l1, options.beta
    lo, hi = cells.lo, cells.hi
    width = new.shape[1]
    side = lanes(new, PANEL)
    group = lanes(new, 64)
    b = np.empty((BLOCK, width), new.dtype)
    rows = np.empty((BLOCK, width), new.dtype)
    b_lanes = np.empty((width, side), new.dtype)
    w_lanes = np.empty((width, side), new.dtype)
    going_on = np.empty((1, side), new.dtype)
    slots = np.empty(BLOCK, np.intp)
    minus = -gram
    zero = fill(new, 0, 64)
    for block in range(lo, hi, BLOCK):
        n = min(BLOCK, hi - block)
        b_start = zero
        long, short = 0, n  # rows of one sweep lie side by side, after those of more
        for i in range(n):
            if product.shape[0] or cells.indptr[block + i + 1] - cells.indptr[block + i] >= options.once_under:
                slot = long
                long += 1
            else:
                short -= 1
                slot = short
            slots[i] = slot
            # Memory answers while the row's cells are summed.
            for t in range(0, width, lanes(start, 64)):
                prefetch(start, block + i, t)
            for t in range(0, width, group):
                prefetch(past, block + i, t)
                prefetch(new, block + i, t)
            if product.shape[0]:
                for t in range(0, width, group):
                    store(b, slot, t, madd(1, load(product, block + i, t, 64), fill(b, -l1, 64)))
            else:
                _gather(block + i, cells, other, other_scale, l1, b, slot)
            for t in range(0, width, group):
                initial = madd(own_scale, load(start, block + i, t, 64), zero)
                b_start = madd(initial, load(b, slot, t, 64), b_start)
                store(rows, slot, t, initial)
        for i in range(n, (n + side - 1) // side * side):
            for t in range(0, width, group):
                store(b, i, t, zero)
                store(rows, i, t, zero)
        for c in range(0, n, side):
            for i in range(0, side, 8):
                for t in range(0, width, 8):
                    transpose8(b, c + i, t, b_lanes, t, i)
                    transpose8(rows, c + i, t, w_lanes, t, i)
            if inverse.shape[0]:
                for t in range(k):
                    guess = fill(inverse, 0, PANEL)
                    for r in range(k):
                        guess = madd(inverse[t, r], load(b_lanes, r, 0, PANEL), guess)
                    store(w_lanes, t, 0, relu(guess))
            for i in range(side):
                going_on[0, i] = c + i < long
            if options.watched:
                _watched_sweeps(b_lanes, w_lanes, gram, minus, going_on, options, sums)
            else:
                _sweeps(b_lanes, w_lanes, gram, minus, going_on, options, sums)
            for i in range(0, side, 8):
                for t in range(0, width, 8):
                    transpose8(w_lanes, t, i, rows, c + i, t)
        cross = zero
        sum_own = zero
        sum_new = zero
        squares = zero
        for i in range(n):
            slot = slots[i]
            for t in range(0, width, group):
                now = load(rows, slot, t, 64)
                before = load(past, block + i, t, 64)
                extrapolated = relu(madd(beta, madd(-1, before, now), now))
                store(new, block + i, t, now)
                store(own, block + i, t, madd(1 / own_scale, extrapolated, zero))
                stored = madd(own_scale, load(own, block + i, t, 64), zero)
                store(rows, slot, t, stored)
                cross = madd(now, madd(1, load(b, slot, t, 64), fill(b, l1, 64)), cross)
                sum_own = madd(1, stored, sum_own)
                sum_new = madd(1, now, sum_new)
                squares = madd(now, now, squares)
        sums[2] += total(b_start)
        sums[3] += total(cross)
        sums[4] += total(sum_own)
        sums[5] += total(sum_new)
        sums[6] += total(squares)
        if gram_own.shape[0]:
            for i in range(0, n, GRAM):
                add_gram(rows, i, min(GRAM, n - i), width, gram_own)


def has_half() -> bool:
    """Whether this machine widens half floats in one instruction."""
    codegen = cpu_target.target_context.codegen()
    triple, _, features = codegen.magic_tuple()
    return "+f16c" in features or triple.startswith(("aarch64", "arm64"))
