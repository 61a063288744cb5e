"""The k best items of each user, compiled: bounds first, so that few items are scored. Importing it imports numba.

Items lie in blocks of 64, one a lane, and a block's bound for a user w ≥ 0 is Σ_t w_t·max_{i ∈ block} h_ti, which
no score in it passes. A user's blocks are visited from the highest bound down, until the next bound is under the
k-th best score so far. Where bounds rule out too little (factors without structure, negative ones), users gather
in groups and every block is multiplied by six of them at a time, at the speed of a matrix product, the scores
tested against each user's limit while they are in registers.

Float32 products only find candidates, with a margin for their rounding. Those are scored again as
`FactorModel.predict` defines a score (float64, in the order of t, rounded once) and sorted by (score, item row):
a list depends on nothing but the user. Sums keep their order, so no fastmath here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core.registry import cpu_target

from pipeline.kernels.vectors import element, fill, lanes, load, lowest, madd, reaches, store, word32

__all__ = ["best"]

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "cache": True}

_compiled: Callable[[Callable[..., Any]], Any] = numba.njit(**OPTIONS)

BLOCK = 64  # items side by side; the bits of a word
TILE = 6  # users at a time: 6 × 64 sums are 24 of the 32 registers of AVX-512
GROUP = 96  # users whose factors stay in the second cache while a block in the first meets them all
WORKSPACE = 2**25  # bytes of a group's bounds and hidden items, which grow with the number of items
FIRST = 4  # blocks visited before it is judged whether bounds pay
FEW = 4  # they do where fewer than 1/FEW of the blocks are left: a visit costs some three times a tile's share
MOST_SORTED = 128  # blocks; the order is for speed alone
EVERY = np.uint64(2**64 - 1)
LEAST = np.float32(-3.4e38)  # under every score there is
# Sums of one tile's columns: 256 bytes a user where there are 32 wide registers, 64 where there are 16 narrow ones.
WIDE = 256 if "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2] else 64


@_compiled
def _limit(heap: Any, slot: int, margins: Any) -> Any:
    """What a float32 score must reach to be a candidate: the k-th best one so far, less the margin."""
    if heap[slot, 0] == -np.inf:
        return LEAST
    return np.float32(np.float64(heap[slot, 0]) * (1 - margins[slot, 0]) - margins[slot, 1])


@_compiled
def _raise(heap: Any, slot: int, value: float) -> None:
    """Take the least of the k values out for a larger one (a heap: children of j at 2j + 1 and 2j + 2)."""
    k = heap.shape[1]
    j = 0
    while True:
        child = 2 * j + 1
        if child >= k:
            break
        if child + 1 < k and heap[slot, child + 1] < heap[slot, child]:
            child += 1
        if heap[slot, child] >= value:
            break
        heap[slot, j] = heap[slot, child]
        j = child
    heap[slot, j] = value


@_compiled
def _take(
    mask: Any, scores: Any, line: int, block: int, slot: int, margins: Any,
    heap: Any, limits: Any, values: Any, places: Any, counts: Any,
) -> None:  # fmt: skip
    """The lanes whose bits are set become candidates; counts[slot] is −1 where there are too many."""
    cap = values.shape[1]
    while mask != 0:
        lane = lowest(mask)
        mask = mask & (mask - np.uint64(1))
        value = scores[line, lane]
        if value < limits[slot]:
            continue
        n = counts[slot]
        if n == cap:
            n = 0
            for j in range(cap):
                if values[slot, j] >= limits[slot]:
                    values[slot, n] = values[slot, j]
                    places[slot, n] = places[slot, j]
                    n += 1
            if 4 * n > 3 * cap:
                counts[slot] = -1
                return
        values[slot, n] = value
        places[slot, n] = block * BLOCK + lane
        counts[slot] = n + 1
        if value > heap[slot, 0]:
            _raise(heap, slot, value)
            limits[slot] = _limit(heap, slot, margins)


@_compiled
def _multiply(some: Any, which: Any, n: int, packed: Any, first: int, out: Any, line: int, at: int) -> None:
    """out[line, at : at + 64] = Σ_j some[j]·packed[first + which[j]]: one user's scores of one block."""
    total = fill(packed, 0, 256)
    for j in range(n):
        total = madd(some[j], load(packed, first + which[j], 0, 256), total)
    store(out, line, at, total)


@_compiled
def _place(items: Any, scores: Any, row: int, n: int, item: int, score: float) -> int:
    """Put an item where it belongs among the row's n best, by (score, item row); returns how many there are then."""
    k = items.shape[1]
    if n == k:
        if score < scores[row, k - 1] or (score == scores[row, k - 1] and item > items[row, k - 1]):
            return n
        n -= 1
    j = n
    while j > 0 and (score > scores[row, j - 1] or (score == scores[row, j - 1] and item < items[row, j - 1])):
        scores[row, j] = scores[row, j - 1]
        items[row, j] = items[row, j - 1]
        j -= 1
    scores[row, j] = score
    items[row, j] = item
    return n + 1


@_compiled
def _every_item(
    w: Any, row: int, packed: Any, order: Any, position: Any, hidden: Any, slot: int, items: Any, scores: Any
) -> None:
    """The row's list from the exact scores of all items: for ties by the hundred, and sums past float32."""
    k = w.shape[1]
    n_items = order.shape[0]
    most = items.shape[1]
    n = np.int64(0)
    zero = True
    for t in range(k):
        zero = zero and w[row, t] == 0
    if zero:
        for item in range(n_items):
            place = position[item]
            if n == most:
                return
            if (hidden[slot, place // BLOCK] >> np.uint64(place % BLOCK)) & np.uint64(1) == 0:
                items[row, n] = item
                scores[row, n] = 0
                n += 1
        return
    total = np.empty(BLOCK, np.float64)
    for block in range((n_items + BLOCK - 1) // BLOCK):
        left = ~hidden[slot, block]
        if left == 0:
            continue
        for lane in range(BLOCK):
            total[lane] = 0
        for t in range(k):
            mine = np.float64(w[row, t])
            if mine != 0:
                for lane in range(BLOCK):
                    total[lane] += mine * np.float64(packed[block * k + t, lane])
        while left != 0:
            lane = lowest(left)
            left = left & (left - np.uint64(1))
            n = _place(items, scores, row, n, order[block * BLOCK + lane], np.float32(total[lane]))


@_compiled
def _finish(
    w: Any, row: int, slot: int, packed: Any, order: Any, position: Any, hidden: Any,
    some: Any, which: Any, n_some: int, limits: Any, values: Any, places: Any, counts: Any, items: Any, scores: Any,
) -> None:  # fmt: skip
    """The row's list from its candidates: their exact scores, sorted."""
    if counts[slot] < 0:
        _every_item(w, row, packed, order, position, hidden, slot, items, scores)
        return
    k = w.shape[1]
    n = np.int64(0)
    for c in range(counts[slot]):
        if values[slot, c] >= limits[slot]:
            place = places[slot, c]
            first, lane = place // BLOCK * k, place % BLOCK
            total = 0.0
            # A term whose w is 0 would change nothing.
            for j in range(n_some):
                total += np.float64(some[j]) * np.float64(packed[first + which[j], lane])
            n = _place(items, scores, row, n, order[place], np.float32(total))


@_compiled
def _nonzero(w: Any, row: int, some: Any, which: Any) -> int:
    """The components of a user that are not 0, and where."""
    n = 0
    for t in range(w.shape[1]):
        if w[row, t] != 0:
            some[n] = w[row, t]
            which[n] = t
            n += 1
    return n


@_compiled
def _hide(indices: Any, start: int, end: int, position: Any, hidden: Any, slot: int) -> None:
    """Set the bits of the item rows in indices[start : end] (int32, as bytes)."""
    for p in range(start, end):
        place = position[word32(indices, p)]
        hidden[slot, place // BLOCK] |= np.uint64(1) << np.uint64(place % BLOCK)


@_compiled
def _highest(bounds: Any, slot: int, n_blocks: int) -> int:
    """The block with the highest bound."""
    found = 0
    most = bounds[slot, 0]
    for first in range(0, n_blocks, BLOCK):
        mask = reaches(load(bounds, slot, first, 256), most)
        while mask != 0:
            lane = lowest(mask)
            mask = mask & (mask - np.uint64(1))
            if bounds[slot, first + lane] > most:
                most = bounds[slot, first + lane]
                found = first + lane
    return found


@_compiled
def _tiles(
    slots: int, packed: Any, n_blocks: int, k: int, tiled: Any, bounds: Any, hidden: Any, scratch: Any, margins: Any,
    heap: Any, limits: Any, values: Any, places: Any, counts: Any,
) -> None:  # fmt: skip
    """Every block by every user of a group, six at a time; blocks that all six have ruled out are passed over."""
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
            at = first // TILE * k
            for c in range(0, BLOCK, step):
                a0, a1, a2, a3, a4, a5 = zero, zero, zero, zero, zero, zero
                for t in range(k):
                    h = load(packed, base + t, c, WIDE)
                    a0 = madd(element(tiled, at + t, 0), h, a0)
                    a1 = madd(element(tiled, at + t, 1), h, a1)
                    a2 = madd(element(tiled, at + t, 2), h, a2)
                    a3 = madd(element(tiled, at + t, 3), h, a3)
                    a4 = madd(element(tiled, at + t, 4), h, a4)
                    a5 = madd(element(tiled, at + t, 5), h, a5)
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
                        _take(mask, scratch, s - first, block, s, margins, heap, limits, values, places, counts)


@_compiled
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


@_compiled
def _visits(
    some: Any, which: Any, n_some: int, packed: Any, n_blocks: int, k: int, slot: int, bounds: Any, hidden: Any,
    left: Any, scratch: Any, margins: Any, heap: Any, limits: Any, values: Any, places: Any, counts: Any, alone: bool,
) -> bool:  # fmt: skip
    """A user's blocks from the highest bound down; False where bounds rule out too little and it was left at that."""
    line = np.int64(0)
    for _ in range(FIRST + heap.shape[1] // BLOCK):
        block = _highest(bounds, slot, n_blocks)
        if bounds[slot, block] < limits[slot] or counts[slot] < 0:
            return True
        _multiply(some, which, n_some, packed, block * k, scratch, line, line)
        bounds[slot, block] = -np.inf
        mask = reaches(load(scratch, 0, 0, 256), limits[slot]) & ~hidden[slot, block]
        _take(mask, scratch, line, block, slot, margins, heap, limits, values, places, counts)
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
            _multiply(some, which, n_some, packed, block * k, scratch, line, line)
            mask = reaches(load(scratch, 0, 0, 256), limits[slot]) & ~hidden[slot, block]
            _take(mask, scratch, line, block, slot, margins, heap, limits, values, places, counts)
    return True


@_compiled
def best(
    w: Any, packed: Any, tops: Any, order: Any, position: Any, longest: float, nonnegative: bool,
    mask: Any, starts: Any, ends: Any, indices: Any, more_starts: Any, more_ends: Any, more_indices: Any,
    items: Any, scores: Any,
) -> None:  # fmt: skip
    """The list of each row of w.

    Parameters
    ----------
    w : (n, k) float32
    packed : (n_blocks·k, 64) float32; row b·k + t holds component t of the items of block b, zeros past the last
    tops : (⌈n_blocks / 64⌉·k, 64) float32, the same of the blocks' largest components
    order : (n_items,) int32, the item in each place; position : (n_items,) int32, its inverse
    longest : the largest norm of a block's largest absolute components; nonnegative : whether no component is under 0
    mask : (n_blocks,) uint64, bits of places that no list may hold, those past the last item among them
    starts, ends : (n,) int64, indices : int32, as bytes: row i may not hold the item rows indices[starts[i] : ends[i]]
    more_starts, more_ends, more_indices : the same once more; (0,) for none
    items : (n, most) int32, −1 before and past the end of a list; scores : (n, most) float32, 0 there
    """
    n, k = w.shape
    most = items.shape[1]
    n_blocks = mask.shape[0]
    n_tops = (n_blocks + BLOCK - 1) // BLOCK
    group = min(GROUP, n, max(TILE, WORKSPACE // (12 * n_blocks)))
    hidden = np.empty((group, n_blocks), np.uint64)
    bounds = np.empty((group, n_tops * BLOCK), np.float32)
    heap = np.empty((group, most), np.float32)
    limits = np.empty(group, np.float32)
    margins = np.empty((group, 2), np.float64)
    values = np.empty((group, 4 * most + 5 * BLOCK), np.float32)
    places = np.empty(values.shape, np.int32)
    counts = np.empty(group, np.int64)
    rows = np.empty(group, np.int64)
    tiled = np.zeros(((group + TILE - 1) // TILE * k, 8), np.float32)
    scratch = np.empty((TILE, BLOCK), np.float32)
    some = np.empty(k, np.float32)
    which = np.empty(k, np.int64)
    left = np.empty(n_blocks, np.int64)
    slot = np.int64(0)  # as the constant 0 it would be another type, and what it is passed to compiled twice
    for row in range(n):
        for block in range(n_blocks):
            hidden[slot, block] = mask[block]
        _hide(indices, starts[row], ends[row], position, hidden, slot)
        if more_starts.shape[0]:
            _hide(more_indices, more_starts[row], more_ends[row], position, hidden, slot)
        n_some = _nonzero(w, row, some, which)
        square = 0.0
        negative = False
        for j in range(n_some):
            square += np.float64(some[j]) * np.float64(some[j])
            negative = negative or some[j] < 0
        size = np.sqrt(square) * longest
        counts[slot] = 0
        waiting = False
        # No partial sum passes |w|·|h|; where that passes float32 nothing can be told from a float32 sum.
        if size >= 2.0**126 or n_some == 0:
            counts[slot] = -1
        else:
            # |fl(w·h) − w·h| ≤ k·2⁻²⁴·Σ|w_t·h_t| to first order (Higham 2002, §3.1), once for the k-th best and once
            # for the candidate (or the bound of its block), and 2⁻²⁴ for each rounding of a limit, a bound, a score;
            # the rest of the factor 4 covers higher orders. Where nothing is negative the sum is the score itself,
            # else it is under |w|·|h|. Below 2⁻¹²⁶ a product loses up to 2⁻¹⁵⁰: what is added in both cases.
            signed = negative or not nonnegative
            margins[slot, 0] = 0 if signed else 4 * (k + 2) * 2.0**-24
            margins[slot, 1] = 4 * (k + 2) * ((2.0**-24 * size if signed else 0.0) + 2.0**-149)
            for first in range(n_tops):
                if negative:
                    store(bounds, slot, first * BLOCK, fill(bounds, -LEAST, 256))
                else:
                    _multiply(some, which, n_some, tops, first * k, bounds, slot, first * BLOCK)
            for block in range(n_tops * BLOCK):
                if block >= n_blocks or hidden[slot, block] == EVERY:
                    bounds[slot, block] = -np.inf
                else:
                    bounds[slot, block] = bounds[slot, block] * (1 + margins[slot, 0]) + margins[slot, 1]
            for j in range(most):
                heap[slot, j] = -np.inf
            limits[slot] = LEAST
            waiting = not _visits(
                some, which, n_some, packed, n_blocks, k, slot, bounds, hidden, left, scratch, margins,
                heap, limits, values, places, counts, n <= TILE,
            )  # fmt: skip
        if waiting:
            for t in range(k):
                tiled[slot // TILE * k + t, slot % TILE] = w[row, t]
            rows[slot] = row
            slot += 1
        else:
            _finish(
                w, row, slot, packed, order, position, hidden, some, which, n_some, limits, values, places, counts,
                items, scores,
            )  # fmt: skip
        if slot == group or (row == n - 1 and slot > 0):
            _tiles(
                slot, packed, n_blocks, k, tiled, bounds, hidden, scratch, margins,
                heap, limits, values, places, counts,
            )  # fmt: skip
            for s in range(slot):
                n_some = _nonzero(w, rows[s], some, which)
                _finish(
                    w, rows[s], s, packed, order, position, hidden, some, which, n_some, limits, values, places, counts,
                    items, scores,
                )  # fmt: skip
            slot = np.int64(0)
