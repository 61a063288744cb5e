"""Bounds of a user's scores, block by block of items, for `topk`. Importing it imports numba.

Sums keep their order, so no fastmath here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.kernels.jit import jit, jit_part
from pipeline.kernels.list_arguments import ItemBlocks
from pipeline.kernels.simd import fill, load, store
from pipeline.kernels.simd_arithmetic import madd
from pipeline.kernels.topk_candidates import BLOCK, LEAST, Candidates, SparseRow

__all__ = ["multiply_block", "set_bounds"]

EVERY = np.uint64(2**64 - 1)


@jit_part
def multiply_block(values: Any, where: Any, n: int, packed: Any, first: int, out: Any, line: int, column: int) -> None:
    """out[line, column : column + 64] = Σ_j values[j]·packed[first + where[j]], j < n: one user's scores of one block.

    Not given a `SparseRow`: taking arrays out of a tuple costs some per cent of the whole here.
    """
    total = fill(packed, 0, 256)
    for j in range(n):
        total = madd(values[j], load(packed, first + where[j], 0, 256), total)
    store(out, line, column, total)


@jit
def _multiply_ends(values: Any, where: Any, n: int, items: ItemBlocks, number: int, bounds: Any, slot: int) -> None:
    """The `number`-th 64 of a user's bounds: by the blocks' largest components, the smallest where a value is < 0."""
    tops, lows = items.tops, items.lows
    first = number * (tops.shape[0] // (bounds.shape[1] // BLOCK))
    total = fill(tops, 0, 256)
    for j in range(n):
        if values[j] < 0:
            total = madd(values[j], load(lows, first + where[j], 0, 256), total)
        else:
            total = madd(values[j], load(tops, first + where[j], 0, 256), total)
    store(bounds, slot, number * BLOCK, total)


@jit
def _bound(
    user: SparseRow, length: float, items: ItemBlocks, slot: int, bounds: Any, hidden: Any, margins: Any
) -> None:
    """bounds[slot]: no float32 score of a block passes its bound; −∞ for blocks that are hidden as a whole.

    length : ‖w‖ where the user or an item has a negative component; else −1: the other bound is the smaller then
    margins : as in `Candidates`
    """
    values, where = user.values, user.where
    n_blocks = hidden.shape[1]
    k = items.packed.shape[0] // n_blocks
    share, most = margins[slot, 0], margins[slot, 1]  # by which a float32 sum may be too small
    n_tops = bounds.shape[1] // BLOCK
    for first in range(n_tops):
        if length >= 0:
            _multiply_ends(values, where, user.n, items, first, bounds, slot)
        else:
            multiply_block(values, where, user.n, items.tops, first * k, bounds, slot, first * BLOCK)
    for block in range(n_tops * BLOCK):
        if block >= n_blocks or hidden[slot, block] == EVERY:
            bounds[slot, block] = -np.inf
        elif length >= 0:
            bounds[slot, block] = min(bounds[slot, block], length * items.norms[block]) + most
        else:
            bounds[slot, block] = bounds[slot, block] * (1 + share) + most


@jit_part
def set_bounds(
    user: SparseRow, items: ItemBlocks, k: int, slot: int, bounds: Any, hidden: Any, candidates: Candidates
) -> bool:
    """Set a user's bounds and margins and empty its candidates; False where float32 sums can tell nothing."""
    values, heap, margins = user.values, candidates.heap, candidates.margins
    square = 0.0
    negative = False
    for j in range(user.n):
        square += np.float64(values[j]) * np.float64(values[j])
        negative = negative or values[j] < 0
    length = np.sqrt(square)
    size = length * items.longest
    # No partial sum passes |w|·|h|; where that passes float32 nothing can be told from a float32 sum.
    if size >= 2.0**126 or user.n == 0:
        candidates.counts[slot] = -1
        return False
    # |fl(w·h) − w·h| ≤ k·2⁻²⁴·Σ|w_t·h_t| to first order (Higham 2002, §3.1), once for the k-th best and once
    # for the candidate (or the bound of its block), and 2⁻²⁴ for each rounding of a limit, a bound, a score;
    # the rest of the factor 4 covers higher orders. Where nothing is negative the sum is the score itself,
    # else it is under |w|·|h|. Below 2⁻¹²⁶ a product loses up to 2⁻¹⁵⁰: what is added in both cases.
    signed = negative or not items.nonnegative
    margins[slot, 0] = 0 if signed else 4 * (k + 2) * 2.0**-24
    margins[slot, 1] = 4 * (k + 2) * ((2.0**-24 * size if signed else 0.0) + 2.0**-149)
    _bound(user, length if signed else -1.0, items, slot, bounds, hidden, margins)
    candidates.counts[slot] = 0
    for j in range(heap.shape[1]):
        heap[slot, j] = -np.inf
    candidates.limits[slot] = LEAST
    return True
