"""One half of the weighted alternation, compiled: rows of one factor given the other. Importing it imports numba.

Given H, a row w of W (a user; items are the same on Xᵀ) is a problem of its own:

    minimise over w ≥ 0   ½ w·A·w − b·w,   A = w₀·G + Σ_i (c_i − w₀)·h_i·h_iᵀ + λ·share,   b = Σ_i c_i·x_i·h_i + λ·pull

with i over the row's cells, c = 1 + confidence·x, G = H·Hᵀ, and `share` and `pull` a number for each component:
1 − ρ and −ρ, or 1 and the prior for a bias, or 0 for a component that is fixed (Hu, Koren & Volinsky 2008, with
non-negativity and the penalties of `pipeline.models.objective`). A is another one for each row. Two ways through it:

* `sweep_rows` never forms A. It lays the h of the row's cells side by side, a component's values in one line, and keeps
  the cells' pulls q = (c − w₀)·ŷ − c·x up to date: a coordinate costs three passes over a line of the row's cells
  (gradient, curvature, update), which are SIMD over cells, and k for the part of w₀·G. For the alternation,
  where a sweep or two from where the row was are all that pays.
* `pipeline.kernels.weighted_exact` forms A (k²/2 for a cell) and solves in float64 to tolerance: for the end, and for
  folding in.

Factors are (rows, width), their `width` a multiple of 16 with zeros past k components. Every row is computed on its
own and every sum is taken in an order fixed by (lo, hi).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.kernels.arguments import CsrRows, RowTerms, WeightedStep, Workspace
from pipeline.kernels.half_step import SMALLEST, add_gram
from pipeline.kernels.jit import jit_reassociating
from pipeline.kernels.simd import fill, lanes, load, prefetch, store
from pipeline.kernels.simd_arithmetic import across, madd, relu, total
from pipeline.kernels.simd_gather import gather8

__all__ = ["keep_rows", "sweep_rows"]

BLOCK = 64  # rows summed in their own width before they go into float64
AHEAD = 16  # cells between asking for a row and using it


@jit_reassociating
def sweep_rows(
    cells: CsrRows, other: Any, terms: RowTerms, start: Any, new: Any, sweeps: int, workspace: Workspace, sums: Any
) -> None:
    """Rows cells.lo … cells.hi − 1: `sweeps` rounds of coordinate descent from `start`.

    The second and later rounds leave out the components that are 0 by then: most of a row, and they seldom change.

    Parameters
    ----------
    other : (columns, width) the fixed factor
    terms : its arrays and numbers in the type of the factors
    start, new : (rows, width) where the sweeps begin, and their result; may be one array
    sums : (1,) float64, to which is added: Σ over rows ½ w·A·w − b·w at the result
    """
    indptr, indices, data = cells.indptr, cells.indices, cells.data
    k, gram, weight, confidence = terms.k, terms.gram, terms.weight, terms.confidence
    lam, share, pull, free = terms.lam, terms.share, terms.pull, terms.free
    tile, line, index = workspace.tile, workspace.line, workspace.columns
    width = new.shape[1]
    group = lanes(new, 64)
    panel = lanes(new, 256)
    wide = lanes(line, 64)
    w = np.zeros((1, width), new.dtype)
    slope = np.zeros((1, width), new.dtype)  # w₀·G·w
    curve = np.zeros(k, new.dtype)
    nonzero = np.empty(k, np.int64)  # components that are not 0
    zero = fill(new, 0, 64)
    zero4 = fill(new, 0, 256)
    for row in range(cells.lo, cells.hi):
        first = indptr[row]
        n = indptr[row + 1] - first
        padded = (n + group - 1) // group * group
        # An odd number of cache lines from one component to the next: powers of two would share few sets.
        stride = padded + wide * (1 - padded // wide % 2)
        for j in range(n):
            x = data[first + j]
            c = 1 + confidence * x if x != 0 else terms.zero
            index[0, j] = indices[first + j]
            line[1, j] = c - weight
            line[2, j] = c * x
        for j in range(n, padded):
            index[0, j] = indices[first]  # any row will do: it counts 0 times
            line[1, j] = 0
            line[2, j] = 0
        for t in range(0, width, group):
            store(w, 0, t, load(start, row, t, 64))
            store(slope, 0, t, zero)
        n_nonzero = 0
        for r in range(k):
            if w[0, r] != 0:
                nonzero[n_nonzero] = r
                n_nonzero += 1
                for t in range(0, width, group):
                    store(slope, 0, t, madd(w[0, r], load(gram, r, t, 64), load(slope, 0, t, 64)))

        for j in range(0, padded, 8):
            for ahead in range(8):
                soon = np.intp(index[0, min(j + AHEAD + ahead, max(padded - 1, 0))])
                for t in range(0, width, group):
                    prefetch(other, soon, t)
            for t in range(0, k, 8):
                gather8(other, index, j, t, tile, t * stride + j, stride)
        at_cells = zero
        j = 0
        while j < padded:
            y, y1, y2, y3 = zero, zero, zero, zero
            r = 0
            while r + 4 <= n_nonzero:  # four sums at a time: each waits for its last multiply-add
                t0, t1, t2, t3 = nonzero[r], nonzero[r + 1], nonzero[r + 2], nonzero[r + 3]
                y = madd(w[0, t0], load(tile, 0, t0 * stride + j, 64), y)
                y1 = madd(w[0, t1], load(tile, 0, t1 * stride + j, 64), y1)
                y2 = madd(w[0, t2], load(tile, 0, t2 * stride + j, 64), y2)
                y3 = madd(w[0, t3], load(tile, 0, t3 * stride + j, 64), y3)
                r += 4
            while r < n_nonzero:
                y = madd(w[0, nonzero[r]], load(tile, 0, nonzero[r] * stride + j, 64), y)
                r += 1
            y = madd(1, madd(1, y, y1), madd(1, y2, y3))
            aim = load(line, 2, j, 64)
            q = madd(y, load(line, 1, j, 64), madd(-1, aim, zero))
            store(line, 0, j, q)
            at_cells = madd(y, madd(-1, aim, q), at_cells)
            j += group
        value = 0.5 * total(at_cells)
        own = 0.0
        for t in range(k):
            own += w[0, t] * (0.5 * slope[0, t] + lam[row] * (0.5 * share[0, t] * w[0, t] - pull[0, t]))
        value += own

        for s in range(sweeps):
            moved = False
            for t in range(k):
                if not free[t] or (s > 0 and w[0, t] == 0):
                    continue
                base = t * stride
                down = zero4
                square = zero4
                j = 0
                if s == 0:
                    while j + panel <= padded:
                        h = load(tile, 0, base + j, 256)
                        down = madd(h, load(line, 0, j, 256), down)
                        square = madd(h, madd(h, load(line, 1, j, 256), zero4), square)
                        j += panel
                    down1 = zero
                    square1 = zero
                    while j < padded:
                        h1 = load(tile, 0, base + j, 64)
                        down1 = madd(h1, load(line, 0, j, 64), down1)
                        square1 = madd(h1, madd(h1, load(line, 1, j, 64), zero), square1)
                        j += group
                    curve[t] = across(square1) + gram[t, t] + lam[row] * share[0, t]
                    if padded >= panel:
                        curve[t] += across(square)
                else:
                    while j + panel <= padded:
                        down = madd(load(tile, 0, base + j, 256), load(line, 0, j, 256), down)
                        j += panel
                    down1 = zero
                    while j < padded:
                        down1 = madd(load(tile, 0, base + j, 64), load(line, 0, j, 64), down1)
                        j += group
                gradient = across(down1) + slope[0, t] + lam[row] * (share[0, t] * w[0, t] - pull[0, t])
                if padded >= panel:
                    gradient += across(down)
                old = w[0, t]
                a = curve[t]
                if a > SMALLEST:
                    next_ = old - gradient / a
                    next_ = new.dtype.type(0) if next_ <= 0 else next_
                else:  # nothing depends on it
                    next_ = new.dtype.type(max(pull[0, t], 0))
                step = next_ - old
                if step != 0:
                    moved = True
                    w[0, t] = next_
                    value += step * (np.float64(gradient) + 0.5 * np.float64(step) * a)
                    j = 0
                    while j + panel <= padded:
                        h = madd(step, load(tile, 0, base + j, 256), zero4)
                        store(line, 0, j, madd(h, load(line, 1, j, 256), load(line, 0, j, 256)))
                        j += panel
                    while j < padded:
                        h1 = madd(step, load(tile, 0, base + j, 64), zero)
                        store(line, 0, j, madd(h1, load(line, 1, j, 64), load(line, 0, j, 64)))
                        j += group
                    for r in range(0, width, group):
                        store(slope, 0, r, madd(step, load(gram, t, r, 64), load(slope, 0, r, 64)))
            if not moved:
                break
        sums[0] += value
        for t in range(0, width, group):
            store(new, row, t, load(w, 0, t, 64))


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
        add_gram(own, block, n, gram)
