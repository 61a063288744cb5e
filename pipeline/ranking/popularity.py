"""Exact lists where each item has one score for all users: one order of items, without each user's left-out items."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.data.id_map import distinct
from pipeline.ranking.topk_numpy import ListRequest, TopK, cells_of

__all__ = ["PopularityFinder"]

_USERS_A_BLOCK, _CELLS_A_BLOCK = 1 << 14, 1 << 18  # a cell takes some 60 bytes for a moment


class PopularityFinder:
    """Finds the first k items of one order of all items.

    Parameters
    ----------
    item_scores : (n_items,) finite; lists have them as float32
    """

    def __init__(self, item_scores: NDArray[np.float32] | NDArray[np.int64]) -> None:
        self._scores = item_scores.astype(np.float32)
        # By falling score, ties by item row: the stable sort of a reversed order, reversed.
        self._order = np.argsort(-item_scores, kind="stable").astype(np.int32)

    def find(self, request: ListRequest) -> TopK:
        """The k best items of each user row. It uses one thread."""
        top, hidden = request.padding(), request.hidden
        order = self._order if hidden is None else self._order[~hidden[self._order]]
        place = np.full(self._scores.size, -1, np.int64)
        place[order] = np.arange(order.size)
        for block in _blocks(request):
            part = request.part(block)
            cells = [cells_of(matrix) for matrix in part.left_out]
            places = _first_places(part.rows.size, request.k, order.size, place, cells)
            filled = places < order.size
            top.items[block][filled] = order[places[filled]]
            top.scores[block][filled] = self._scores[top.items[block][filled]]
        return top

    def prepare(self) -> None:
        """There is nothing to prepare."""


def _blocks(request: ListRequest) -> Iterator[slice]:
    """The lists in blocks of bounded memory; one user's cells are never parted."""
    cells = np.zeros(request.rows.size + 1, np.int64)
    for matrix in request.left_out:
        cells[1:] += matrix.indptr[matrix.rows + 1] - matrix.indptr[matrix.rows]
    np.cumsum(cells, out=cells)
    start = 0
    while start < request.rows.size:
        most = int(np.searchsorted(cells, cells[start] + _CELLS_A_BLOCK, side="right")) - 1
        stop = min(max(most, start + 1), start + _USERS_A_BLOCK, request.rows.size)
        yield slice(start, stop)
        start = stop


def _first_places(
    n: int, k: int, n_places: int, place: NDArray[np.int64], cells: list[tuple[NDArray[np.intp], NDArray[np.int32]]]
) -> NDArray[np.int64]:
    """The first k allowed places of each of n users, (n, k) ascending; past the end where fewer remain.

    For a user whose places s₀ < s₁ < … are not allowed, the j-th allowed place is j + #{i : sᵢ - i ≤ j}.
    """
    step = n_places + 1
    taken = [user[place[item] >= 0] * step + place[item][place[item] >= 0] for user, item in cells]
    keys = distinct(np.zeros(0, np.int64), *taken)
    user, taken_place = np.divmod(keys, step)
    ahead = taken_place - (np.arange(keys.size) - np.searchsorted(user, user))
    counts = np.bincount(user[ahead < k] * k + ahead[ahead < k], minlength=n * k).reshape(n, k)
    places: NDArray[np.int64] = np.arange(k) + np.cumsum(counts, axis=1)
    return places
