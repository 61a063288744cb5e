"""`Repeats`: of interactions whose duplicates became means, what the next interaction with such an item needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.interactions import Interactions
from pipeline.data.mapped import parts

__all__ = ["Repeats", "repeats_in"]


@dataclass(frozen=True, eq=False)
class Repeats:
    """The pairs of a user and an item that occurred several times; the others count as one, and are not listed.

    Attributes
    ----------
    cells : (m,) int64, ascending: their places among all pairs in order, which are the stored cells of the matrix
    counts : (m,) int32, 2 or more: how often each occurred
    sums : (m,) float64: of their scores, before any transform; the mean is rounded, and can't be continued exactly
    n_cells : pairs in all
    """

    cells: NDArray[np.int64]
    counts: NDArray[np.int32]
    sums: NDArray[np.float64]
    n_cells: int

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Repeats)
            and self.n_cells == other.n_cells
            and np.array_equal(self.cells, other.cells)
            and np.array_equal(self.counts, other.counts)
            and np.array_equal(self.sums, other.sums)
        )

    __hash__ = None  # type: ignore[assignment]  # its arrays can change

    def of(self, cell: int) -> tuple[float, int] | None:
        """Sum and count of the cell in that place; None for one that occurred once."""
        place = int(np.searchsorted(self.cells, cell))
        if place == self.cells.size or self.cells[place] != cell:
            return None
        return float(self.sums[place]), int(self.counts[place])

    def kept(self, mask: NDArray[np.bool_]) -> Repeats | None:
        """Those of the pairs that are kept, (n_cells,); None if none of them is."""
        some = mask[self.cells]
        if not some.any():
            return None
        places = np.cumsum(mask) - 1
        return Repeats(places[self.cells[some]], self.counts[some], self.sums[some], int(np.count_nonzero(mask)))


def repeats_in(x: Interactions) -> Repeats | None:
    """The repeats of interactions that are sorted by user and item; None where there are none."""
    again = np.zeros(len(x) + 1, bool)  # whether a row repeats the pair before it; the last is of no row
    for rows in parts(len(x) - 1):
        after = slice(rows.start + 1, rows.stop + 1)
        before = slice(rows.start, rows.stop)
        again[after] = (x.users[after] == x.users[before]) & (x.items[after] == x.items[before])
    first = np.flatnonzero(~again[:-1] & again[1:])
    if not first.size:
        return None
    counts = np.flatnonzero(again[:-1] & ~again[1:]) - first + 1
    starts = np.cumsum(counts) - counts
    rows_of = np.arange(int(counts.sum())) + np.repeat(first - starts, counts)
    sums = np.add.reduceat(x.scores[rows_of].astype(np.float64), starts)
    extra = counts - 1
    n_cells = len(x) - int(extra.sum())
    return Repeats(first - (np.cumsum(extra) - extra), counts.astype(np.int32), sums, n_cells)
