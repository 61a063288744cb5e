"""Who and what is looked at apart: users by how much is known of them, items by how popular they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["BANDS", "SEGMENTS", "popularity_bands", "user_segments"]

SEGMENTS = ("cold", "warm", "hot")
BANDS = ("head", "mid", "tail")


def user_segments(n_train: NDArray[np.int64]) -> tuple[NDArray[np.int8], tuple[int, int]]:
    """Each user's segment (position in `SEGMENTS`, (n,)), by the number of training interactions, and the cuts.

    cold: n_train ≤ cuts[0]; warm: ≤ cuts[1]; hot: more. The cuts are the terciles of `n_train`
    (the smallest values that a third and two thirds of the users do not pass), so that no segment is small
    but by ties: where most users have the same number, a segment may be empty.
    """
    if not n_train.size:
        return np.empty(0, np.int8), (0, 0)
    low, high = (int(cut) for cut in np.quantile(n_train, [1 / 3, 2 / 3], method="inverted_cdf"))
    return ((n_train > low).astype(np.int8) + (n_train > high)).astype(np.int8), (low, high)


def popularity_bands(count: NDArray[np.int64]) -> NDArray[np.int8]:
    """Each item's band (position in `BANDS`, (n_items,)), by its number of training interactions.

    Items from the most to the least popular, ties by row: those that begin within the first third of all
    interactions are the head, within the second the mid, the rest the tail. Each band holds about a third of
    the interactions, and the tail most of the items.
    """
    order = np.argsort(-count, kind="stable")
    before = np.cumsum(count[order]) - count[order]
    bands = np.empty(count.size, np.int8)
    # In whole numbers: thirds of a float total would put an item at the border by rounding.
    bands[order] = np.minimum(3 * before // max(int(count.sum()), 1), 2)
    return bands
