"""At most n items of one genre, or of one series, in a list. What is said of genres here holds for series.

The list is defined by the user's ranking of all items that it may hold: walk it from the best item down, skip an item
if one of its genres has n items in the list already, and stop at k items. An item without genres is never skipped.

The walk may pass the k-th item by far. So a list that isn't full yet is asked for again, without the items that are in
it and those of full genres: the next ones are then those that the walk would come to. Lists are exact, and the same by
every finder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.errors import UsageError
from pipeline.ranking.genres import GenreSource, ItemGenres
from pipeline.ranking.topk_numpy import LeftOut, ListRequest, TopK, cells_of

__all__ = ["SERIES", "Find", "GenreLimit", "find_limited"]

Find = Callable[[ListRequest], TopK]

_DEPTH = 4  # times k: items that are asked for at once
_CELLS = 2**22  # of a block's lists, and of what is left out of them


# How the groups of a limit that are series are called, beside genres.
SERIES = "series: "


@dataclass(frozen=True, eq=False)
class GenreLimit:
    """A list holds at most so many items of each group: of each genre, of each series, or both.

    Attributes
    ----------
    groups : of each item; the names of series begin with `SERIES`
    most : (n_groups,) int32
    max_per_genre, max_per_series : None for any number

    Raises UsageError for a number under 1.
    """

    groups: ItemGenres
    most: NDArray[np.int32]
    max_per_genre: int | None = None
    max_per_series: int | None = None

    @classmethod
    def of(cls, max_per_genre: int | None, max_per_series: int | None, source: GenreSource) -> GenreLimit | None:
        """None where both are None. Raises UsageError; InputError where the items have no genres, or no series."""
        for name, most in (("max_per_genre", max_per_genre), ("max_per_series", max_per_series)):
            if most is not None and most < 1:
                raise UsageError(f"{name} must be at least 1, got {most}")
        genres = None if max_per_genre is None else source.genres
        series = None if max_per_series is None else source.series
        if series is None:
            if genres is None or max_per_genre is None:
                return None
            return cls(genres, np.full(len(genres.names), max_per_genre, np.int32), max_per_genre)
        named = replace(series, names=tuple(f"{SERIES}{name}" for name in series.names))
        of_each = np.full(len(named.names), max_per_series, np.int32)
        if genres is not None:
            of_each = np.append(np.full(len(genres.names), max_per_genre, np.int32), of_each)
            named = genres.beside(named)
        return cls(named, of_each, max_per_genre, max_per_series)

    @property
    def sentence(self) -> str:
        """For the history of publications."""
        limits = (("genre", self.max_per_genre), ("series", self.max_per_series))
        return "at most " + " and ".join(f"{most} of a {name}" for name, most in limits if most is not None)

    def counts(self, items: NDArray[np.int32]) -> NDArray[np.int32]:
        """(n, n_genres) how many of each row's items, (n, k) with -1 where padded, have each genre."""
        counts = np.zeros((items.shape[0], len(self.groups.names)), np.int32)
        row, rank = np.nonzero(items >= 0)
        of, genre = self.groups.of_items(items[row, rank])
        np.add.at(counts, (row[of], genre), 1)
        return counts

    def blocked(self, items: NDArray[np.int32], counts: NDArray[np.int32]) -> NDArray[np.bool_]:
        """(n,) whether a genre of items[i] is full by the counts[i] of its list."""
        of, genre = self.groups.of_items(items)
        full = np.zeros(items.size, np.bool_)
        full[of[counts[of, genre] >= self.most[genre]]] = True
        return full


def find_limited(find: Find, request: ListRequest, limit: GenreLimit) -> TopK:
    """The lists of the request under the limit; `find` gives the lists without it."""
    lists, n_items = request.padding(), limit.groups.indptr.size - 1
    depth = min(_DEPTH * request.k, max(n_items, 1))
    size = max(1, _CELLS // max(depth, n_items, limit.most.size))
    waiting: NDArray[np.intp] = np.arange(request.rows.size)
    first = True
    while waiting.size:
        left = []
        # At first nothing is left out on account of the limit, and blocks may be larger.
        step = max(1, _CELLS // max(depth, limit.most.size)) if first else size
        for start in range(0, waiting.size, step):
            block = waiting[start : start + step]
            part = TopK(lists.items[block], lists.scores[block])
            asked = request.part(block)._replace(k=depth)
            if not first:
                asked = asked._replace(left_out=[_left_out(asked, part.items, limit)])
            ranked = find(asked)
            _walk(ranked, part, limit)
            lists.items[block], lists.scores[block] = part
            left.append(block[(part.items[:, -1] < 0) & (ranked.items[:, -1] >= 0)])
        waiting, first = np.concatenate(left), False
    return lists


def _walk(ranked: TopK, lists: TopK, limit: GenreLimit) -> None:
    """Append to each list the first ranked items that the limit lets in, until it is full."""
    counts = limit.counts(lists.items)
    taken = np.count_nonzero(lists.items >= 0, axis=1)
    k = lists.items.shape[1]
    for rank in range(ranked.items.shape[1]):
        rows = np.flatnonzero((taken < k) & (ranked.items[:, rank] >= 0))
        if not rows.size:
            break
        rows = rows[~limit.blocked(ranked.items[rows, rank], counts[rows])]
        items = ranked.items[rows, rank]
        lists.items[rows, taken[rows]] = items
        lists.scores[rows, taken[rows]] = ranked.scores[rows, rank]
        taken[rows] += 1
        of, genre = limit.groups.of_items(items)
        counts[rows[of], genre] += 1  # an item has a genre once, so each cell is there once


def _left_out(request: ListRequest, items: NDArray[np.int32], limit: GenreLimit) -> LeftOut:
    """What the request leaves out, the items that are in the lists (n, k), and those of genres that are full there."""
    genres, n_items = limit.groups, limit.groups.indptr.size - 1
    row, rank = np.nonzero(items >= 0)
    cells = [(row, items[row, rank]), *map(cells_of, request.left_out)]
    full, of = np.unique(limit.counts(items) >= limit.most, axis=0, return_inverse=True)
    item_of = np.repeat(np.arange(n_items, dtype=np.int32), np.diff(genres.indptr))
    closed = []
    for is_full in full:
        has_full = np.zeros(n_items, np.bool_)
        has_full[item_of[is_full[genres.indices]]] = True
        closed.append(np.flatnonzero(has_full))
    columns = [closed[i] for i in of.ravel().tolist()]
    cells.append((np.repeat(np.arange(len(columns)), [each.size for each in columns]), np.concatenate(columns)))
    row, item = (np.concatenate(values) for values in zip(*cells, strict=True))
    # Sorted by row by counting, which is many times faster than a sort.
    found = sparse.csr_matrix((np.ones(row.size, np.int8), (row, item)), shape=(items.shape[0], n_items))
    return LeftOut(found.indptr, found.indices, np.arange(items.shape[0]))
