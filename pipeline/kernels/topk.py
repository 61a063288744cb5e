"""The k best items of each user, compiled: bounds first, so that few items are scored. Importing it imports numba.

Items lie in blocks of 64, one a lane, and a block's bound for a user is Σ_t w_t·max_{i ∈ block} h_ti, with the smallest
h_ti where w_t < 0, or ‖w‖·max_{i ∈ block} ‖h_i‖ where that is smaller: no score in the block passes it. A user's blocks
are visited from the highest bound down, until the next bound is under the k-th best score so far. Where bounds rule out
too little (factors without structure), users gather in groups and every block is multiplied by six of them at a time,
at the speed of a matrix product, the scores tested against each user's limit while they are in registers.

Float32 products only find candidates (`topk_candidates`), whose exact scores make the list. Sums keep their order, so
no fastmath here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core.registry import cpu_target

from pipeline.kernels.arguments import ItemBlocks, LeftOutSpans, Lists
from pipeline.kernels.jit import jit
from pipeline.kernels.simd import element, fill, lanes, load, lowest, madd, reaches, store, word32
from pipeline.kernels.topk_candidates import BLOCK, LEAST, Candidates, SparseRow, finish, take

__all__ = ["best"]

TILE = 6  # users at a time: 6 × 64 sums are 24 of the 32 registers of AVX-512
GROUP = 96  # users whose factors stay in the second cache while a block in the first meets them all
WORKSPACE = 2**25  # bytes of a group's bounds and hidden items, which grow with the number of items
FIRST = 4  # blocks visited before it is decided whether bounds pay
FEW = 4  # they do where fewer than 1/FEW of the blocks are left: a visit costs some three times a tile's share
MOST_SORTED = 128  # blocks; the order is for speed alone
EVERY = np.uint64(2**64 - 1)
# Sums of one tile's columns: 256 bytes a user where there are 32 wide registers, 64 where there are 16 narrow ones.
WIDE = 256 if "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2] else 64


@jit
def _multiply(values: Any, where: Any, n: int, packed: Any, first: int, out: Any, line: int, column: int) -> None:
    """out[line, column : column + 64] = Σ_j values[j]·packed[first + where[j]], j < n: one user's scores of one block.

    Not given a `SparseRow`: taking arrays out of a tuple costs some per cent of the whole here.
    """
    total = fill(packed, 0, 256)
    for j in range(n):
        total = madd(values[j], load(packed, first + where[j], 0, 256), total)
    store(out, line, column, total)


@jit
def _nonzero(w: Any, row: int, values: Any, where: Any) -> SparseRow:
    """The components of a user that are not 0, written to `values`, and their numbers, to `where`."""
    n = 0
    for t in range(w.shape[1]):
        if w[row, t] != 0:
            values[n] = w[row, t]
            where[n] = t
            n += 1
    return SparseRow(values, where, n)


@jit
def _hide(left_out: LeftOutSpans, row: int, position: Any, hidden: Any, slot: int) -> None:
    """Set the bits of the item rows that list `row` may not hold."""
    indices = left_out.indices
    for p in range(left_out.starts[row], left_out.ends[row]):
        place = position[word32(indices, p)]
        hidden[slot, place // BLOCK] |= np.uint64(1) << np.uint64(place % BLOCK)


@jit
def _highest(bounds: Any, slot: int, n_blocks: int) -> int:
    """The block with the highest bound."""
    block = 0
    most = bounds[slot, 0]
    for first in range(0, n_blocks, BLOCK):
        mask = reaches(load(bounds, slot, first, 256), most)
        while mask != 0:
            lane = lowest(mask)
            mask = mask & (mask - np.uint64(1))
            if bounds[slot, first + lane] > most:
                most = bounds[slot, first + lane]
                block = first + lane
    return block


@jit
def _tiles(
    slots: int, items: ItemBlocks, tiled: Any, bounds: Any, hidden: Any, scratch: Any, candidates: Candidates
) -> None:
    """Every block by every user of a group, six at a time; a block that all six have ruled out is passed over."""
    packed, limits, counts = items.packed, candidates.limits, candidates.counts
    n_blocks = hidden.shape[1]
    k = packed.shape[0] // n_blocks
    zero = fill(packed, 0, WIDE)
    step = lanes(packed, WIDE)
    for block in range(n_blocks):
        base = block * k
        for first in range(0, slots, TILE):
            n = min(TILE, slots - first)
            wanted = False
            for s in range(first, first + n):
                wanted = wanted or (bounds[s, block] >= limits[s] and counts[s] >= 0)
            if not wanted:
                continue
            start = first // TILE * k
            for c in range(0, BLOCK, step):
                a0, a1, a2, a3, a4, a5 = zero, zero, zero, zero, zero, zero
                for t in range(k):
                    h = load(packed, base + t, c, WIDE)
                    a0 = madd(element(tiled, start + t, 0), h, a0)
                    a1 = madd(element(tiled, start + t, 1), h, a1)
                    a2 = madd(element(tiled, start + t, 2), h, a2)
                    a3 = madd(element(tiled, start + t, 3), h, a3)
                    a4 = madd(element(tiled, start + t, 4), h, a4)
                    a5 = madd(element(tiled, start + t, 5), h, a5)
                store(scratch, 0, c, a0)
                store(scratch, 1, c, a1)
                store(scratch, 2, c, a2)
                store(scratch, 3, c, a3)
                store(scratch, 4, c, a4)
                store(scratch, 5, c, a5)
            for s in range(first, first + n):
                if bounds[s, block] >= limits[s] and counts[s] >= 0:
                    mask = reaches(load(scratch, s - first, 0, 256), limits[s]) & ~hidden[s, block]
                    if mask != 0:
                        take(mask, scratch, s - first, block, s, candidates)


@jit
def _sort(left: Any, n: int, bounds: Any, slot: int) -> None:
    """The n blocks by bound, the highest first."""
    for i in range(1, n):
        block = left[i]
        bound = bounds[slot, block]
        j = i
        while j > 0 and bounds[slot, left[j - 1]] < bound:
            left[j] = left[j - 1]
            j -= 1
        left[j] = block


@jit
def _visits(
    user: SparseRow, items: ItemBlocks, slot: int, bounds: Any, hidden: Any, scratch: Any, candidates: Candidates,
    alone: bool,
) -> bool:  # fmt: skip
    """A user's blocks from the highest bound down; False, with blocks left, where bounds rule out too few of them.

    alone : go on even then: too few users for a group
    """
    packed, limits, counts = items.packed, candidates.limits, candidates.counts
    n_blocks = hidden.shape[1]
    k = packed.shape[0] // n_blocks
    values, where = user.values, user.where
    line = np.int64(0)
    for _ in range(FIRST + candidates.heap.shape[1] // BLOCK):
        block = _highest(bounds, slot, n_blocks)
        if bounds[slot, block] < limits[slot] or counts[slot] < 0:
            return True
        _multiply(values, where, user.n, packed, block * k, scratch, line, line)
        bounds[slot, block] = -np.inf
        mask = reaches(load(scratch, 0, 0, 256), limits[slot]) & ~hidden[slot, block]
        take(mask, scratch, line, block, slot, candidates)
    left = candidates.left
    n = 0
    for first in range(0, n_blocks, BLOCK):
        mask = reaches(load(bounds, slot, first, 256), limits[slot])
        while mask != 0:
            left[n] = first + lowest(mask)
            mask = mask & (mask - np.uint64(1))
            n += 1
    if FEW * n > n_blocks and not alone:
        return False
    if n <= MOST_SORTED:
        _sort(left, n, bounds, slot)
    for turn in range(n):
        block = left[turn]
        if bounds[slot, block] >= limits[slot] and counts[slot] >= 0:
            _multiply(values, where, user.n, packed, block * k, scratch, line, line)
            mask = reaches(load(scratch, 0, 0, 256), limits[slot]) & ~hidden[slot, block]
            take(mask, scratch, line, block, slot, candidates)
    return True


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
            _multiply(values, where, user.n, items.tops, first * k, bounds, slot, first * BLOCK)
    for block in range(n_tops * BLOCK):
        if block >= n_blocks or hidden[slot, block] == EVERY:
            bounds[slot, block] = -np.inf
        elif length >= 0:
            bounds[slot, block] = min(bounds[slot, block], length * items.norms[block]) + most
        else:
            bounds[slot, block] = bounds[slot, block] * (1 + share) + most


@jit
def _start(
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


@jit
def best(
    w: Any, items: ItemBlocks, mask: Any, left_out: LeftOutSpans, also_left_out: LeftOutSpans, lists: Lists
) -> None:
    """The list of each row of w.

    Parameters
    ----------
    w : (n, k) float32
    mask : (n_blocks,) uint64, bits of places that no list may hold, those past the last item among them
    lists : out; all −1 and 0 before
    """
    n, k = w.shape
    most = lists.items.shape[1]
    n_blocks = mask.shape[0]
    n_tops = (n_blocks + BLOCK - 1) // BLOCK
    group = min(GROUP, n, max(TILE, WORKSPACE // (12 * n_blocks)))
    hidden = np.empty((group, n_blocks), np.uint64)
    bounds = np.empty((group, n_tops * BLOCK), np.float32)
    room = 4 * most + 5 * BLOCK
    candidates = Candidates(
        np.empty((group, most), np.float32), np.empty(group, np.float32), np.empty((group, 2), np.float64),
        np.empty((group, room), np.float32), np.empty((group, room), np.int32), np.empty(group, np.int64),
        np.empty(n_blocks, np.int64),
    )  # fmt: skip
    rows = np.empty(group, np.int64)  # that wait in a group, by slot
    tiled = np.zeros(((group + TILE - 1) // TILE * k, 8), np.float32)
    scratch = np.empty((TILE, BLOCK), np.float32)
    values = np.empty(k, np.float32)
    where = np.empty(k, np.int64)
    slot = np.int64(0)  # as the constant 0 it would be another type, and what it is passed to compiled twice
    for row in range(n):
        for block in range(n_blocks):
            hidden[slot, block] = mask[block]
        _hide(left_out, row, items.position, hidden, slot)
        if also_left_out.starts.shape[0]:
            _hide(also_left_out, row, items.position, hidden, slot)
        user = _nonzero(w, row, values, where)
        waiting = False
        if _start(user, items, k, slot, bounds, hidden, candidates):
            waiting = not _visits(user, items, slot, bounds, hidden, scratch, candidates, n <= TILE)
        if waiting:
            for t in range(k):
                tiled[slot // TILE * k + t, slot % TILE] = w[row, t]
            rows[slot] = row
            slot += 1
        else:
            finish(w, row, user, slot, items, hidden, candidates, lists)
        if slot == group or (row == n - 1 and slot > 0):
            _tiles(slot, items, tiled, bounds, hidden, scratch, candidates)
            for s in range(slot):
                finish(w, rows[s], _nonzero(w, rows[s], values, where), s, items, hidden, candidates, lists)
            slot = np.int64(0)
