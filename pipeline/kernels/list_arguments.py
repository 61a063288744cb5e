"""The arguments of the kernels that make lists and measure them, as `pipeline.kernels.arguments` has the solvers'.

Does not import numba.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ItemBits", "ItemBlocks", "ItemFacts", "LeftOutSpans", "ListLengths", "Lists", "RelevantItems"]


# ---- topk -----------------------------------------------------------------------------------------


class ItemBlocks(NamedTuple):
    """Item factors in blocks of 64 items.

    packed : (n_blocks·k, 64) float32; row b·k + t holds component t of the items of block b, zeros past the last item
    tops, lows : (⌈n_blocks / 64⌉·k, 64) float32, the largest and the smallest components of each block, packed in the
        same way
    norms : (⌈n_blocks / 64⌉·64,) float32, no item of a block is longer; rounded up
    order : (n_items,) int32, the item at each place
    position : (n_items,) int32, the place of each item
    longest : the largest norm of a block's largest absolute components
    nonnegative : whether no component is negative
    """

    packed: NDArray[np.float32]
    tops: NDArray[np.float32]
    lows: NDArray[np.float32]
    norms: NDArray[np.float32]
    order: NDArray[np.int32]
    position: NDArray[np.int32]
    longest: float
    nonnegative: bool


class LeftOutSpans(NamedTuple):
    """Items that lists may not hold: for list i the item rows indices[starts[i] : ends[i]].

    starts, ends : (n,) int64, or (0,) where no list has any
    indices : int32, as read-only bytes
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    indices: NDArray[np.uint8]


class Lists(NamedTuple):
    """What is found.

    items : (n, most) int32 item rows, −1 past the end of a list
    scores : (n, most) float32, 0 there
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]


# ---- list_metrics ---------------------------------------------------------------------------------


class RelevantItems(NamedTuple):
    """What each of n users likes: user u the items relevant[start[u] : start[u + 1]], ascending.

    start : (n + 1,) int64; relevant : int32; n_relevant : (n,) int64, their numbers
    """

    start: NDArray[np.int64]
    relevant: NDArray[np.int32]
    n_relevant: NDArray[np.int64]


class ItemFacts(NamedTuple):
    """Of each item: its popularity band (int8), its surprise in bits and its number of users (float64)."""

    bands: NDArray[np.int8]
    surprise: NDArray[np.float64]
    popularity: NDArray[np.float64]


class ListLengths(NamedTuple):
    """The lengths k at which lists are measured.

    ks : (lengths,) int64, ascending
    discount, ideal : (max k,) float64, 1 / log₂(r + 1) of rank r, and its running sums
    """

    ks: NDArray[np.int64]
    discount: NDArray[np.float64]
    ideal: NDArray[np.float64]


class ItemBits(NamedTuple):
    """The users U_i of each item i.

    starts, members : U_i is members[starts[i] : starts[i + 1]], ascending
    root : (n_items,) float64, √|U_i|, at least 1
    line : (n_items,) int32, the item's row of `bits`, or −1; the items with the most users have one
    bits : (n_lines, words) uint64, one bit a user
    """

    starts: NDArray[np.int64]
    members: NDArray[np.int32]
    root: NDArray[np.float64]
    line: NDArray[np.int32]
    bits: NDArray[np.uint64]
