"""Metrics of each user's list, compiled: accuracy, novelty, popularity, diversity. Importing it imports numba.

`evaluation.metrics` has the same in numpy, and `evaluation.per_user` calls one or the other. A user's values are
computed from that user's list alone, in a fixed order, so the users may be cut into pieces of any size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from pipeline.kernels.jit import jit
from pipeline.kernels.list_arguments import ItemBits, ItemFacts, ListLengths, RelevantItems
from pipeline.kernels.simd import intrinsic

__all__ = ["accuracy", "alike", "mark", "tally"]

ROWS = 11  # of `accuracy`, for each length
BANDS = 3
KEPT_BITS = 15
KEPT = 1 << KEPT_BITS  # cosines that are remembered, to be used by later lists
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ over the golden ratio: neighbouring pairs lie far apart


@intrinsic()
def _ones(typingctx: Any, word: Any) -> Any:
    """How many bits of a uint64 are set."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


@jit
def tally(users: Any, items: Any, value: Any, n: Any, total: Any) -> None:
    """n[u] += 1 and total[u] += value[i] for each (u, i) = (users[c], items[c]); `value` and `total` are float64."""
    for c in range(users.shape[0]):
        user = users[c]
        n[user] += 1
        total[user] += value[items[c]]


@jit
def _holds(ascending: Any, low: int, high: int, wanted: int) -> bool:
    """Whether ascending[low : high] contains `wanted`."""
    end = high
    while low < high:
        middle = (low + high) // 2
        if ascending[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low < end and ascending[low] == wanted


@jit
def accuracy(
    lo: int, hi: int, lists: Any, relevant_items: RelevantItems, item_facts: ItemFacts, lengths: ListLengths, out: Any
) -> None:
    """Columns lo ≤ u < hi of `out`, (11·lengths, n) float64: for each length the rows of `per_user.NAMES`.

    lists : (n, max k) int32, −1 past the end of a list
    """
    start, relevant, n_relevant = relevant_items
    bands, surprise, count = item_facts
    ks, discount, ideal = lengths
    most = ks[ks.shape[0] - 1]
    in_band = np.empty(BANDS, np.int64)
    hits_in_band = np.empty(BANDS, np.int64)
    for u in range(lo, hi):
        low, high, n = start[u], start[u + 1], n_relevant[u]
        for band in range(BANDS):
            in_band[band] = 0
            hits_in_band[band] = 0
        for p in range(low, high):
            in_band[bands[relevant[p]]] += 1
        hits, first, listed, cutoff = 0, 0, 0, 0
        gain, precision, bits, popular = 0.0, 0.0, 0.0, 0.0
        for r in range(most):
            item = lists[u, r]
            if item >= 0:
                listed += 1
                bits += surprise[item]
                popular += count[item]
                if _holds(relevant, low, high, item):
                    hits += 1
                    if hits == 1:
                        first = r + 1
                    gain += discount[r]
                    precision += hits / (r + 1)
                    hits_in_band[bands[item]] += 1
            if r + 1 == ks[cutoff]:
                k, row = r + 1, ROWS * cutoff
                cutoff += 1
                for j in range(ROWS):
                    out[row + j, u] = np.nan
                if n > 0:
                    most_hits = min(n, k)
                    out[row, u] = hits / k
                    out[row + 1, u] = hits / n
                    out[row + 2, u] = 1.0 if hits > 0 else 0.0
                    out[row + 3, u] = gain / ideal[most_hits - 1]
                    out[row + 4, u] = precision / most_hits
                    out[row + 5, u] = 1.0 / first if hits > 0 else 0.0
                if listed > 0:
                    out[row + 6, u] = bits / listed
                    out[row + 7, u] = popular / listed
                for band in range(BANDS):
                    if in_band[band] > 0:
                        out[row + 8 + band, u] = hits_in_band[band] / in_band[band]


@jit
def _both(i: Any, j: Any, starts: Any, members: Any, line: Any, bits: Any, few: int) -> Any:
    """|U_i ∩ U_j|: by the words of two lines of bits, by looking up the members of one, or by walking along both."""
    if starts[i + 1] - starts[i] > starts[j + 1] - starts[j]:
        i, j = j, i
    low, high = starts[i], starts[i + 1]
    both = np.int64(0)
    b = line[j]
    if b >= 0:
        a = line[i]
        if a >= 0 and high - low > few:
            for w in range(bits.shape[1]):
                both += _ones(bits[a, w] & bits[b, w])
        else:
            for p in range(low, high):
                user = members[p]
                both += np.int64((bits[b, user >> 6] >> np.uint64(user & 63)) & np.uint64(1))
        return both
    q, end = starts[j], starts[j + 1]
    for p in range(low, high):
        while q < end and members[q] < members[p]:
            q += 1
        if q < end and members[q] == members[p]:
            both += 1
    return both


@jit
def mark(starts: Any, members: Any, line: Any, bits: Any) -> None:
    """Set the bits of who has the items that have a row of `bits`; the arrays are those of `alike`."""
    for i in range(line.shape[0]):
        if line[i] >= 0:
            for p in range(starts[i], starts[i + 1]):
                user = members[p]
                bits[line[i], user >> 6] |= np.uint64(1) << np.uint64(user & 63)


@jit
def alike(lo: int, hi: int, lists: Any, users_of_items: ItemBits, ks: Any, out: Any) -> None:
    """Columns lo ≤ u < hi of `out`, (len(ks), n) float64: 1 − mean cosine of all pairs of each list's first k.

    lists : (n, max k) int32, −1 past the end of a list; ks : (lengths,) int64, ascending
    """
    starts, members, root, line, bits = users_of_items
    few = bits.shape[1] // 8  # so many look-ups take as long as all the words, eight at a time
    most = ks[ks.shape[0] - 1]
    pairs = np.full(KEPT, -1, np.int64)
    cosines = np.empty(KEPT, np.float64)
    for u in range(lo, hi):
        listed, cutoff = 0, 0
        total = 0.0
        for b in range(most):
            j = lists[u, b]
            if j >= 0:
                listed += 1
                for a in range(b):
                    i = lists[u, a]
                    if i >= 0 and i != j:
                        # The same few items are in many lists.
                        pair = np.int64(min(i, j)) << 32 | np.int64(max(i, j))
                        place = np.int64(np.uint64(pair) * SPREAD >> np.uint64(64 - KEPT_BITS))
                        if pairs[place] != pair:
                            pairs[place] = pair
                            cosines[place] = _both(i, j, starts, members, line, bits, few) / (root[i] * root[j])
                        total += cosines[place]
            if b + 1 == ks[cutoff]:
                out[cutoff, u] = 1.0 - 2.0 * total / (listed * (listed - 1)) if listed > 1 else np.nan
                cutoff += 1
