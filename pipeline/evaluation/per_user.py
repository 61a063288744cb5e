"""Metrics of each list, user by user, by compiled kernels or by the numpy functions in `evaluation.metrics`.

The two agree up to the rounding of sums. Temporary arrays are at most as large as a block of lists.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.mapped import counts_of, parts, release, sums_of
from pipeline.evaluation import metrics as m
from pipeline.evaluation.metrics.catalogue import ItemSimilarity
from pipeline.evaluation.relevance import Relevance
from pipeline.kernels import available, compiled
from pipeline.kernels.list_arguments import ItemBits, ItemFacts, ListLengths, RelevantItems
from pipeline.runtime.threads import ThreadPool

__all__ = ["ACCURACY", "NAMES", "Given", "diversity", "measure", "tally", "worth_compiling"]

ACCURACY = {
    "precision": m.precision_at_k,
    "recall": m.recall_at_k,
    "hit_rate": m.hit_rate_at_k,
    "ndcg": m.ndcg_at_k,
    "map": m.average_precision_at_k,
    "mrr": m.reciprocal_rank_at_k,
}
# Names of the rows that `measure` returns for each length; `at_k` stands before the name of a band.
NAMES = (*(f"{name}_at_{{k}}" for name in (*ACCURACY, "novelty", "popularity")),
         *(f"recall_at_{{k}}_{band}" for band in m.BANDS))  # fmt: skip
# From this many list places on, the kernels are faster than numpy although they are loaded (and once compiled) first.
WORTH = 1 << 18
_PIECES = 16  # pieces of work that the users of a call are divided into
_BITS = 1 << 22  # bytes of the bits of the items with most users, for the kernel `alike`: they fit the cache
_USERS_A_CHUNK = 1 << 17  # users whose lists numpy compares item by item at once


class Given(NamedTuple):
    """What lists are compared with.

    relevance : relevant items of the evaluated users
    popularity : (n_items,) int64 numbers of training interactions; bands : (n_items,) int8 positions in `metrics.BANDS`
    n_users : number of training users
    ks : lengths, ascending
    """

    relevance: Relevance
    popularity: NDArray[np.int64]
    bands: NDArray[np.int8]
    n_users: int
    ks: tuple[int, ...]


def worth_compiling(places: int, wanted: bool | None) -> bool:
    """Whether kernels measure lists of so many places: as `wanted`, else where numba is installed and it pays off."""
    return available() and places >= WORTH if wanted is None else wanted


def measure(given: Given, block: slice, lists: NDArray[np.int32], threads: ThreadPool | None) -> NDArray[np.float64]:
    """`NAMES` at each of `ks`, (len(ks)·len(NAMES), users); NaN where a user has no such value.

    Parameters
    ----------
    block : positions of the evaluated users
    lists : (users, max k) item rows, C-contiguous, −1 past the end of a list
    threads : run the kernels; None for numpy
    """
    if threads is None:
        return _in_numpy(given, block, lists)
    relevance, ks = given.relevance, np.array(given.ks)
    table = np.empty((ks.size * len(NAMES), lists.shape[0]))
    discount = 1.0 / np.log2(np.arange(2, ks[-1] + 2))
    relevant = RelevantItems(
        relevance.start[block.start : block.stop + 1], relevance.relevant, relevance.n_relevant[block]
    )
    surprise, count = m.surprise(given.popularity, given.n_users), given.popularity.astype(np.float64)
    facts, lengths = ItemFacts(given.bands, surprise, count), ListLengths(ks, discount, np.cumsum(discount))
    kernel = compiled("list_metrics")
    size = -(-lists.shape[0] // _PIECES)

    def piece(i: int) -> None:
        kernel.accuracy(i * size, min((i + 1) * size, lists.shape[0]), lists, relevant, facts, lengths, table)

    threads.run(piece, -(-lists.shape[0] // size))
    return table


def _in_numpy(given: Given, block: slice, lists: NDArray[np.int32]) -> NDArray[np.float64]:
    relevance, n_items = given.relevance, given.popularity.size
    users = np.arange(block.start, block.stop)
    hits, n_relevant = relevance.hits(users, lists, n_items), relevance.n_relevant[block]
    band_of_hit = np.where(hits, given.bands[lists], -1)
    start = relevance.start[block.start : block.stop + 1]
    relevant = relevance.relevant[start[0] : start[-1]]
    user_of = np.repeat(np.arange(users.size), np.diff(start))
    rows: list[NDArray[np.float64]] = []
    for k in given.ks:
        rows += [metric(hits[:, :k], n_relevant) for metric in ACCURACY.values()]
        rows += [
            m.novelty(lists[:, :k], given.popularity, given.n_users),
            m.mean_popularity(lists[:, :k], given.popularity),
        ]
        for band in range(len(m.BANDS)):
            in_band = np.bincount(user_of[given.bands[relevant] == band], minlength=users.size)
            rows.append(m.recall_at_k(band_of_hit[:, :k] == band, in_band))
    return np.array(rows)


def diversity(
    lists: NDArray[np.int32], likeness: ItemSimilarity, ks: tuple[int, ...], threads: ThreadPool | None
) -> NDArray[np.float64]:
    """`metrics.intra_list_diversity` of all lists (n, max k), (len(ks), n)."""
    n = lists.shape[0]
    values = np.empty((len(ks), n))
    if threads is None:
        for first in range(0, n, _USERS_A_CHUNK):
            chunk = slice(first, first + _USERS_A_CHUNK)
            values[:, chunk] = m.intra_list_diversity(lists[chunk], likeness, ks)
        return values
    kernel = compiled("list_metrics")
    line, bits = _lines(lists, likeness)
    kernel.mark(likeness.starts, likeness.members, line, bits)
    users_of_items = ItemBits(likeness.starts, likeness.members, likeness.root, line, bits)
    size = max(1, -(-n // _PIECES))

    def piece(i: int) -> None:
        kernel.alike(i * size, min((i + 1) * size, n), lists, users_of_items, np.array(ks), values)

    threads.run(piece, -(-n // size))
    return values


def tally(
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    n_users: int,
    value: NDArray[np.float64],
    threads: ThreadPool | None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many pairs (users[c], items[c]) each user has, and the sum of their items' values, (n_users,) both."""
    if threads is None:
        return counts_of(users, n_users), sums_of(users, lambda part: value[items[part]], n_users)
    n, total = np.zeros(n_users, np.int64), np.zeros(n_users)
    for part in parts(users.size):
        compiled("list_metrics").tally(users[part], items[part], value, n, total)
        release(users, items)
    return n, total


def _lines(lists: NDArray[np.int32], likeness: ItemSimilarity) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
    """The row of bits of each item, (n_items,), -1 for none, and zeroed bits for the listed items with most users."""
    members = np.diff(likeness.starts)
    words = max(1, -(-likeness.n_users // 64))
    listed = np.flatnonzero(np.bincount(lists[lists >= 0], minlength=members.size))
    most = listed[np.argsort(-members[listed], kind="stable")][: max(1, _BITS // (8 * words))]
    line = np.full(members.size, -1, np.int32)
    line[most] = np.arange(most.size)
    return line, np.zeros((max(1, most.size), words), np.uint64)
