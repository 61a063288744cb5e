"""What is recommended against what is popular: in how many lists each item is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.mapped import counts_of
from pipeline.ranking.protocols import Ranker

__all__ = ["PopularityConcentration", "popularity_concentration"]

_USERS = 5000  # lists that tell how often an item is recommended
_STEPS = 20_000_000_000  # users × items × factors that may be multiplied for it: a second or two


@dataclass(frozen=True, eq=False)
class PopularityConcentration:
    """Attributes
    ----------
    popularity : (n_items,) int64, interactions in training
    times : (n_items,) int64, lists that the item is in
    n_lists : how many lists there are
    n_users : how many users the model knows
    k : a list's length, at most
    """

    popularity: NDArray[np.int64]
    times: NDArray[np.int64]
    n_lists: int
    n_users: int
    k: int

    def by_popularity(self) -> NDArray[np.intp]:
        """Item rows, the most popular first, ties by row."""
        return np.argsort(-self.popularity, kind="stable")

    def cumulative(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Shares of all interactions and of all recommendations that the 1, 2, … n most popular items have."""
        order = self.by_popularity()
        return _running_share(self.popularity[order]), _running_share(self.times[order])

    def head(self, share: float = 0.01) -> tuple[int, float, float]:
        """How many items this share of the catalogue is (at least 1), and their two shares as in `cumulative`."""
        if not self.popularity.size:
            return 0, 0.0, 0.0
        n = max(1, round(share * self.popularity.size))
        consumed, recommended = self.cumulative()
        return n, float(consumed[n - 1]), float(recommended[n - 1])

    def most_recommended(self, n: int) -> list[tuple[int, float, int]]:
        """(item row, share of the lists it is in, its place by popularity from 1), most recommended first."""
        place = np.empty(self.times.size, np.int64)
        place[self.by_popularity()] = np.arange(1, self.times.size + 1)
        rows = np.argsort(-self.times, kind="stable")[:n]
        return [(int(row), float(self.times[row] / self.n_lists), int(place[row])) for row in rows if self.times[row]]


def popularity_concentration(ranker: Ranker, n_factors: int, k: int = 10) -> PopularityConcentration:
    """The lists of all users, or of evenly spaced ones where there are many, without what each has seen."""
    n_users, n_items = len(ranker.users), len(ranker.items)
    most = min(_USERS, max(200, _STEPS // max(n_items * n_factors, 1)))
    rows = np.unique(np.linspace(0, n_users - 1, min(n_users, most)).astype(np.intp))
    times = np.zeros(n_items, np.int64)
    if rows.size:
        listed = ranker.recommend_rows(rows, k).items
        times += np.bincount(listed[listed >= 0], minlength=n_items)
    popularity = counts_of(ranker.model.seen.indices, n_items)
    return PopularityConcentration(popularity, times, int(rows.size), n_users, k)


def _running_share(values: NDArray[np.int64]) -> NDArray[np.float64]:
    running = np.cumsum(values, dtype=np.float64)
    return running / running[-1] if running.size and running[-1] > 0 else np.zeros(values.size)
