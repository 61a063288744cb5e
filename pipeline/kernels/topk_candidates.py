"""Candidates for the lists of `topk`, and the lists made of them by exact scores. Importing it imports numba.

Float32 products only find candidates, with a margin for their rounding. Those are scored again as
`FactorModel.predict` defines a score (float64, in the order of t, rounded once) and sorted by (score, item row):
a list depends on nothing but the user. Sums keep their order, so no fastmath here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pipeline.kernels.jit import jit, jit_part
from pipeline.kernels.list_arguments import ItemBlocks, Lists
from pipeline.kernels.simd_arithmetic import lowest

__all__ = ["BLOCK", "LEAST", "Candidates", "SparseRow", "finish", "take"]

BLOCK = 64  # items side by side; the bits of a word
LEAST = np.float32(-3.4e38)  # smaller than any score


class SparseRow(NamedTuple):
    """The n components of a user that are not 0: values[:n] float32, and where[:n] int64, their numbers."""

    values: Any
    where: Any
    n: int


class Candidates(NamedTuple):
    """The items that may be in the lists of a group of users; the first index of each array is the user's slot.

    heap : (group, most) float32, the largest float32 scores so far, the smallest of them first
    limits : (group,) float32, what a score must reach
    margins : (group, 2) float64, the rounding error of a float32 score: as a share of it, and what is added
    values, places : (group, room) float32 and int32, the candidates' scores and places
    counts : (group,) int64, how many there are; −1 where there were too many, or scores past float32
    left : (n_blocks,) int64, working memory: the blocks left to visit
    """

    heap: Any
    limits: Any
    margins: Any
    values: Any
    places: Any
    counts: Any
    left: Any


@jit
def _limit(heap: Any, slot: int, margins: Any) -> Any:
    """What a float32 score must reach to be a candidate: the k-th best one so far, less the margin."""
    if heap[slot, 0] == -np.inf:
        return LEAST
    return np.float32(np.float64(heap[slot, 0]) * (1 - margins[slot, 0]) - margins[slot, 1])


@jit
def _replace_least(heap: Any, slot: int, value: float) -> None:
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


@jit_part
def take(mask: Any, scores: Any, line: int, block: int, slot: int, candidates: Candidates) -> None:
    """The lanes whose bits are set become candidates; counts[slot] is −1 where there are too many."""
    heap, limits, margins, counts = candidates.heap, candidates.limits, candidates.margins, candidates.counts
    values, places = candidates.values, candidates.places
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
            _replace_least(heap, slot, value)
            limits[slot] = _limit(heap, slot, margins)


@jit
def _place(lists: Lists, row: int, n: int, item: int, score: float) -> int:
    """Put an item where it belongs among the row's n best, by (score, item row); returns how many there are then."""
    items, scores = lists.items, lists.scores
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


@jit
def _every_item(w: Any, row: int, items: ItemBlocks, hidden: Any, slot: int, lists: Lists) -> None:
    """The row's list from the exact scores of all items: for ties by the hundred, and sums past float32."""
    packed, order, position = items.packed, items.order, items.position
    k = w.shape[1]
    n_items = order.shape[0]
    most = lists.items.shape[1]
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
                lists.items[row, n] = item
                lists.scores[row, n] = 0
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
            component = np.float64(w[row, t])
            if component != 0:
                for lane in range(BLOCK):
                    total[lane] += component * np.float64(packed[block * k + t, lane])
        while left != 0:
            lane = lowest(left)
            left = left & (left - np.uint64(1))
            n = _place(lists, row, n, order[block * BLOCK + lane], np.float32(total[lane]))


@jit_part
def finish(
    w: Any, row: int, user: SparseRow, slot: int, items: ItemBlocks, hidden: Any, candidates: Candidates, lists: Lists
) -> None:
    """The row's list from its candidates: their exact scores, sorted."""
    if candidates.counts[slot] < 0:
        _every_item(w, row, items, hidden, slot, lists)
        return
    packed, order = items.packed, items.order
    nonzero, where = user.values, user.where
    limits, values, places = candidates.limits, candidates.values, candidates.places
    k = w.shape[1]
    n = np.int64(0)
    for c in range(candidates.counts[slot]):
        if values[slot, c] >= limits[slot]:
            place = places[slot, c]
            first, lane = place // BLOCK * k, place % BLOCK
            total = 0.0
            # A term whose w is 0 would change nothing.
            for j in range(user.n):
                total += np.float64(nonzero[j]) * np.float64(packed[first + where[j], lane])
            n = _place(lists, row, n, order[place], np.float32(total))
