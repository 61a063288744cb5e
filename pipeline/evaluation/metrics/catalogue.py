"""What lists are made of, right or wrong: how much of the catalogue, how popular, how alike.

lists : (n_users, k) int item rows, -1 where a list is shorter than k
count : (n_items,) numbers of training interactions
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = [
    "ItemSimilarity",
    "cosine_of_users",
    "coverage",
    "gini",
    "intra_list_diversity",
    "mean_popularity",
    "novelty",
    "popularity_lift",
    "surprise",
]

Lists = NDArray[Any]

_CELLS = 1 << 23  # cells of a block of cosines: 64 MB
_PAIRS = 1 << 22  # pairs looked up at once


def coverage(times: NDArray[np.int64]) -> float:
    """Share of the catalogue that is in at least one list; `times` (n_items,): in how many lists each item is.

    NaN for an empty catalogue.
    """
    return float(np.count_nonzero(times) / times.size) if times.size else float("nan")


def gini(times: NDArray[np.int64]) -> float:
    """Inequality of the catalogue's exposure, 0 (all items as often) to 1 − 1/n (one item alone).

    G = Σ_j (2j − n − 1)·x_j / (n·Σx), with x ascending, j = 1…n: items in no list count as 0. NaN where
    nothing was recommended.
    """
    n, total = times.size, int(times.sum())
    if not total:
        return float("nan")
    some = np.sort(times[times > 0])  # what is 0 comes first and adds nothing
    weight = 2 * np.arange(n - some.size + 1, n + 1, dtype=np.float64) - n - 1
    return float((weight * some).sum() / (n * total))


def _list_means(lists: Lists, value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of an item's value over each list, (n_users,); NaN for an empty one."""
    listed = lists >= 0
    n = listed.sum(axis=1)
    total = np.where(listed, value[lists], 0.0).sum(axis=1)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def novelty(lists: Lists, count: NDArray[np.int64], n_users: int) -> NDArray[np.float64]:
    """Mean self-information −log₂(count_i / n_users) of each list in bits, (n_users,) (Zhou et al. 2010).

    0: everybody has the items already. `n_users` are those of training; an item that nobody has counts as
    one that one user has. NaN for an empty list.
    """
    return _list_means(lists, surprise(count, n_users))


def surprise(count: NDArray[np.int64], n_users: int) -> NDArray[np.float64]:
    """−log₂(count_i / n_users) in bits, (n_items,): what novelty is the mean of."""
    return -np.log2(np.maximum(count, 1) / max(n_users, 1))


def mean_popularity(lists: Lists, count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean number of training interactions of each list's items, (n_users,). NaN for an empty list."""
    return _list_means(lists, count.astype(np.float64))


def popularity_lift(listed: NDArray[np.float64], consumed: NDArray[np.float64]) -> float:
    """How much more popular what is recommended is than what the same users chose themselves.

    mean(listed) / mean(consumed), each the users' mean popularities (group average popularity, Abdollahpouri
    et al. 2019; theirs is this minus 1). 1: as popular. Over the users who have both; NaN where there are none.
    """
    both = ~(np.isnan(listed) | np.isnan(consumed))
    below = float(consumed[both].sum())
    return float(listed[both].sum()) / below if below > 0 else float("nan")


@dataclass(frozen=True, eq=False)
class ItemSimilarity:
    """Cosine of two items by who has them: |U_i ∩ U_j| / √(|U_i|·|U_j|); 0 where an item has nobody.

    Attributes
    ----------
    starts, members : (n_items + 1,) int64 and int32: item i is had by the ascending users
        members[starts[i] : starts[i + 1]], each in [0, n_users)
    n_users : how many users were looked at
    """

    starts: NDArray[np.int64]
    members: NDArray[np.int32]
    n_users: int

    @cached_property
    def root(self) -> NDArray[np.float64]:
        """(n_items,) √|U_i|, and 1 where there is nobody."""
        return np.sqrt(np.maximum(np.diff(self.starts), 1).astype(np.float64))

    @cached_property
    def _by_item(self) -> sparse.csr_matrix:
        ones = np.ones(self.members.size, np.float32)
        return sparse.csr_matrix((ones, self.members, self.starts), shape=(self.starts.size - 1, self.n_users))

    def __call__(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.float64]:
        """Of each of `rows` and each of `cols`, dense."""
        common = np.asarray((self._by_item[rows] @ self._by_item[cols].T).toarray(), np.float64)
        common /= self.root[rows][:, None]
        common /= self.root[cols]
        return common


def cosine_of_users(seen: sparse.csr_matrix, max_users: int = 10_000, seed: int = 42) -> ItemSimilarity:
    """How alike items are by who has them.

    `seen` is csr (n_users, n_items), the pattern alone counts. With more than `max_users` users it is taken
    over a sample of them by `seed`, else its cost grows with the sum of squared histories.
    """
    if seen.shape[0] > max_users:
        rows = np.sort(np.random.default_rng(seed).choice(seen.shape[0], max_users, replace=False))
        # The rows' items alone: scipy's indexing reads the scores as well, which may lie on disk.
        of_rows = [seen.indices[seen.indptr[row] : seen.indptr[row + 1]] for row in rows]
        indptr = np.append(0, np.cumsum(np.diff(seen.indptr)[rows], dtype=np.int64))
        indices, shape = np.concatenate(of_rows), (max_users, seen.shape[1])
    else:
        indptr, indices, shape = seen.indptr, seen.indices, seen.shape
    by_item = sparse.csr_matrix((np.ones(indices.size, np.float32), indices, indptr), shape=shape).tocsc()
    return ItemSimilarity(by_item.indptr.astype(np.int64), by_item.indices.astype(np.int32), shape[0])


def intra_list_diversity(lists: Lists, cosine: ItemSimilarity, ks: Sequence[int]) -> list[NDArray[np.float64]]:
    """1 − mean cosine of all pairs of different items in each list's first k, (n_users,) for each of `ks`.

    (Ziegler et al. 2005.) NaN for a list of fewer than two items. In blocks of distinct items: no array is
    larger than a block of cosines.
    """
    n_users, width = lists.shape
    distinct, place = np.unique(lists, return_inverse=True)
    place = place.reshape(lists.shape)
    if distinct.size and distinct[0] < 0:
        distinct, place = distinct[1:], place - 1
    total = [np.zeros(n_users) for _ in ks]
    step = max(1, _CELLS // max(distinct.size, 1))
    by_item = np.argsort(place, axis=None, kind="stable")
    start = np.searchsorted(place.ravel()[by_item], np.arange(distinct.size + 1))
    chunk = max(1, _PAIRS // max(width, 1))
    for first in range(0, distinct.size, step):
        last = min(first + step, distinct.size)
        block = cosine(distinct[first:last].astype(np.intp), distinct.astype(np.intp))
        block[np.arange(last - first), np.arange(first, last)] = 0.0  # no item is paired with itself
        entries = by_item[start[first] : start[last]]
        for at in range(0, entries.size, chunk):
            user, rank = np.divmod(entries[at : at + chunk], width)
            others = place[user]
            cosines = block[(place[user, rank] - first)[:, None], others]
            cosines[others < 0] = 0.0
            for k, sums in zip(ks, total, strict=True):
                inside = rank < k
                sums += np.bincount(user[inside], cosines[inside, :k].sum(axis=1, dtype=np.float64), minlength=n_users)
    by_length = []
    for k, sums in zip(ks, total, strict=True):
        n = (lists[:, :k] >= 0).sum(axis=1)
        pairs = n * (n - 1)
        by_length.append(np.where(pairs > 0, 1.0 - sums / np.maximum(pairs, 1), np.nan))
    return by_length
