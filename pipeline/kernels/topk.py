"""The k best items of each user, compiled: bounds first, so that few items are scored. Importing it imports numba.

Items lie in blocks of 64, one a lane, and a block's bound for a user is Σ_t w_t·max_{i ∈ block} h_ti, with the smallest
h_ti where w_t < 0, or ‖w‖·max_{i ∈ block} ‖h_i‖ where that is smaller: no score in the block passes it (`topk_bounds`).
A user's blocks are visited from the highest bound down, until the next bound is under the k-th best score so far. Where
bounds rule out too little (factors without structure), users gather in groups and every block is multiplied by six of
them at a time, at the speed of a matrix product, the scores tested against each user's limit while they are in
registers.

Float32 products only find candidates (`topk_candidates`), whose exact scores make the list. Sums keep their order, so
no fastmath here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core.registry import cpu_target

from pipeline.kernels.jit import jit
from pipeline.kernels.list_arguments import ItemBlocks, LeftOutSpans, Lists
from pipeline.kernels.simd import element, fill, lanes, load, store, word32
from pipeline.kernels.simd_arithmetic import lowest, madd, reaches
from pipeline.kernels.topk_bounds import multiply_block, set_bounds
from pipeline.kernels.topk_candidates import BLOCK, Candidates, SparseRow, finish, take

__all__ = ["best"]

TILE = 6  # users at a time: 6 × 64 sums are 24 of the 32 registers of AVX-512
GROUP = 96  # users whose factors stay in the second cache while a block in the first meets them all
WORKSPACE = 2**25  # bytes of a group's bounds and hidden items, which grow with the number of items
FIRST = 4  # blocks visited before it is decided whether bounds pay
FEW = 4  # they do where fewer than 1/FEW of the blocks are left: a visit costs some three times a tile's share
MOST_SORTED = 128  # blocks; the order is for speed alone
# Sums of one tile's columns: 256 bytes a user where there are 32 wide registers, 64 where there are 16 narrow ones.
WIDE = 256 if "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2] else 64


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
        multiply_block(values, where, user.n, packed, block * k, scratch, line, line)
        bounds[slot, block] = -np.inf
        mask = reaches(load(scratch, 0, 0, 256), limits[slot]) & ~hidden[slot, block]
        take(mask, scratch, line, block, slot, candidates)
    left = candidates.left
    n = np.int64(0)  # as the constant 0 it would be another type, and `_sort` compiled twice
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
            multiply_block(values, where, user.n, packed, block * k, scratch, line, line)
            mask = reaches(load(scratch, 0, 0, 256), limits[slot]) & ~hidden[slot, block]
            take(mask, scratch, line, block, slot, candidates)
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
    slot = np.int64(0)  # not the constant, as above
    for row in range(n):
        for block in range(n_blocks):
            hidden[slot, block] = mask[block]
        _hide(left_out, row, items.position, hidden, slot)
        if also_left_out.starts.shape[0]:
            _hide(also_left_out, row, items.position, hidden, slot)
        user = _nonzero(w, row, values, where)
        waiting = False
        if set_bounds(user, items, k, slot, bounds, hidden, candidates):
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
