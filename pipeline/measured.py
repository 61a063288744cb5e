"""What each list is worth, user by user: by compiled kernels, or by the functions of `pipeline.metrics`, their twins.

The two agree to the last bits of a sum. Nothing is larger than a block of lists, but what is returned.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import metrics as m
from pipeline.crew import Crew
from pipeline.kernels import available, compiled
from pipeline.metrics.catalogue import Likeness
from pipeline.truth import Truth

__all__ = ["ACCURACY", "NAMES", "Given", "diversity", "measure", "tally", "worth_compiling"]

ACCURACY = {
    "precision": m.precision_at_k,
    "recall": m.recall_at_k,
    "hit_rate": m.hit_rate_at_k,
    "ndcg": m.ndcg_at_k,
    "map": m.average_precision_at_k,
    "mrr": m.reciprocal_rank_at_k,
}
# What `measure` finds of each length, row by row; `at` is set before the name of a band.
NAMES = (*(f"{name}_at_{{k}}" for name in (*ACCURACY, "novelty", "popularity")),
         *(f"recall_at_{{k}}_{band}" for band in m.BANDS))  # fmt: skip
# Places of lists that numpy is through with while kernels are loaded (and, once on a machine, compiled).
WORTH = 1 << 18
_PIECES = 16  # that the users of a call are dealt into
_BITS = 1 << 22  # bytes of who has the items that most have, for `kernels.lists.alike`: what a cache holds
_USERS_A_CHUNK = 1 << 17  # whose lists numpy compares item by item at once


class Given(NamedTuple):
    """What lists are held against.

    truth : of the judged users
    popularity : (n_items,) int64 numbers of training interactions; bands : (n_items,) int8 positions in `metrics.BANDS`
    n_users : of training
    ks : lengths, ascending
    """

    truth: Truth
    popularity: NDArray[np.int64]
    bands: NDArray[np.int8]
    n_users: int
    ks: tuple[int, ...]


def worth_compiling(places: int, wanted: bool | None) -> bool:
    """Whether kernels measure lists of so many places: as wanted, else where they are installed and it is a lot."""
    return available() and places >= WORTH if wanted is None else wanted


def measure(given: Given, block: slice, lists: NDArray[np.int32], crew: Crew | None) -> NDArray[np.float64]:
    """`NAMES` at each of `ks`, (len(ks)·len(NAMES), users); NaN where a user has no such value.

    Parameters
    ----------
    block : which judged users
    lists : (users, max k) item rows, C-contiguous, −1 past the end of a list
    crew : whose threads run the kernels; None for numpy
    """
    if crew is None:
        return _in_numpy(given, block, lists)
    truth, ks = given.truth, np.array(given.ks)
    table = np.empty((ks.size * len(NAMES), lists.shape[0]))
    discount = 1.0 / np.log2(np.arange(2, ks[-1] + 2))
    n_relevant, start = truth.n_relevant[block], truth.start[block.start : block.stop + 1]
    surprise, count = m.surprise(given.popularity, given.n_users), given.popularity.astype(np.float64)
    kernel = compiled("lists")
    size = -(-lists.shape[0] // _PIECES)

    def piece(i: int) -> None:
        kernel.accuracy(
            i * size, min((i + 1) * size, lists.shape[0]), lists, start, truth.relevant, n_relevant, given.bands,
            surprise, count, ks, discount, np.cumsum(discount), table,
        )  # fmt: skip

    crew.run(piece, -(-lists.shape[0] // size))
    return table


def _in_numpy(given: Given, block: slice, lists: NDArray[np.int32]) -> NDArray[np.float64]:
    truth, n_items = given.truth, given.popularity.size
    users = np.arange(block.start, block.stop)
    hits, n_relevant = truth.hits(users, lists, n_items), truth.n_relevant[block]
    band_of_hit = np.where(hits, given.bands[lists], -1)
    start = truth.start[block.start : block.stop + 1]
    relevant = truth.relevant[start[0] : start[-1]]
    of = np.repeat(np.arange(users.size), np.diff(start))
    rows: list[NDArray[np.float64]] = []
    for k in given.ks:
        rows += [metric(hits[:, :k], n_relevant) for metric in ACCURACY.values()]
        rows += [
            m.novelty(lists[:, :k], given.popularity, given.n_users),
            m.mean_popularity(lists[:, :k], given.popularity),
        ]
        for band in range(len(m.BANDS)):
            in_band = np.bincount(of[given.bands[relevant] == band], minlength=users.size)
            rows.append(m.recall_at_k(band_of_hit[:, :k] == band, in_band))
    return np.array(rows)


def diversity(
    lists: NDArray[np.int32], likeness: Likeness, ks: tuple[int, ...], crew: Crew | None
) -> NDArray[np.float64]:
    """`metrics.intra_list_diversity` of all lists (n, max k), (len(ks), n)."""
    n = lists.shape[0]
    found = np.empty((len(ks), n))
    if crew is None:
        for first in range(0, n, _USERS_A_CHUNK):
            chunk = slice(first, first + _USERS_A_CHUNK)
            found[:, chunk] = m.intra_list_diversity(lists[chunk], likeness, ks)
        return found
    kernel = compiled("lists")
    line, bits = _lines(lists, likeness)
    kernel.mark(likeness.starts, likeness.members, line, bits)
    size = max(1, -(-n // _PIECES))

    def piece(i: int) -> None:
        kernel.alike(
            i * size, min((i + 1) * size, n), lists, likeness.starts, likeness.members, likeness.root, line, bits,
            np.array(ks), found,
        )  # fmt: skip

    crew.run(piece, -(-n // size))
    return found


def tally(
    users: NDArray[np.int32], items: NDArray[np.int32], n_users: int, value: NDArray[np.float64], crew: Crew | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many pairs (users[c], items[c]) each user has, and the sum of their items' values, (n_users,) both."""
    n, total = np.zeros(n_users, np.int64), np.zeros(n_users)
    if crew is None:
        n += np.bincount(users, minlength=n_users)
        total += np.bincount(users, value[items], minlength=n_users)
    else:
        compiled("lists").tally(users, items, value, n, total)
    return n, total


def _lines(lists: NDArray[np.int32], likeness: Likeness) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
    """A line of bits for each listed item, those with the most members first, and which is whose, (n_items,)."""
    members = np.diff(likeness.starts)
    words = max(1, -(-likeness.n_users // 64))
    listed = np.flatnonzero(np.bincount(lists[lists >= 0], minlength=members.size))
    most = listed[np.argsort(-members[listed], kind="stable")][: max(1, _BITS // (8 * words))]
    line = np.full(members.size, -1, np.int32)
    line[most] = np.arange(most.size)
    return line, np.zeros((max(1, most.size), words), np.uint64)
