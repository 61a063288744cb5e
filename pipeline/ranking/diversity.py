"""At most n items of one genre in a list.

The list is defined by the user's ranking of all items that it may hold: walk it from the best item down, skip an item
if one of its genres has n items in the list already, and stop at k items. An item without genres is never skipped.

The walk may pass the k-th item, so the finder is asked for longer and longer lists. They are exact and the same by
every finder, and so is what the walk leaves of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.ranking.genres import ItemGenres
from pipeline.ranking.topk_numpy import ListRequest, TopK

__all__ = ["Find", "GenreLimit", "find_limited"]

Find = Callable[[ListRequest], TopK]

_FACTOR = 4  # of the depth, from one try to the next
_CELLS = 2**22  # of a block's lists, and of what is counted beside them


@dataclass(frozen=True, eq=False)
class GenreLimit:
    """A list holds at most `most` items of each genre. Raises UsageError if that is not at least 1."""

    most: int
    genres: ItemGenres

    def __post_init__(self) -> None:
        if self.most < 1:
            raise UsageError(f"max_per_genre must be at least 1, got {self.most}")

    def counts(self, items: NDArray[np.int32]) -> NDArray[np.int32]:
        """(n, n_genres) how many of each row's items, (n, k) with -1 where padded, have each genre."""
        counts = np.zeros((items.shape[0], len(self.genres.names)), np.int32)
        row, rank = np.nonzero(items >= 0)
        of, genre = self.genres.of_items(items[row, rank])
        np.add.at(counts, (row[of], genre), 1)
        return counts

    def blocked(self, items: NDArray[np.int32], counts: NDArray[np.int32]) -> NDArray[np.bool_]:
        """(n,) whether a genre of items[i] is full by the counts[i] of its list."""
        of, genre = self.genres.of_items(items)
        full = np.zeros(items.size, np.bool_)
        full[of[counts[of, genre] >= self.most]] = True
        return full


def find_limited(find: Find, request: ListRequest, limit: GenreLimit) -> TopK:
    """The lists of the request under the limit; `find` gives the lists without it."""
    lists = request.padding()
    n_items = limit.genres.indptr.size - 1
    waiting: NDArray[np.intp] = np.arange(request.rows.size)
    depth = request.k
    while waiting.size:
        depth = min(_FACTOR * depth, max(n_items, 1))
        size = max(1, _CELLS // max(depth, len(limit.genres.names)))
        left = []
        for start in range(0, waiting.size, size):
            block = waiting[start : start + size]
            ranked = find(request.part(block)._replace(k=depth))
            taken, counts = _walk(ranked, request.k, limit)
            lists.items[block], lists.scores[block] = taken
            going_on = (taken.items[:, -1] < 0) & (ranked.items[:, -1] >= 0)
            if depth < n_items and going_on.any():
                going_on[going_on] = _may_grow(counts[going_on], request.hidden, limit)
                left.append(block[going_on])
        waiting = np.concatenate(left) if left else waiting[:0]
    return lists


def _walk(ranked: TopK, k: int, limit: GenreLimit) -> tuple[TopK, NDArray[np.int32]]:
    """The first k items of each ranked list that the limit lets in, and (n, n_genres) how many have each genre."""
    n, depth = ranked.items.shape
    lists = TopK(np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32))
    counts = np.zeros((n, len(limit.genres.names)), np.int32)
    taken = np.zeros(n, np.intp)
    for rank in range(depth):
        rows = np.flatnonzero((taken < k) & (ranked.items[:, rank] >= 0))
        if not rows.size:
            break
        rows = rows[~limit.blocked(ranked.items[rows, rank], counts[rows])]
        items = ranked.items[rows, rank]
        lists.items[rows, taken[rows]] = items
        lists.scores[rows, taken[rows]] = ranked.scores[rows, rank]
        taken[rows] += 1
        of, genre = limit.genres.of_items(items)
        counts[rows[of], genre] += 1  # an item has a genre once, so each cell is there once
    return lists, counts


def _may_grow(counts: NDArray[np.int32], hidden: NDArray[np.bool_] | None, limit: GenreLimit) -> NDArray[np.bool_]:
    """(n,) whether there is any item that is not hidden and has no full genre."""
    full, of = np.unique(counts >= limit.most, axis=0, return_inverse=True)
    genres = limit.genres
    item = np.repeat(np.arange(genres.indptr.size - 1), np.diff(genres.indptr))
    grow = np.zeros(full.shape[0], np.bool_)
    for i, of_list in enumerate(full):
        closed = np.zeros(genres.indptr.size - 1, np.bool_) if hidden is None else hidden.copy()
        closed[item[of_list[genres.indices]]] = True
        grow[i] = not closed.all()
    return grow[of.ravel()]
